/** Domains as Linux chooses them: stages, flags, geometry, tags. */

import { decode } from '@iommukit/bits';
import { describe, expect, test } from 'vitest';
import { CD, STE } from '../../src/index.ts';
import {
  aimed,
  attach,
  bench,
  HWPT,
  map,
  PASID_DEVICE,
  paging,
  reach,
  refusalOf,
  STAGE2_ONLY,
  steAddress,
  wordsAt,
  writes,
} from './fixture.ts';

const { NEST_PARENT, DIRTY_TRACKING, PASID } = HWPT;
const STAGE1_ONLY = { capabilities: { idr0: { S2P: 0 } } } as const;

describe('arm_smmu_domain_alloc_paging_flags', () => {
  test.each([
    ['both stages', {}, 0, 5],
    ['both stages', {}, PASID, 5],
    ['both stages', {}, NEST_PARENT, 6],
    ['stage 1 alone', STAGE1_ONLY, 0, 5],
    ['stage 2 alone', STAGE2_ONLY, 0, 6],
  ])('%s (%o), flags %i: STE.Config %i', (_, options, flags, config) => {
    const at = bench(options, [PASID_DEVICE]);
    const domain = paging(at, flags);
    attach(at, domain);
    expect(decode(STE, wordsAt(at, steAddress(at))).CONFIG).toBe(config);
    expect([domain.nestParent, domain.pasidCompatible]).toEqual([
      flags === NEST_PARENT,
      flags === PASID,
    ]);
  });

  test.each([
    ['both stages', {}, NEST_PARENT | PASID, 'hwpt-flags'],
    ['both stages', {}, NEST_PARENT | DIRTY_TRACKING, 'hwpt-flags'],
    ['both stages', {}, 4, 'hwpt-flags'],
    ['both stages', {}, 16, 'hwpt-flags'],
    ['no HTTU', { capabilities: { idr0: { HTTU: 0 } } }, DIRTY_TRACKING, 'dirty-tracking'],
    ['stage 1 alone', STAGE1_ONLY, NEST_PARENT, 'nest-parent'],
    ['stage 2 alone', STAGE2_ONLY, NEST_PARENT, 'nest-parent'],
    ['stage 2 alone', STAGE2_ONLY, PASID, 'stage-1'],
    ['stage 2 alone', STAGE2_ONLY, DIRTY_TRACKING, 'stage-1'],
    ['stage 2 alone', STAGE2_ONLY, DIRTY_TRACKING | PASID, 'stage-1'],
  ])('%s (%o), flags %i: EOPNOTSUPP %s', (_, options, flags, rule) => {
    const at = bench(options);
    expect(refusalOf(() => paging(at, flags))).toBe(`EOPNOTSUPP ${rule}`);
  });

  test('vendor data is refused', () => {
    const at = bench();
    const userData = { type: 2, length: 16, copyIn: () => new Uint8Array(16), copyOut: () => {} };
    const alloc = () => at.unit.allocPaging(at.device, { flags: 0, userData });
    expect(refusalOf(alloc)).toBe('EOPNOTSUPP hwpt-data');
  });
});

