/** What the host half says to the unit: which commands, in which order, and no more. */
import { describe, expect, test } from 'vitest';
import {
  aimed,
  attach,
  type Bench,
  bench,
  commandNames,
  commandsOf,
  HWPT,
  map,
  paging,
  reach,
  STAGE2_ONLY,
  stampedPage,
} from './fixture.ts';

const IOVA = 0x1000;
const DEVICE = { rid: '00:05.0', pasidBits: 20 } as const;
const ATS_DEVICE = { ...DEVICE, ats: true } as const;
const NO_RIL = { capabilities: { idr3: { RIL: 0 } } } as const;

/** A domain on the RID with `pages` small pages mapped. */
const mapped = (at: Bench, pages: number, flags = 0) => {
  const domain = paging(at, flags);
  const frame = stampedPage(at.machine);
  for (let page = 0; page < pages; page++) map(domain, IOVA + page, frame);
  attach(at, domain);
  return domain;
};

/** The hexadecimal dwords of each command. */
const hex = (commands: number[][]) =>
  commands.map((words) => words.map((word) => word.toString(16)).join(' '));

describe('unmap and sync', () => {
  // TLBI_NH_VA 12, TLBI_S2_IPA 2a, SYNC 46; ASID in 63:48, VMID in 47:32; TTL 3, TG 4K, leaf.
  test.each([
    ['one page', {}, 1, ['12 10000 1000701 0', '46 0 0 0']],
    ['three pages', {}, 3, ['2012 10000 1000701 0', '46 0 0 0']],
    ['one page, stage 2', STAGE2_ONLY, 1, ['2a 1 1000701 0', '46 0 0 0']],
    ['one page, no ranges', NO_RIL, 1, ['12 10000 1000001 0', '46 0 0 0']],
    ['two pages, no ranges', NO_RIL, 2, ['12 10000 1000001 0', '12 10000 1001001 0', '46 0 0 0']],
  ])('%s: the leaf level alone while tables stay', (_, options, pages, expected) => {
    const at = bench(options, [DEVICE]);
    const domain = mapped(at, 64);
    domain.unmap(IOVA, pages);
    expect(hex(commandsOf(at, () => domain.sync()))).toEqual(expected);
  });

  test('a single large leaf: its own level, one command', () => {
    const at = bench({}, [DEVICE]);
    const domain = paging(at);
    const frame = at.machine.memory.allocPages(512, { alignPages: 512 }) / 4096;
    map(domain, 0x400, frame, 512);
    map(domain, 0x800, frame, 512);
    attach(at, domain);
    domain.unmap(0x400, 512);
    // NUM 0, SCALE 9, TTL 2.
    expect(hex(commandsOf(at, () => domain.sync()))).toEqual(['900012 10000 400601 0', '46 0 0 0']);
    const naked = bench(NO_RIL, [DEVICE]);
    const other = paging(naked);
    map(other, 0x400, frame, 512);
    map(other, 0x800, frame, 512);
    attach(naked, other);
    other.unmap(0x400, 512);
    expect(hex(commandsOf(naked, () => other.sync()))).toEqual(['12 10000 400001 0', '46 0 0 0']);
  });

  test('a part of a large leaf, and a large leaf beside small ones', () => {
    const at = bench({}, [DEVICE]);
    const domain = paging(at);
    const frame = at.machine.memory.allocPages(512, { alignPages: 512 }) / 4096;
    map(domain, 0x400, frame, 512);
    map(domain, 0x600, frame, 512);
    map(domain, 0x800, frame, 32);
    attach(at, domain);
    // All of the leaf goes, at its level.
    expect(domain.unmap(0x400, 3)).toBe(512);
    expect(hex(commandsOf(at, () => domain.sync()))).toEqual(['900012 10000 400601 0', '46 0 0 0']);
    // 544 pages of both sizes: no level named.
    expect(domain.unmap(0x600, 544)).toBe(544);
    const [first] = commandsOf(at, () => domain.sync());
    expect(((first?.[2] ?? 0) >>> 8) & 3).toBe(0);
    // Unmaps that touch, a large leaf and then small ones: no level either.
    map(domain, 0x600, frame, 512);
    map(domain, 0x800, frame, 32);
    map(domain, 0xa00, frame, 512);
    domain.unmap(0x600, 512);
    domain.unmap(0x800, 8);
    const [joined] = commandsOf(at, () => domain.sync());
    expect(((joined?.[2] ?? 0) >>> 8) & 3).toBe(0);
  });

  test('many ranges are covered by one, at no level', () => {
    const at = bench({}, [DEVICE]);
    const domain = mapped(at, 512);
    for (let page = 0; page < 34; page += 2) domain.unmap(IOVA + page, 1);
    const commands = commandsOf(at, () => domain.sync());
    // The first 16 as one range of 31 pages, and the last one.
    expect(hex(commands)).toEqual(['1e012 10000 1000401 0', '12 10000 1020701 0', '46 0 0 0']);
  });

  test('tables that go: every level, and no level named', () => {
    const at = bench({}, [DEVICE]);
    const domain = mapped(at, 512);
    domain.unmap(IOVA, 512);
    expect(hex(commandsOf(at, () => domain.sync()))).toEqual([
      '900012 10000 1000400 0',
      '46 0 0 0',
    ]);
  });

  test.each([
    ['an ASID', {}, 'TLBI_NH_ASID'],
    ['a VMID', { idr0: { S1P: 0 } }, 'TLBI_S12_VMALL'],
  ])('without ranges, from 512 pages on: all of %s', (_, capabilities, name) => {
    const at = bench({ capabilities: { ...capabilities, idr3: { RIL: 0 } } }, [DEVICE]);
    const domain = mapped(at, 512);
    domain.unmap(IOVA, 512);
    expect(commandNames(at, () => domain.sync())).toEqual([name, 'SYNC']);
  });

  test('nothing unmapped, or nobody attached: nothing said', () => {
    const at = bench({}, [DEVICE]);
    const domain = mapped(at, 4);
    expect(commandNames(at, () => domain.sync())).toEqual([]);
    attach(at, at.unit.blocking);
    domain.unmap(IOVA, 1);
    expect(commandNames(at, () => domain.sync())).toEqual([]);
  });

  test('unmaps that touch are one range; mapping says nothing', () => {
    const at = bench({}, [DEVICE]);
    const domain = mapped(at, 64);
    const names = commandNames(at, () => {
      for (let page = 0; page < 32; page++) domain.unmap(IOVA + page, 1);
      map(domain, 5, 5);
      domain.sync();
    });
    expect(names).toEqual(['TLBI_NH_VA', 'SYNC']);
  });
});

