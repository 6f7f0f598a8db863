import { encode } from '@iommukit/bits';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SmmuHardware } from '../src/hardware/iommu.ts';
import type { HardwareRegion } from '../src/hardware/memory.ts';
import { CD, STE } from '../src/spec/index.ts';

const BASE = 0x4000_0000;
const PAGES = 64;
const BYTES = PAGES * 4096;
const SID = 0x20;
const STE_PA = BASE + SID * 64;
const CD_PA = BASE + 0x3c000;
const TABLES = BASE + 0x4000;
const TABLE_PAGES = 32;
const COMMANDS = BASE + 0x3e000;
const EVENTS = BASE + 0x3f000;

/** RAM that refuses addresses no bus has: the hardware must not compute any. */
const boot = () => {
  const region: HardwareRegion = { base: BASE, size: BYTES, i32: new Int32Array(BYTES / 4) };
  const regionAt = (pa: number) => {
    if (!(Number.isSafeInteger(pa) && pa >= 0 && pa < 2 ** 52 && pa % 4 === 0)) {
      throw new Error(`an address that no bus has: ${pa}`);
    }
    return pa >= BASE && pa < BASE + BYTES ? region : undefined;
  };
  const unit = new SmmuHardware({
    memory: { regionAt },
    caches: { configEntries: 4, tlbEntries: 32 },
    bus: { raiseMessage: () => undefined },
  });
  unit.writeReg64(0x80, BASE, 0);
  unit.writeReg32(0x88, 8);
  unit.writeReg64(0x90, COMMANDS | 8, 0);
  unit.writeReg64(0xa0, EVENTS | 4, 0);
  unit.writeReg32(0x20, 0xd);
  const store = (pa: number, words: ArrayLike<number>) => region.i32.set(words, (pa - BASE) >>> 2);
  return { unit, store };
};

const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const VALID_LEAF = 0x7c0;
/** Descriptors that look right more often than not: tables and leaves in RAM near by. */
const descriptor = fc.oneof(
  { weight: 1, arbitrary: fc.tuple(word, word) },
  {
    weight: 8,
    arbitrary: fc
      .tuple(
        fc.constantFrom(0, 1, 3, 3, 3),
        fc.nat(TABLE_PAGES - 1),
        fc.constantFrom(0x7c0, 0x740, 0x7c0, 0x3c0),
      )
      .map(([type, page, bits]) => [type | bits | (TABLES + page * 4096), 0] as [number, number]),
  },
);
const likely = <T>(usual: T, ...others: readonly T[]) =>
  fc.oneof({ weight: 8, arbitrary: fc.constant(usual) }, fc.constantFrom(...others));
const READ = 1;
const requests = fc.array(
  fc.tuple(
    likely(SID, SID + 1, 0x1000),
    likely(-1, 0, 5),
    fc.oneof(
      { weight: 3, arbitrary: fc.nat(511) },
      { weight: 3, arbitrary: fc.nat(2 ** 18 - 1) },
      fc.nat(2 ** 27 - 1),
      fc.double({ min: 0, max: 2 ** 52 - 1, noNaN: true }),
    ),
    fc.oneof(fc.constant(READ), fc.nat(127)),
  ),
  { minLength: 10, maxLength: 50 },
);

const stage2 = (tg: number, sl0: number, t0sz: number) => ({
  S2VMID: 7,
  S2T0SZ: t0sz,
  S2SL0: sl0,
  S2TG: tg,
  S2PS: 5,
  S2AA64: 1,
  S2R: 1,
  S2TTB: TABLES,
});
const context = (tg: number, t0sz: number) =>
  encode(CD, { V: 1, T0SZ: t0sz, TG0: tg, EPD1: 1, IPS: 5, AA64: 1, R: 1, A: 1, TTB0: TABLES });

interface Leaf {
  readonly first: number;
  readonly pages: number;
}

/** Every page that any descriptor maps at some level: a path ends in one of them, or nowhere. */
const everyLeaf = (descriptors: readonly (readonly [number, number])[]): Leaf[] => {
  const leaves = new Map<string, Leaf>();
  for (const [lo, hi] of descriptors) {
    if ((lo & 1) === 0) continue;
    const frame = (hi & 0xffff) * 2 ** 20 + (lo >>> 12);
    for (const sizeLg2 of [12, 14, 16, 21, 25, 29, 30]) {
      const pages = 2 ** (sizeLg2 - 12);
      const first = frame - (frame % pages);
      leaves.set(`${first} ${pages}`, { first, pages });
    }
  }
  return [...leaves.values()];
};

/** Granule code, S2SL0, S2T0SZ: shapes that are legal, and any. */
const shape = fc.oneof(
  fc.constantFrom<[number, number, number]>(
    [0, 1, 25],
    [0, 1, 30],
    [0, 0, 34],
    [1, 1, 24],
    [2, 1, 30],
  ),
  fc.tuple(fc.constantFrom(0, 1, 2), fc.nat(3), fc.integer({ min: 16, max: 39 })),
);