describe('geometry', () => {
  test.each([
    ['stage 1: 48 bits whatever the output', { idr5: { OAS: 2 } }, 0, 48],
    ['stage 1 of 52-bit addresses: 48 with the 4K granule', { idr5: { OAS: 6, VAX: 1 } }, 0, 48],
    ['stage 2: as wide as the output', { idr5: { OAS: 2 } }, NEST_PARENT, 40],
    ['stage 2 of 42 bits', { idr5: { OAS: 3 } }, NEST_PARENT, 42],
    ['stage 2 of 44 bits', { idr5: { OAS: 4 } }, NEST_PARENT, 44],
    ['stage 2 of 52-bit output: 48', { idr5: { OAS: 6 } }, NEST_PARENT, 48],
  ])('%s', (_, capabilities, flags, bits) => {
    const at = bench({ capabilities });
    const domain = paging(at, flags);
    expect(domain.apertureLastFrame).toBe(2 ** (bits - 12) - 1);
    expect(domain.pageSizesLg2).toEqual([12, 21, 30]);
    const frame = at.machine.memory.allocPages(1) / 4096;
    expect(map(domain, domain.apertureLastFrame, frame)).toBe(0);
    expect(map(domain, domain.apertureLastFrame + 1, frame)).toBe(-34);
    expect(domain.iovaToFrame(domain.apertureLastFrame)).toBe(frame);
    expect(domain.iovaToFrame(domain.apertureLastFrame + 1)).toBe(-1);
    attach(at, domain);
    expect(writes(at.device, domain.apertureLastFrame)).toBe(true);
    expect(writes(at.device, domain.apertureLastFrame + 1)).toBe(false);
  });

  test('the capabilities of a unit are those of its default domain', () => {
    const of = (options: object) => bench(options).unit.caps;
    expect(of({ capabilities: { idr5: { OAS: 2 } } })).toMatchObject({
      iovaBits: 48,
      oaBits: 40,
      pageSizesLg2: [12, 21, 30],
      pasidBits: 20,
      cacheCoherent: true,
      enforcesCacheCoherency: false,
    });
    expect(of({ capabilities: { idr0: { S1P: 0 }, idr5: { OAS: 2 } } })).toMatchObject({
      iovaBits: 40,
      pasidBits: 0,
    });
    expect(of({ capabilities: { idr1: { SSIDSIZE: 12 } } }).pasidBits).toBe(12);
    // A linear CD table ends at 1024 descriptors.
    expect(of({ capabilities: { idr0: { CD2L: 0 } } }).pasidBits).toBe(10);
    expect(of({ capabilities: { idr0: { COHACC: 0 } } }).cacheCoherent).toBe(false);
  });

  test('a unit that cannot address the memory of the machine: ENODEV', () => {
    // RAM begins at 4 GiB.
    const make = () => bench({ capabilities: { idr5: { OAS: 0 } } });
    expect(refusalOf(make)).toBe('ENODEV unit-reach');
  });

  test('small pages only', () => {
    const at = bench();
    const domain = at.unit.allocPaging(at.device, { flags: 0, smallPagesOnly: true });
    expect(domain.pageSizesLg2).toEqual([12]);
  });
});

describe('leaves of stage 1', () => {
  /** The leaf word of a mapping with these rights, as two u32 halves. */
  const leafOf = (prot: number): [number, number] => {
    const at = bench();
    const { domain } = aimed(at, 0x1000);
    attach(at, domain);
    expect(map(domain, 0, 0x40, 1, prot)).toBe(0);
    const ste = decode(STE, wordsAt(at, steAddress(at)));
    const cd = decode(CD, wordsAt(at, Number(ste.S1CONTEXTPTR)));
    let table = Number(cd.TTB0);
    for (let level = 0; level < 3; level++) {
      const [lo = 0, hi = 0] = wordsAt(at, table, 2);
      expect(lo & 3).toBe(3);
      table = (hi & 0xffff) * 2 ** 32 + ((lo & ~0xfff) >>> 0);
    }
    const [lo = 0, hi = 0] = wordsAt(at, table, 2);
    return [lo, hi];
  };

  // Page, AF, nG, SH, AttrIndx, AP[1] = EL0, AP[2] = read-only; PXN and UXN in the upper half.
  test.each([
    ['read, write, cached', 1 | 2 | 4, 0x40f47, 0],
    ['read, cached', 1 | 4, 0x40fc7, 0],
    ['write alone is read and write', 2 | 4, 0x40f47, 0],
    ['no execute', 1 | 2 | 4 | 8, 0x40f47, 0x60_0000],
    ['device memory', 1 | 2 | 16, 0x40e4b, 0],
    ['not cached', 1 | 2, 0x40e43, 0],
    ['privileged', 1 | 2 | 4 | 32, 0x40f07, 0],
  ])('%s', (_, prot, lo, hi) => {
    expect(leafOf(prot).map((half) => half.toString(16))).toEqual(
      [lo, hi].map((half) => half.toString(16)),
    );
  });

  test('the descriptor: private ASID 1, lower half alone, recorded and aborted faults', () => {
    const at = bench();
    attach(at, paging(at));
    const ste = decode(STE, wordsAt(at, steAddress(at)));
    expect(ste).toMatchObject({ V: 1, CONFIG: 5, S1CDMAX: 0, S2VMID: 0, EATS: 0, S1CSH: 3 });
    expect(decode(CD, wordsAt(at, Number(ste.S1CONTEXTPTR)))).toMatchObject({
      V: 1,
      T0SZ: 16,
      TG0: 0,
      EPD0: 0,
      EPD1: 1,
      IPS: 5,
      AA64: 1,
      HA: 0,
      HD: 0,
      S: 0,
      R: 1,
      A: 1,
      ASET: 1,
      ASID: 1,
      MAIR0: 0xf404ff44,
    });
  });
});