describe('attaching', () => {
  const CFGI_STE = ['CFGI_STE', 'SYNC'];
  const CFGI_CD = ['CFGI_CD', 'SYNC'];
  const twice = (names: string[]) => [...names, ...names];

  test('stage 1, then another, then bypass, then off', () => {
    const at = bench({}, [{ rid: '00:04.0' }]);
    const [first, second] = [aimed(at, IOVA).domain, aimed(at, IOVA).domain];
    expect(commandNames(at, () => attach(at, first))).toEqual([
      ...twice(CFGI_CD),
      ...twice(CFGI_STE),
    ]);
    // V off, the root, all with the new ASID; then what the old ASID left.
    expect(commandNames(at, () => attach(at, second))).toEqual([
      ...CFGI_CD,
      ...twice(CFGI_CD),
      'TLBI_NH_ASID',
      'SYNC',
    ]);
    expect(commandNames(at, () => attach(at, at.unit.identity))).toEqual([
      ...CFGI_STE,
      ...twice(CFGI_STE),
      ...twice(CFGI_CD),
      'TLBI_NH_ASID',
      'SYNC',
    ]);
    expect(commandNames(at, () => attach(at, at.unit.blocking))).toEqual(twice(CFGI_STE));
    expect(commandNames(at, () => attach(at, at.unit.blocking))).toEqual([]);
  });

  test('stage 2: the VMID goes with its last device', () => {
    const at = bench({}, [{ rid: '00:04.0' }, { rid: '00:05.0' }]);
    const domain = paging(at, HWPT.NEST_PARENT);
    for (const device of at.devices) attach(at, domain, -1, device);
    const detach = () => attach(at, at.unit.blocking, -1, at.devices[0]);
    expect(commandNames(at, detach)).toEqual(twice(CFGI_STE));
    const last = () => attach(at, at.unit.blocking, -1, at.devices[1]);
    expect(commandNames(at, last)).toEqual([...twice(CFGI_STE), 'TLBI_S12_VMALL', 'SYNC']);
  });

  test('a PASID from one domain to another: the ASID that nobody uses any more goes', () => {
    const at = bench({ capabilities: { idr0: { ATS: 0, PRI: 0 } } }, [DEVICE]);
    const [first, second] = [paging(at, HWPT.PASID), paging(at, HWPT.PASID)];
    attach(at, first, 5);
    attach(at, first, 6);
    const three = [...CFGI_CD, ...twice(CFGI_CD)];
    expect(commandNames(at, () => attach(at, second, 5))).toEqual(three);
    expect(commandNames(at, () => attach(at, second, 6))).toEqual([
      ...three,
      'TLBI_NH_ASID',
      'SYNC',
    ]);
  });

  test('a PASID: its descriptor, the entry with the first one; off again', () => {
    const at = bench({ capabilities: { idr0: { ATS: 0 } } }, [DEVICE]);
    const domain = paging(at, HWPT.PASID);
    expect(commandNames(at, () => attach(at, domain, 5))).toEqual([
      ...CFGI_CD, // The leaf of the table.
      ...twice(CFGI_CD),
      ...twice(CFGI_STE),
    ]);
    expect(commandNames(at, () => attach(at, domain, 6))).toEqual(twice(CFGI_CD));
    expect(commandNames(at, () => attach(at, at.unit.blocking, 5))).toEqual(twice(CFGI_CD));
    expect(commandNames(at, () => attach(at, at.unit.blocking, 6))).toEqual([
      ...twice(CFGI_CD),
      'TLBI_NH_ASID',
      'SYNC',
      ...twice(CFGI_STE),
    ]);
  });
});