describe('hostile memory', () => {
  /** Run with one seed, or any; how many requests got through. */
  const translateAnything = (options: { readonly seed?: number }): number => {
    let translated = 0;
    fc.assert(
      fc.property(
        fc.array(descriptor, { minLength: 64, maxLength: 512 }),
        fc.tuple(fc.constantFrom(5, 6, 6, 7), shape),
        fc.tuple(fc.nat(3), fc.nat(15), fc.nat(31)),
        requests,
        (descriptors, [CONFIG, [tg, sl0, t0sz]], [damage, at, bit], list) => {
          const { unit, store } = boot();
          for (let n = 0; n < TABLE_PAGES * 512; n++) {
            store(TABLES + n * 8, descriptors[(n * 7) % descriptors.length] as [number, number]);
          }
          store(CD_PA, context(tg, t0sz));
          const s2 = CONFIG === 5 ? {} : stage2(tg, sl0, t0sz);
          const ste = encode(STE, { V: 1, CONFIG, S1CONTEXTPTR: CD_PA, ...s2 });
          if (damage === 0) ste[at] = ((ste[at] as number) ^ (1 << bit)) >>> 0;
          store(STE_PA, ste);
          const leaves = everyLeaf(descriptors);
          for (const [sid, ssid, iova, access] of list) {
            const frame = unit.translatePage(sid, ssid, Math.floor(iova), access);
            expect(Number.isSafeInteger(frame)).toBe(true);
            if (frame < 0 || damage === 0 || sid !== SID) continue;
            const mapped = leaves.some(
              ({ first, pages }) => frame >= first && frame < first + pages,
            );
            expect(mapped).toBe(true);
            translated++;
          }
        },
      ),
      { numRuns: 200, ...options },
    );
    return translated;
  };

  test('random tables, STE, CD and requests: an answer in bounded time, inside what descriptors map', () => {
    translateAnything({});
  });

  test('the same with one seed: the property is not empty, many requests get through', () => {
    expect(translateAnything({ seed: 1 })).toBeGreaterThan(200);
  });

  test('random commands and register writes: no exception, no endless loop', () => {
    const offset = fc.constantFrom(
      0x20,
      0x2c,
      0x44,
      0x50,
      0x60,
      0x64,
      0x68,
      0x80,
      0x88,
      0x90,
      0x98,
      0x9c,
      0xa0,
      0xb0,
      0xb8,
      0x100a8,
      0x100ac,
      0x4000,
    );
    const value = fc.oneof(
      word,
      fc.constantFrom(0, 0xc, 0xd, 8, 0x10008, COMMANDS | 8, EVENTS | 4),
    );
    const opcode = fc.constantFrom(
      1,
      2,
      3,
      4,
      5,
      6,
      0x10,
      0x11,
      0x12,
      0x13,
      0x28,
      0x2a,
      0x30,
      0x46,
      0x46,
    );
    const command = fc
      .tuple(fc.oneof(opcode, word), word, word, word)
      .map(([w0, ...rest]) => [w0, ...rest]);
    fc.assert(
      fc.property(
        fc.array(command, { maxLength: 64 }),
        fc.array(fc.tuple(offset, value, value, fc.boolean()), { maxLength: 40 }),
        requests,
        (commands, writes, list) => {
          const { unit, store } = boot();
          commands.forEach((words, at) => {
            store(COMMANDS + at * 16, words);
          });
          unit.writeReg32(0x98, commands.length);
          for (const [register, lo, hi, wide] of writes) {
            if (wide) unit.writeReg64(register, lo, hi);
            else unit.writeReg32(register, lo);
          }
          for (const [sid, ssid, iova, access] of list) {
            unit.translatePage(sid, ssid, Math.floor(iova), access);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  test.each([5, 6, 7])(
    'Config %i: caches smaller than the working set answer as an uncached walk does',
    (CONFIG) => {
      fc.assert(
        fc.property(
          fc.array(descriptor, { minLength: 64, maxLength: 512 }),
          fc.array(fc.nat(2 ** 18 - 1), { minLength: 20, maxLength: 100 }),
          (descriptors, pfns) => {
            const { unit, store } = boot();
            for (let n = 0; n < TABLE_PAGES * 512; n++) {
              store(TABLES + n * 8, descriptors[(n * 7) % descriptors.length] as [number, number]);
            }
            // RAM is mapped one to one for the table accesses of a nested walk.
            const block = (BASE & 0x3fff_ffff) | VALID_LEAF | 0x4000_0000 | 1;
            store(TABLES + 8, [block, 0]);
            store(CD_PA, context(0, 34));
            const s2 = CONFIG === 5 ? {} : stage2(0, 1, 25);
            store(STE_PA, encode(STE, { V: 1, CONFIG, S1CONTEXTPTR: CD_PA, ...s2 }));
            const list = pfns.concat(pfns);
            const cached = list.map((pfn) => unit.translatePage(SID, -1, pfn, 1));
            const fresh = list.map((pfn) => {
              unit.caches.invalidateAll();
              return unit.translatePage(SID, -1, pfn, 1);
            });
            expect(cached).toEqual(fresh);
          },
        ),
        { numRuns: 50 },
      );
    },
  );
});
