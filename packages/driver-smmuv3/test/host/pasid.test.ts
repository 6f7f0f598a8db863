/** PASIDs: context descriptors, the stream table entry around them, who excludes whom. */
import { decode } from '@iommukit/bits';
import type { EndpointOptions } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import { CD, L1CD, type SmmuOptions, STE } from '../../src/index.ts';
import {
  aimed,
  attach,
  type Bench,
  bench,
  HWPT,
  PASID_DEVICE,
  paging,
  reach,
  refusalOf,
  steAddress,
  unmap,
  wordsAt,
} from './fixture.ts';

const IOVA = 0x1234;
const { PASID, NEST_PARENT } = HWPT;

const withPasids = (options: SmmuOptions = {}, device: EndpointOptions = PASID_DEVICE) =>
  bench(options, [device, { rid: '00:06.0', pasidBits: 20 }]);

const ste = (at: Bench) => decode(STE, wordsAt(at, steAddress(at)));

const SHAPES = [
  ['two levels, 20 bits', {}, 20, 2, [1, 2, 1023, 1024, 0xf_ffff]],
  ['linear, the device has 8 bits', {}, 8, 0, [1, 2, 255]],
  ['linear, 10 bits', { capabilities: { idr1: { SSIDSIZE: 10 } } }, 10, 0, [1, 1023]],
  ['two levels, 11 bits', { capabilities: { idr1: { SSIDSIZE: 11 } } }, 11, 2, [1, 1024, 2047]],
  ['linear, no CD2L', { capabilities: { idr0: { CD2L: 0 } } }, 10, 0, [1, 1023]],
] as const;

describe.each(SHAPES)('SMMUv3 3.3.3: CD table, %s', (_, options, bits, format, pasids) => {
  const make = () => withPasids(options, { rid: '00:05.0', pasidBits: bits === 8 ? 8 : 20 });

  test('PASIDs and the RID each reach their own page, and stop one by one', () => {
    const at = make();
    const rid = aimed(at, IOVA);
    attach(at, rid.domain);
    const each = pasids.map((pasid) => ({ pasid, ...aimed(at, IOVA, PASID) }));
    for (const { domain, pasid } of each) attach(at, domain, pasid);
    expect(ste(at)).toMatchObject({ CONFIG: 5, S1DSS: 2, S1FMT: format, S1CDMAX: bits });
    for (const { pasid, frame } of each) expect(reach(at.device, IOVA, pasid)).toBe(frame);
    expect(reach(at.device, IOVA)).toBe(rid.frame);
    const [gone, ...left] = each;
    attach(at, at.unit.blocking, gone?.pasid);
    expect(reach(at.device, IOVA, gone?.pasid)).toBe(-1);
    for (const { pasid, frame } of left) expect(reach(at.device, IOVA, pasid)).toBe(frame);
    expect(reach(at.device, IOVA)).toBe(rid.frame);
  });

  test('PASIDs beyond the width are refused', () => {
    const at = make();
    const { domain } = aimed(at, IOVA, PASID);
    for (const pasid of [0, 2 ** bits]) {
      expect(refusalOf(() => attach(at, domain, pasid))).toBe('EINVAL pasid-range');
    }
    expect(ste(at).CONFIG).toBe(0);
  });
});

test('a new leaf of the CD table is announced by CFGI_CD that reaches level 1', () => {
  const at = withPasids();
  attach(at, aimed(at, IOVA).domain);
  // Hardware reads L1CD 1 while it is absent, and may keep that.
  expect(reach(at.device, IOVA, 1024)).toBe(-1);
  const { domain, frame } = aimed(at, IOVA, PASID);
  const { hardware } = at.unit;
  const ring = hardware.readReg32(0x94) % 0x10_0000;
  const slot = ring * 2 ** 32 + ((hardware.readReg32(0x90) & ~31) >>> 0);
  const next = slot + (hardware.readReg32(0x98) % 256) * 16;
  attach(at, domain, 1024);
  expect(wordsAt(at, next, 3)).toEqual([0x5 | (1024 << 12), at.device.rid, 0]);
  expect(reach(at.device, IOVA, 1024)).toBe(frame);
  const table = Number(ste(at).S1CONTEXTPTR);
  expect([0, 1, 2].map((index) => decode(L1CD, wordsAt(at, table + 8 * index, 2)).V)).toEqual([
    1, 1, 0,
  ]);
});

