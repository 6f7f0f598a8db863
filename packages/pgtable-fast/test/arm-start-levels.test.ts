/** Every input width of every granule, and every start level of stage 2, by the rules of the architecture. */
import { describe, expect, test } from 'vitest';
import {
  armStage1,
  armStage2,
  createPool,
  createTable,
  createWalkTrace,
  ERRNO,
  type PageTableFormat,
  PROT,
} from '../src/index.ts';

const RW = PROT.READ | PROT.WRITE;
const trace = createWalkTrace();

/** First and last page of the input: found by look-ups and walks that start where they should; nothing behind. */
function checkEnds(format: PageTableFormat, startLevel: number, rootBits: number): void {
  const pool = createPool({ maxBytes: 16 << 20 });
  const table = createTable(pool, format);
  const granule = 2 ** (format.granuleLg2 - 12);
  const last = 2 ** (format.iovaBits - 12) - granule;
  expect(format.rootEntries).toBe(2 ** rootBits);
  // A root is aligned to its size (Arm ARM D8.2).
  expect(table.rootPa % 2 ** (rootBits + 3)).toBe(0);
  expect(table.mapRange(0, 3 * granule, granule, RW)).toBe(0);
  if (last > 0) expect(table.mapRange(last, 5 * granule, granule, RW)).toBe(0);
  expect(table.mapRange(last + granule, granule, granule, RW)).toBe(ERRNO.ERANGE);
  expect(table.translate(last)).toBe(last === 0 ? 3 * granule : 5 * granule);
  expect(table.translate(last + granule)).toBe(-1);
  expect(table.walk(last, trace)).toBe(last === 0 ? 3 * granule : 5 * granule);
  expect(trace.level[0]).toBe(3 - startLevel);
  expect(trace.steps).toBe(4 - startLevel);
  expect(trace.entryPa[0]).toBe(table.rootPa + 8 * (2 ** rootBits - 1));
  expect(table.unmapRange(0, last + granule)).toBe((last === 0 ? 1 : 2) * granule);
  table.destroy();
  expect(pool.stats().usedBytes).toBe(4096);
}

// Bits of a level, first level that exists, widest input: without and with 52-bit descriptors.
describe.each([
  [4096, 12, 9, 0, -1],
  [16384, 14, 11, 0, 0],
  [65536, 16, 13, 1, 1],
] as const)('granule %i (Arm ARM D8.2)', (granule, pageBits, levelBits, firstLevel, firstWide) => {
  const widths = Array.from({ length: 52 - pageBits }, (_, i) => pageBits + 1 + i);
  /** Bits that a root at `level` must resolve. */
  const rootBitsAt = (level: number, width: number) => width - pageBits - levelBits * (3 - level);

  test.each(widths)('stage 1, %i bits', (iovaBits) => {
    const start = 4 - Math.ceil((iovaBits - pageBits) / levelBits);
    expect(start).toBeGreaterThanOrEqual(iovaBits > 48 ? firstWide : firstLevel);
    const oaBits = iovaBits > 48 ? 52 : 48;
    const format = armStage1({ granule, iovaBits, oaBits });
    checkEnds(format, start, rootBitsAt(start, iovaBits));
  });

  test.each(widths)('stage 2, %i bits from every level', (iovaBits) => {
    const oaBits = iovaBits > 48 ? 52 : 48;
    let possible = 0;
    for (let startLevel = -1; startLevel <= 3; startLevel++) {
      const rootBits = rootBitsAt(startLevel, iovaBits);
      // One table, or up to sixteen in a row.
      const exists = startLevel >= firstWide && rootBits >= 1 && rootBits <= levelBits + 4;
      const make = () => armStage2({ granule, iovaBits, oaBits, startLevel });
      if (!exists) {
        expect(make).toThrow(/startLevel is -?\d, must be/);
        continue;
      }
      possible++;
      checkEnds(make(), startLevel, rootBits);
    }
    expect(possible).toBeGreaterThan(0);
  });
});
