import { encode } from '@iommukit/bits';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AmdviHardware } from '../src/hardware/iommu.ts';
import type { HardwareRegion } from '../src/hardware/memory.ts';
import { COMMAND, DTE, INVALIDATE_IOMMU_ALL } from '../src/spec/index.ts';

const BASE = 0x4000_0000;
const PAGES = 64;
const RID = 0x20;
const DTE_PA = BASE + RID * 32;
const TABLES = BASE + 0x1000;
const COMMANDS = BASE + 0x3e000;
const LOG = BASE + 0x3f000;

/** RAM that counts accesses outside itself; the hardware must ask before it touches. */
const hostileMemory = () => {
  const region: HardwareRegion = {
    base: BASE,
    size: PAGES * 4096,
    i32: new Int32Array((PAGES * 4096) / 4),
  };
  const regionAt = (pa: number) => {
    if (!(Number.isSafeInteger(pa) && pa >= 0 && pa < 2 ** 52 && pa % 4 === 0)) {
      throw new Error(`an address that no bus has: ${pa}`);
    }
    return pa >= region.base && pa < region.base + region.size ? region : undefined;
  };
  return { region, memory: { regionAt } };
};

const boot = () => {
  const { region, memory } = hostileMemory();
  const unit = new AmdviHardware({ memory, caches: { deviceEntries: 4, iotlbEntries: 32 } });
  unit.writeReg64(0x0, BASE | 0, 0);
  unit.writeReg64(0x8, COMMANDS, 0x0800_0000);
  unit.writeReg64(0x10, LOG, 0x0800_0000);
  unit.writeReg64(0x18, 0x1005, 0);
  const store = (pa: number, words: ArrayLike<number>) => region.i32.set(words, (pa - BASE) >>> 2);
  return { unit, region, store };
};

const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
/** Entries that look right more often than not: present, with rights, to RAM near by. */
const entry = fc.oneof(
  { weight: 1, arbitrary: fc.tuple(word, word) },
  {
    weight: 6,
    arbitrary: fc
      .tuple(
        fc.constantFrom(0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7),
        fc.nat(PAGES - 1),
        fc.constantFrom(0x6000_0000, 0x2000_0000, 0x6800_0000),
      )
      .map(
        ([next, page, hi]) => [1 | (next << 9) | (TABLES + page * 4096), hi] as [number, number],
      ),
  },
);
const requests = fc.array(
  fc.tuple(
    fc.constantFrom(RID, RID, RID, RID + 1, 0x80),
    fc.oneof(
      fc.nat(511),
      fc.nat(2 ** 18 - 1),
      fc.nat(2 ** 27 - 1),
      fc.double({ min: 0, max: 2 ** 52 - 1, noNaN: true }),
    ),
    fc.nat(127),
  ),
  { minLength: 1, maxLength: 50 },
);

interface Leaf {
  readonly first: number;
  readonly pages: number;
}

/** Every page that a valid path of the tables maps, found slowly and without caches. */
const leavesBelow = (
  i32: Int32Array,
  table: number,
  level: number,
  out = new Map<string, Leaf>(),
  seen = new Set<number>(),
): Map<string, Leaf> => {
  if (level < 1 || table < BASE || table >= BASE + PAGES * 4096) return out;
  if (seen.has(table + level)) return out;
  seen.add(table + level);
  for (let index = 0; index < 512; index++) {
    const at = (table - BASE + index * 8) >>> 2;
    const word = (BigInt((i32[at + 1] as number) >>> 0) << 32n) | BigInt((i32[at] as number) >>> 0);
    if ((word & 1n) === 0n) continue;
    const next = Number((word >> 9n) & 7n);
    const address = word & 0xf_ffff_ffff_f000n;
    if (next > 0 && next < level) leavesBelow(i32, Number(address), next, out, seen);
    if (next !== 0 && next !== 7) continue;
    let sizeLg2 = 3 + 9 * level;
    if (next === 7) {
      sizeLg2 = 13;
      while ((address >> BigInt(sizeLg2 - 1)) & 1n) sizeLg2++;
    }
    const pages = 2 ** (sizeLg2 - 12);
    const frame = Number(address >> 12n);
    const first = frame - (frame % pages);
    out.set(`${first} ${pages}`, { first, pages });
  }
  return out;
};

