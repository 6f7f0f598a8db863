import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  amdV1,
  armStage1,
  armStage2,
  createPool,
  createTable,
  createWalker,
  createWalkTrace,
  mockFormat,
  type PageTableFormat,
  vtdSecondStage,
  WALK,
  type WalkMemory,
  x86FirstStage,
} from '../src/index.ts';
import amd from './data/amd-v1-walks.json' with { type: 'json' };
import arm from './data/arm-s1-walks.json' with { type: 'json' };
import vtd from './data/vtd-ss-walks.json' with { type: 'json' };

/** Sparse memory of 4 KiB regions from address-to-quadword pairs. */
function memoryOf(words: Record<string, string | undefined>): WalkMemory {
  const pages = new Map<number, { base: number; size: number; i32: Int32Array }>();
  for (const [address, word] of Object.entries(words)) {
    const pa = Number(address);
    const base = pa - (pa % 4096);
    const page = pages.get(base) ?? { base, size: 4096, i32: new Int32Array(1024) };
    pages.set(base, page);
    const value = BigInt(word as string);
    page.i32[(pa - base) / 4] = Number(value & 0xffff_ffffn) | 0;
    page.i32[(pa - base) / 4 + 1] = Number(value >> 32n) | 0;
  }
  return { regionAt: (pa) => pages.get(pa - (pa % 4096)) };
}

const pfn = (address: string) => Number(BigInt(address) >> 12n);
const trace = createWalkTrace();

describe('AMD v1 walks (AMD IOMMU 2.2.3)', () => {
  test.each(amd.cases.map((c) => [c.name, c.address, c] as const))('%s %s', (_, __, c) => {
    const walker = createWalker(amdV1({ levels: c.levels }));
    const words = c.memory as Record<string, string | undefined>;
    const frame = walker.walk(memoryOf(words), Number(c.rootPa), c.levels, pfn(c.address), trace);
    const allowed = frame >= 0 && (trace.prot & (c.write ? 2 : 1)) !== 0;
    expect(allowed).toBe(!c.expect.fault);
    if (!allowed) return;
    expect(frame).toBe(pfn(c.expect.spa as string));
    expect(trace.pageLg2).toBe(c.expect.page_shift);
    expect((trace.prot >> 1) & 1 & (Number(c.dte) >> 1)).toBe(c.expect.writable);
  });

  test('codes of malformed entries', () => {
    const codes = Object.fromEntries(
      amd.cases
        .filter((c) => c.expect.fault)
        .map((c) => {
          const walker = createWalker(amdV1({ levels: c.levels }));
          const words = c.memory as Record<string, string | undefined>;
          return [
            c.name,
            walker.walk(memoryOf(words), Number(c.rootPa), c.levels, pfn(c.address), trace),
          ];
        }),
    );
    expect(codes['v1 NextLevel 7 with a size that does not fit the level']).toBe(WALK.BAD_LEVEL);
    expect(codes['v1 NextLevel not below the current level']).toBe(WALK.BAD_LEVEL);
    expect(codes['v1 reserved bit in a leaf']).toBe(WALK.RESERVED);
    expect(codes['v1 level skipping']).toBe(WALK.BAD_LEVEL);
  });
});

describe('VT-d second-stage walks (VT-d 9.8)', () => {
  test.each(vtd.cases.map((c) => [c.name, c] as const))('%s', (_, c) => {
    const walker = createWalker(vtdSecondStage({ levels: c.levels }));
    const words = c.memory as Record<string, string | undefined>;
    const frame = walker.walk(memoryOf(words), Number(c.rootPa), c.levels, pfn(c.address), trace);
    expect(frame).toBe(pfn(c.result.pa));
    expect(2 ** trace.pageLg2).toBe(Number(c.result.size));
    expect(trace.prot & 3).toBe(Number(c.result.r) | (Number(c.result.w) << 1));
  });
});

describe('Arm stage 1 walks (Arm ARM D8)', () => {
  test.each(arm.cases.map((c) => [c.name, c] as const))('%s', (_, c) => {
    const format = armStage1({ granule: c.granule, iovaBits: c.iovaBits, oaBits: c.oaBits });
    const words = c.memory as Record<string, string | undefined>;
    const frame = createWalker(format).walk(
      memoryOf(words),
      Number(c.rootPa),
      format.levels,
      pfn(c.address),
      trace,
    );
    expect(frame).toBe(pfn(c.pa));
    expect([...trace.entryPa.subarray(0, trace.steps)]).toEqual(c.reads.map(Number));
  });
});