describe('tags', () => {
  test.each([
    ['ASIDs', 'EBUSY', { idr0: { ASID16: 0 } }, 0],
    ['VMIDs', 'ENOSPC', { idr0: { VMID16: 0 } }, NEST_PARENT],
  ])('all 255 %s in use: %s, and one freed is enough', (_, code, capabilities, flags) => {
    const at = bench({ capabilities });
    const domains = Array.from({ length: 255 }, () => paging(at, flags));
    expect(refusalOf(() => paging(at, flags))).toBe(`${code} tags`);
    domains[17]?.free();
    const { domain, frame } = aimed(at, 5, flags);
    attach(at, domain);
    expect(reach(at.device, 5)).toBe(frame);
  });

  test('a domain refused for want of a tag leaves no table behind', () => {
    const at = bench({ capabilities: { idr0: { ASID16: 0 } }, maxTableBytes: 2 << 20 });
    for (let n = 0; n < 255; n++) paging(at);
    for (let n = 0; n < 600; n++) expect(refusalOf(() => paging(at))).toBe('EBUSY tags');
  });

  test('two domains never share a tag: equal IOVAs stay apart', () => {
    const at = bench({}, [{ rid: '00:04.0' }, { rid: '00:05.0' }]);
    for (const flags of [0, NEST_PARENT]) {
      const [first, second] = [aimed(at, 7, flags), aimed(at, 7, flags)];
      attach(at, first.domain, -1, at.devices[0]);
      attach(at, second.domain, -1, at.devices[1]);
      for (let round = 0; round < 2; round++) {
        expect(at.devices.map((device) => reach(device, 7))).toEqual([first.frame, second.frame]);
      }
    }
  });
});

describe('memory for tables', () => {
  test('maxTableBytes: beyond it ENOMEM, and nothing has changed', () => {
    const at = bench({ maxTableBytes: 2 << 20 });
    const { domain, frame } = aimed(at, 0x1000);
    attach(at, domain);
    const more: unknown[] = [];
    let refused = '';
    while (refused === '') {
      const answer = refusalOf(() => more.push(paging(at)));
      if (answer !== 'ok') refused = answer;
    }
    expect(refused).toBe('ENOMEM table-pool');
    expect(more.length).toBeGreaterThan(100);
    expect(map(domain, 0x4000_0000, frame)).toBe(-12);
    expect(domain.iovaToFrame(0x4000_0000)).toBe(-1);
    expect(reach(at.device, 0x1000)).toBe(frame);
    // The refused domain took no ASID along: as many more succeed as are freed.
    (more.pop() as { free(): void }).free();
    expect(refusalOf(() => paging(at))).toBe('ok');
  });

  test('a limit that is no multiple of 2 MiB is a RangeError', () => {
    expect(() => bench({ maxTableBytes: 4096 })).toThrow(RangeError);
  });

  test('RAM too small for a CD table: ENOMEM, and the old attachment stands', () => {
    const at = bench({}, [PASID_DEVICE]);
    const { domain, frame } = aimed(at, 5);
    const { memory } = at.machine;
    attach(at, at.unit.identity);
    while (memory.allocPages(1) >= 0);
    expect(refusalOf(() => attach(at, domain))).toBe('ENOMEM host-memory');
    expect(reach(at.device, frame)).toBe(frame);
    expect(decode(STE, wordsAt(at, steAddress(at))).CONFIG).toBe(4);
  });
});

describe('cache coherency', () => {
  test.each([true, false])('enforced where firmware says CANWBS: %s', (canWbs) => {
    const at = bench({ canWbs });
    const domain = paging(at);
    expect(at.unit.caps.enforcesCacheCoherency).toBe(canWbs);
    expect(domain.enforcesCacheCoherency).toBe(false);
    expect(domain.enforceCacheCoherency?.()).toBe(canWbs);
    expect(domain.enforcesCacheCoherency).toBe(canWbs);
  });
});