describe('devices that keep translations (SMMUv3 3.9.1)', () => {
  const EVERYTHING = '40 28 34 0';

  test('the device is told last: TLBI, SYNC, ATC_INV for each substream, SYNC', () => {
    const at = bench({}, [ATS_DEVICE]);
    const { domain } = aimed(at, IOVA, HWPT.PASID);
    attach(at, domain);
    attach(at, domain, 7);
    domain.unmap(IOVA, 1);
    expect(hex(commandsOf(at, () => domain.sync()))).toEqual([
      '12 10000 1000701 0',
      '46 0 0 0',
      '40 28 1000000 0',
      '7840 28 1000000 0',
      '46 0 0 0',
    ]);
  });

  test('ATS comes on with the first table and goes with the last: everything is dropped', () => {
    const at = bench({}, [ATS_DEVICE]);
    const { domain } = aimed(at, IOVA, HWPT.PASID);
    const said = (act: () => void) =>
      hex(commandsOf(at, act)).filter((words) => words.includes('40 28'));
    expect(said(() => attach(at, at.unit.identity))).toEqual([]);
    expect(said(() => attach(at, domain, 7))).toEqual([EVERYTHING]);
    expect(said(() => attach(at, domain))).toEqual([EVERYTHING]);
    expect(said(() => attach(at, domain, 8))).toEqual(['8840 28 34 0']);
    expect(said(() => attach(at, at.unit.blocking, 8))).toEqual(['8840 28 34 0']);
    expect(said(() => attach(at, at.unit.blocking, 7))).toEqual(['7840 28 34 0']);
    expect(said(() => attach(at, at.unit.blocking))).toEqual([EVERYTHING]);
  });

  test.each([
    ['blocked', (at: Bench) => at.unit.blocking],
    ['bypass', (at: Bench) => at.unit.identity],
  ])('the last PASID takes ATS along when the rest is in %s', (_, rest) => {
    const at = bench({}, [ATS_DEVICE]);
    attach(at, rest(at));
    attach(at, paging(at, HWPT.PASID), 7);
    const commands = commandsOf(at, () => attach(at, at.unit.blocking, 7));
    expect(hex(commands).slice(-2)).toEqual([EVERYTHING, '46 0 0 0']);
    expect(hex(commands)).toContain('7840 28 34 0');
  });

  test('a device without ATS, or a unit without, is never told', () => {
    for (const [options, device] of [
      [{}, DEVICE],
      [{ capabilities: { idr0: { ATS: 0, PRI: 0 } } }, ATS_DEVICE],
    ] as const) {
      const at = bench(options, [device]);
      const { domain, frame } = aimed(at, IOVA);
      const names = commandNames(at, () => {
        attach(at, domain);
        expect(reach(at.device, IOVA)).toBe(frame);
        domain.unmap(IOVA, 1);
        domain.sync();
        attach(at, at.unit.blocking);
      });
      expect(names).not.toContain('ATC_INV');
      expect(names).toContain('TLBI_NH_VA');
    }
  });
});