describe('nested walks', () => {
  test('every table address of the guest goes through the callback (SMMUv3 example A1)', () => {
    const memory = memoryOf({
      '0x1000307f0': '0x31003',
      '0x100031000': '0x32003',
      '0x100032000': '0x33003',
      '0x100033008': '0x9f43',
      '0x200000000': '0x1000007fd',
    });
    const stage2 = createWalker(armStage2({ iovaBits: 39 }));
    const inner = createWalkTrace();
    const asked: number[] = [];
    const translateTable = (ipa: number) => {
      asked.push(ipa);
      const frame = stage2.walk(memory, 0x2_0000_0000, 3, Math.floor(ipa / 4096), inner);
      return frame < 0 ? -1 : frame * 4096 + (ipa % 4096);
    };
    const stage1 = createWalker(armStage1({}));
    const ipaFrame = stage1.walk(memory, 0x30000, 4, 0x7f0000001, trace, translateTable);
    expect(ipaFrame).toBe(9);
    expect(asked).toEqual([0x307f0, 0x31000, 0x32000, 0x33008]);
    expect(translateTable(9 * 4096)).toBe(0x1_0000_9000);
    expect(stage1.walk(memory, 2 ** 40, 4, 0, trace, translateTable)).toBe(WALK.TABLE_TRANSLATION);
  });
});

const FORMATS: [string, PageTableFormat][] = [
  ['vtd-ss', vtdSecondStage({ levels: 5 })],
  ['x86-64', x86FirstStage({ levels: 5 })],
  ['amd-v1', amdV1({ levels: 6 })],
  ['mock', mockFormat({ levels: 5 })],
  ['arm-s1', armStage1({ granule: 16384 })],
  ['arm-s2', armStage2({ granule: 65536, iovaBits: 46 })],
];

describe('hostile tables', () => {
  test.each(FORMATS)('%s: random words never hang a walk or make it read outside', (_, format) => {
    const walker = createWalker(format);
    const base = 0x10_0000;
    const i32 = new Int32Array(16384);
    const region = { base, size: i32.byteLength, i32 };
    const memory = {
      regionAt: (pa: number) => (pa >= base && pa < base + region.size ? region : undefined),
    };
    const property = fc.property(
      fc.integer(),
      fc.integer({ min: 0, max: 2 ** 31 }),
      fc.boolean(),
      (seed, iova, inside) => {
        let x = seed | 1;
        for (let i = 0; i < i32.length; i += 2) {
          x = Math.imul(x, 1103515245) + 12345;
          // Half of the runs: pointers that stay in this memory and point back to it.
          i32[i] = inside ? (base + ((x >>> 8) & 0xf000)) | (x & 0xfff) : x;
          i32[i + 1] = inside ? x & 0x6000_0000 : Math.imul(x, 69069);
        }
        const result = walker.walk(memory, base + (seed & 0xf000), format.levels, iova, trace);
        expect(Number.isSafeInteger(result)).toBe(true);
        expect(result).toBeGreaterThanOrEqual(WALK.TABLE_TRANSLATION);
        expect(trace.steps).toBeLessThanOrEqual(format.maxLevels);
        expect(trace.result).toBe(result);
      },
    );
    fc.assert(property, { numRuns: 100 });
  });

  test('addresses without memory, and a root at the very end of it', () => {
    const walker = createWalker(vtdSecondStage({ levels: 3 }));
    const i32 = new Int32Array(1024);
    const region = { base: 4096, size: 4092, i32 };
    expect(walker.walk({ regionAt: () => undefined }, 4096, 3, 0, trace)).toBe(WALK.BUS_ERROR);
    expect(walker.walk({ regionAt: () => region }, 4096, 3, 511 * 2 ** 18, trace)).toBe(
      WALK.BUS_ERROR,
    );
    expect(walker.walk({ regionAt: () => region }, 4096, 3, 2 ** 27, trace)).toBe(
      WALK.OUT_OF_RANGE,
    );
    expect(walker.walk({ regionAt: () => region }, 4096, 3, Number.NaN, trace)).toBe(
      WALK.OUT_OF_RANGE,
    );
  });

  test.each(FORMATS)(
    '%s: what is no number of levels, and roots that are no place',
    (_, format) => {
      const walker = createWalker(format);
      const asked: number[] = [];
      const memory = {
        regionAt(pa: number) {
          asked.push(pa);
          return undefined;
        },
      };
      for (const levels of [0, -1, 1.5, 8, 2 ** 32, Number.NaN]) {
        expect(walker.walk(memory, 4096, levels, 0, trace)).toBe(WALK.OUT_OF_RANGE);
      }
      expect(asked).toEqual([]);
      for (const root of [-4096, 2 ** 60, Number.NaN, Number.POSITIVE_INFINITY]) {
        const inPool = createPool();
        createTable(inPool, format);
        const expected = root < 0 ? WALK.TABLE_TRANSLATION : WALK.BUS_ERROR;
        expect(walker.walk(inPool, root, format.levels, 0, trace)).toBe(expected);
        expect(walker.walk(memory, 4096, format.levels, 0, trace, () => root)).toBeLessThan(0);
      }
    },
  );

  test('x86-64 addresses that are not canonical', () => {
    const pool = createPool();
    const table = createTable(pool, x86FirstStage({ levels: 4 }));
    expect(table.mapRange(2 ** 52 - 1, 5, 1, 1)).toBe(0);
    expect(table.walk(2 ** 52 - 1, trace)).toBe(5);
    expect(table.walk(2 ** 36 - 1, trace)).toBe(WALK.OUT_OF_RANGE);
    expect(table.translate(2 ** 36 - 1)).toBe(-1);
  });
});