describe('hostile memory', () => {
  test('random tables, entries and requests: an answer in bounded time, inside what paths map', () => {
    let translated = 0;
    fc.assert(
      fc.property(
        fc.array(entry, { minLength: 64, maxLength: 512 }),
        fc.constantFrom(0, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 7),
        fc.nat(3).map((n) => n === 0),
        fc.nat(0xffff),
        requests,
        (entries, mode, damaged, junk, list) => {
          const { unit, region, store } = boot();
          for (let at = 0; at < 32 * 512; at++) {
            store(TABLES + at * 8, entries[(at * 7) % entries.length] as [number, number]);
          }
          const dte = encode(DTE, { V: 1, TV: 1, MODE: mode, HOST_ROOT: TABLES, IR: 1, IW: 1 });
          if (damaged) dte[junk % 8] = ((dte[junk % 8] as number) ^ (junk << 7)) >>> 0;
          store(DTE_PA, dte);
          const leaves = [...leavesBelow(region.i32, TABLES, mode).values()];
          for (const [rid, iova, access] of list) {
            const pfn = Math.floor(iova);
            const frame = unit.translatePage(rid, -1, pfn, access);
            expect(Number.isSafeInteger(frame)).toBe(true);
            const plain = rid === RID && !damaged && mode > 0;
            if (frame < 0 || !plain || (pfn >= 0xfee00 && pfn <= 0xfeeff)) continue;
            const mapped = leaves.some(
              ({ first, pages }) => frame >= first && frame < first + pages,
            );
            expect(mapped).toBe(true);
            translated++;
          }
        },
      ),
      { numRuns: 200 },
    );
    // The property is not empty: many requests get through.
    expect(translated).toBeGreaterThan(20);
  });

  test('random commands and register writes: no exception, no endless loop', () => {
    const write = fc.tuple(
      fc.constantFrom(
        0,
        8,
        0x10,
        0x18,
        0x20,
        0x28,
        0x100,
        0x158,
        0x2000,
        0x2008,
        0x2010,
        0x2018,
        0x2020,
        0x3000,
      ),
      fc.oneof(word, fc.constantFrom(0x1005, 0x10, 0x80, BASE, LOG)),
      fc.oneof(word, fc.constantFrom(0, 0x0800_0000)),
      fc.boolean(),
    );
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(
            word,
            fc.oneof(
              word,
              fc.nat(15).map((op) => op << 28),
            ),
            word,
            word,
          ),
          { maxLength: 64 },
        ),
        fc.array(write, { maxLength: 40 }),
        requests,
        (commands, writes, list) => {
          const { unit, store } = boot();
          commands.forEach((words, at) => {
            store(COMMANDS + at * 16, words);
          });
          unit.writeReg32(0x2008, commands.length * 16);
          for (const [offset, lo, hi, wide] of writes) {
            if (wide) unit.writeReg64(offset, lo, hi);
            else unit.writeReg32(offset, lo);
          }
          for (const [rid, iova, access] of list) {
            unit.translatePage(rid, -1, Math.floor(iova), access);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  test('caches smaller than the working set answer as an uncached walk does', () => {
    fc.assert(
      fc.property(
        fc.array(entry, { minLength: 64, maxLength: 512 }),
        fc.array(fc.nat(512 * 512 - 1), { minLength: 20, maxLength: 200 }),
        (entries, pfns) => {
          const { unit, store } = boot();
          // Copies of a sized leaf must agree (NextLevel 7), which random ones do not.
          entries.forEach(([lo, hi], at) => {
            store(TABLES + at * 8, [((lo >>> 9) & 7) === 7 ? lo & ~1 : lo, hi]);
          });
          store(DTE_PA, encode(DTE, { V: 1, TV: 1, MODE: 2, HOST_ROOT: TABLES, IR: 1, IW: 1 }));
          const cached = pfns.concat(pfns).map((pfn) => unit.translatePage(RID, -1, pfn, 1));
          const fresh = pfns.concat(pfns).map((pfn) => {
            unit.caches.invalidateAll();
            return unit.translatePage(RID, -1, pfn, 1);
          });
          expect(cached).toEqual(fresh);
        },
      ),
      { numRuns: 100 },
    );
  });
});

test('INVALIDATE_IOMMU_ALL in a full ring of 256 commands runs once each', () => {
  const { unit, store } = boot();
  const all = encode(INVALIDATE_IOMMU_ALL, { OPCODE: COMMAND.INVALIDATE_IOMMU_ALL });
  for (let at = 0; at < 256; at++) store(COMMANDS + at * 16, all);
  unit.writeReg32(0x2008, 255 * 16);
  expect(unit.readReg32(0x2000)).toBe(255 * 16);
  unit.writeReg32(0x2008, 254 * 16);
  expect(unit.readReg32(0x2000)).toBe(254 * 16);
});