describe('requests without PASID beside attached PASIDs', () => {
  const S1DSS = { TERMINATE: 0, BYPASS: 1, SSID0: 2 } as const;

  test('blocked: the first PASID installs the CD table, the last takes it away', () => {
    const at = withPasids();
    const { domain, frame } = aimed(at, IOVA, PASID);
    expect(ste(at)).toMatchObject({ V: 1, CONFIG: 0 });
    attach(at, domain, 5);
    expect(ste(at)).toMatchObject({ CONFIG: 5, S1DSS: S1DSS.TERMINATE });
    expect([reach(at.device, IOVA, 5), reach(at.device, IOVA)]).toEqual([frame, -1]);
    // F_STREAM_DISABLED: there are substreams, and none was given.
    expect(at.faults.map(({ reason }) => reason)).toEqual([6]);
    attach(at, at.unit.blocking, 5);
    expect(ste(at)).toMatchObject({ V: 1, CONFIG: 0 });
    expect([reach(at.device, IOVA, 5), reach(at.device, IOVA)]).toEqual([-1, -1]);
  });

  test('identity: bypass of stage 1 beside the PASIDs', () => {
    const at = withPasids();
    const { domain, frame } = aimed(at, IOVA, PASID);
    attach(at, at.unit.identity);
    attach(at, domain, 5);
    expect(ste(at)).toMatchObject({ CONFIG: 5, S1DSS: S1DSS.BYPASS, SHCFG: 1 });
    expect([reach(at.device, IOVA, 5), reach(at.device, frame)]).toEqual([frame, frame]);
    attach(at, at.unit.blocking, 5);
    expect(ste(at)).toMatchObject({ CONFIG: 4 });
    expect(reach(at.device, frame)).toBe(frame);
  });

  test('identity, paging, blocked and back while a PASID works', () => {
    const at = withPasids();
    const pasid = aimed(at, IOVA, PASID);
    const rid = aimed(at, IOVA);
    attach(at, pasid.domain, 5);
    const steps = [
      [rid.domain, S1DSS.SSID0, rid.frame],
      [at.unit.identity, S1DSS.BYPASS, -1],
      [rid.domain, S1DSS.SSID0, rid.frame],
      [at.unit.blocking, S1DSS.TERMINATE, -1],
      [at.unit.identity, S1DSS.BYPASS, -1],
      [at.unit.blocking, S1DSS.TERMINATE, -1],
    ] as const;
    for (const [domain, s1dss, frame] of steps) {
      attach(at, domain);
      expect(ste(at)).toMatchObject({ CONFIG: 5, S1DSS: s1dss });
      expect(reach(at.device, IOVA, 5)).toBe(pasid.frame);
      if (domain !== at.unit.identity) expect(reach(at.device, IOVA)).toBe(frame);
    }
  });

  test('the descriptor of the RID goes when its domain does', () => {
    const at = withPasids();
    const rid = aimed(at, IOVA);
    attach(at, aimed(at, IOVA, PASID).domain, 1024);
    attach(at, rid.domain);
    const table = Number(ste(at).S1CONTEXTPTR);
    const leaf = Number(decode(L1CD, wordsAt(at, table, 2)).L2PTR);
    expect(decode(CD, wordsAt(at, leaf)).V).toBe(1);
    attach(at, at.unit.identity);
    expect(wordsAt(at, leaf)).toEqual(new Array(16).fill(0));
  });

  test('SubstreamID 0 stands for no PASID, and cannot be asked for', () => {
    const at = withPasids();
    attach(at, aimed(at, IOVA).domain);
    expect(reach(at.device, IOVA, 0)).toBe(-1);
    expect(at.faults.map(({ reason }) => reason)).toEqual([6]);
  });
});

