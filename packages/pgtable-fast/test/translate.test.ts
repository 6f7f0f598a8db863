import { describe, expect, test } from 'vitest';
import { amdV1, createPool, createTable, PROT, vtdSecondStage } from '../src/index.ts';
import { VARIANTS, type Variant } from './formats-under-test.ts';
import { compareLookUps } from './look-ups.ts';
import { ReferenceTable } from './reference.ts';

const RW = PROT.READ | PROT.WRITE;

/** One leaf of each size at the start, in the middle and at the end of the input range, outputs at both ends. */
function fill(variant: Variant, build: 'simd' | 'scalar' | 'shared') {
  const pool = createPool({ build, ...(build === 'shared' && { shared: true }) });
  const table = createTable(pool, variant.format);
  const model = new ReferenceTable(variant.reference);
  const { vaLimit, oaLimit, sizes, signExtended } = variant.reference;
  const top = signExtended ? 1n << 52n : vaLimit;
  for (const lg2 of sizes) {
    const frames = 1n << BigInt(lg2);
    if (frames > vaLimit / 8n || frames > oaLimit) continue;
    const third = (vaLimit / 3n / frames) * frames;
    for (const va of [frames * 2n, third, top - frames * 2n]) {
      const oa = va === third ? 0n : oaLimit - frames;
      const errno = model.map(va, [[oa, frames]], RW);
      expect(table.mapRange(Number(va), Number(oa), Number(frames), RW)).toBe(errno);
    }
  }
  return { table, model };
}

const DEEPER: Variant[] = [1, 2, 3, 4, 5, 6].map((levels) => {
  const like = VARIANTS.find(({ format }) => format.name === 'amd-v1') as Variant;
  const vaLimit = 1n << BigInt(Math.min(9 * levels, 52));
  return {
    ...like,
    title: `amd-v1 of ${levels} levels that does not grow`,
    format: amdV1({ levels, maxLevels: levels }),
    reference: { ...like.reference, vaLimit },
  };
});

describe.each(['simd', 'scalar', 'shared'] as const)('leaves of every size, %s build', (build) => {
  test.each([...VARIANTS, ...DEEPER].map((v) => [v.title, v] as const))('%s', (_, variant) => {
    const { table, model } = fill(variant, build);
    expect(model.leaves.length).toBeGreaterThan(0);
    compareLookUps(table, model, variant);
  });
});

test('a batch that leaves a table and comes back sees each one', () => {
  const table = createTable(createPool(), vtdSecondStage({ levels: 4 }));
  const gib = 2 ** 18;
  table.mapRange(0, 5, 1, RW);
  table.mapRange(gib, 6, 1, RW);
  table.mapRange(3 * gib, 2 ** 39, gib, RW);
  const asked = Float64Array.of(0, gib, 0, 2 * gib, gib, 3 * gib + 7, 1, 0, 2 ** 36, gib);
  const out = new Float64Array(asked.length);
  table.translateBatch(asked, out, asked.length);
  expect([...out]).toEqual([5, 6, 5, -1, 6, 2 ** 39 + 7, -1, 5, -1, 6]);
});

test('a batch after an unmap and a remap finds the new tables', () => {
  const table = createTable(createPool(), vtdSecondStage({ levels: 3 }));
  const iova = Float64Array.of(700);
  const out = new Float64Array(1);
  for (let n = 0; n < 3; n++) {
    expect(table.mapRange(0, n, 2 ** 18 - 1, RW)).toBe(0);
    table.translateBatch(iova, out, 1);
    expect(out[0]).toBe(700 + n);
    expect(table.unmapRange(0, 2 ** 18)).toBe(2 ** 18 - 1);
    table.freeTables(table.takeFreedTables());
    table.translateBatch(iova, out, 1);
    expect(out[0]).toBe(-1);
  }
});

test('a destroyed table finds nothing', () => {
  const pool = createPool();
  for (const format of [vtdSecondStage({ levels: 4 }), amdV1()]) {
    const table = createTable(pool, format);
    table.mapRange(0, 5, 4096, RW);
    table.destroy();
    const iovas = Float64Array.from({ length: 600 }, (_, i) => i * 97);
    expect(iovas.every((iova) => table.translate(iova) === -1)).toBe(true);
    const out = new Float64Array(600);
    table.translateBatch(iovas, out, 600);
    expect(out.every((frame) => frame === -1)).toBe(true);
  }
});