describe('replacing and detaching', () => {
  test('a PASID goes from one domain to another; both can be elsewhere too', () => {
    const at = withPasids();
    const [first, second] = [aimed(at, IOVA, PASID), aimed(at, IOVA, PASID)];
    attach(at, first.domain, 7);
    attach(at, second.domain, 8);
    attach(at, second.domain, 7);
    expect([7, 8].map((pasid) => reach(at.device, IOVA, pasid))).toEqual([
      second.frame,
      second.frame,
    ]);
    attach(at, first.domain, 8);
    expect([7, 8].map((pasid) => reach(at.device, IOVA, pasid))).toEqual([
      second.frame,
      first.frame,
    ]);
  });

  test('a domain on two PASIDs and two devices: one unmap reaches all', () => {
    const at = withPasids();
    const other = at.devices[1];
    const { domain, frame } = aimed(at, IOVA, PASID);
    attach(at, domain);
    attach(at, domain, 1);
    attach(at, domain, 2);
    attach(at, domain, 3, other);
    const all = () => [
      reach(at.device, IOVA),
      reach(at.device, IOVA, 1),
      reach(at.device, IOVA, 2),
      reach(other ?? at.device, IOVA, 3),
    ];
    expect(all()).toEqual([frame, frame, frame, frame]);
    expect(unmap(domain, IOVA)).toBe(1);
    expect(all()).toEqual([-1, -1, -1, -1]);
  });

  test('the last user of an ASID takes what is cached along', () => {
    const at = withPasids();
    const first = aimed(at, IOVA, PASID);
    attach(at, first.domain, 7);
    expect(reach(at.device, IOVA, 7)).toBe(first.frame);
    attach(at, at.unit.blocking, 7);
    first.domain.free();
    const second = paging(at, PASID);
    attach(at, second, 7);
    expect(reach(at.device, IOVA, 7)).toBe(-1);
  });

  test('releasing a device detaches all, and gives its tables back', () => {
    const at = withPasids();
    const { memory } = at.machine;
    const first = aimed(at, IOVA, PASID);
    const before = memory.freePageCount;
    attach(at, first.domain);
    for (const pasid of [1, 5000, 0xf_ffff]) attach(at, first.domain, pasid);
    // Two pages for level 1, and 16 for each of three leaves.
    expect(before - memory.freePageCount).toBe(2 + 3 * 16);
    at.unit.releaseDevice(at.device);
    expect(memory.freePageCount).toBe(before);
    expect(reach(at.device, IOVA, 5000)).toBe(-1);
    at.unit.probeDevice(at.device);
    expect(reach(at.device, IOVA)).toBe(-1);
    attach(at, first.domain, 5000);
    expect(reach(at.device, IOVA, 5000)).toBe(first.frame);
  });

  test('detaching a PASID that nobody attached does nothing', () => {
    const at = withPasids();
    expect(refusalOf(() => attach(at, at.unit.blocking, 9))).toBe('ok');
    expect(ste(at).CONFIG).toBe(0);
  });
});

describe('who excludes whom (arm_smmu_set_pasid, arm_smmu_attach_dev)', () => {
  test.each<readonly [string, string, (at: Bench) => void]>([
    ['stage 2 for a PASID', 'EINVAL pasid-stage', (at) => attach(at, paging(at, NEST_PARENT), 5)],
    ['identity for a PASID', 'EOPNOTSUPP pasid-domain', (at) => attach(at, at.unit.identity, 5)],
    [
      'a PASID beside a stage 2',
      'EINVAL pasid-stream',
      (at) => {
        attach(at, paging(at, NEST_PARENT));
        attach(at, paging(at, PASID), 5);
      },
    ],
    [
      'a stage 2 beside a PASID',
      'EBUSY pasids-in-use',
      (at) => {
        attach(at, paging(at, PASID), 5);
        attach(at, paging(at, NEST_PARENT));
      },
    ],
  ])('%s: %s', (_, refusal, act) => {
    const at = withPasids();
    expect(refusalOf(() => act(at))).toBe(refusal);
  });

  test('what is refused changes nothing', () => {
    const at = withPasids();
    const { domain, frame } = aimed(at, IOVA, PASID);
    attach(at, domain, 5);
    const before = wordsAt(at, steAddress(at));
    expect(refusalOf(() => attach(at, paging(at, NEST_PARENT)))).toBe('EBUSY pasids-in-use');
    expect(refusalOf(() => attach(at, paging(at, NEST_PARENT), 5))).toBe('EINVAL pasid-stage');
    expect(wordsAt(at, steAddress(at))).toEqual(before);
    expect(reach(at.device, IOVA, 5)).toBe(frame);
    attach(at, at.unit.blocking, 5);
    expect(refusalOf(() => attach(at, paging(at, NEST_PARENT)))).toBe('ok');
  });

  test.each([
    ['the device', {}, { rid: '00:05.0' }],
    ['the unit', { capabilities: { idr1: { SSIDSIZE: 0 } } }, PASID_DEVICE],
    ['a unit without stage 1', { capabilities: { idr0: { S1P: 0 } } }, PASID_DEVICE],
  ])('%s has no PASIDs: EOPNOTSUPP', (_, options, device) => {
    const at = withPasids(options, device);
    expect(refusalOf(() => attach(at, paging(at), 1))).toBe('EOPNOTSUPP pasid-support');
  });

  test('a domain of another unit is refused on a PASID as on the RID', () => {
    const at = withPasids();
    const elsewhere = withPasids();
    const domain = paging(elsewhere, PASID);
    expect(refusalOf(() => attach(at, domain, 5))).toBe('EINVAL foreign-domain');
    expect(refusalOf(() => attach(at, domain))).toBe('EINVAL foreign-domain');
  });
});
