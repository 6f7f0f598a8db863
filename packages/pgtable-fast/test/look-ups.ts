/** Look-ups one by one, in batches and as traced walks against the reference, at every border where a walk could go wrong. */
import { expect } from 'vitest';
import { createWalkTrace, type PageTable } from '../src/index.ts';
import type { Variant } from './formats-under-test.ts';
import type { ReferenceTable } from './reference.ts';

/** What is no input frame of any table: a look-up finds nothing. */
const NO_FRAMES = [
  -1,
  -(2 ** 31),
  -(2 ** 52),
  -(2 ** 60),
  2 ** 52,
  2 ** 52 + 2 ** 20,
  2 ** 53,
  2 ** 63,
  2 ** 64,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
];

const TOP = 1n << 52n;

/** Frames around the input range, the canonical halves and every level's borders. */
function borders({ format, reference }: Variant): bigint[] {
  const { vaLimit } = reference;
  const found = [0n, vaLimit, vaLimit / 2n, vaLimit * 2n, TOP - vaLimit / 2n, TOP];
  for (let level = 0; level <= 6; level++) {
    const { levelBits, granuleLg2 } = format.decoder;
    found.push(1n << BigInt(granuleLg2 + levelBits * level));
  }
  return found.flatMap((frame) => [frame - 1n, frame]);
}

/** Frames at and next to the ends of leaves, in an order that jumps between tables and back. */
function ends(model: ReferenceTable): bigint[] {
  const some = model.sorted().filter((_, i, all) => i % Math.ceil(all.length / 40) === 0);
  const each = some.map(({ va, size }) => {
    const end = va + (1n << BigInt(size));
    return [va - 1n, va, va + (end - va) / 3n, end - 1n, end];
  });
  return [0, 1, 2, 3, 4].flatMap((at) => each.map((frames) => frames[at] as bigint));
}

/** Every border and every sampled leaf: alone, traced, in one batch, backwards, in many short ones. */
export function compareLookUps(table: PageTable, model: ReferenceTable, variant: Variant): void {
  const frames = [...borders(variant), ...ends(model)].filter((f) => f >= 0n && f < TOP);
  const asked = [...frames.map(Number), ...NO_FRAMES];
  const expected = asked.map((_, i) => {
    const frame = frames[i];
    const leaf = frame === undefined ? undefined : model.at(frame);
    return leaf === undefined ? -1 : Number(leaf.oa + (frame as bigint) - leaf.va);
  });
  expect(asked.map((frame) => table.translate(frame))).toEqual(expected);
  const trace = createWalkTrace();
  expect(asked.map((frame) => Math.max(table.walk(frame, trace), -1))).toEqual(expected);
  for (const [iovas, wanted] of [
    [asked, expected],
    [[...asked].reverse(), [...expected].reverse()],
  ] as const) {
    const inOne = Float64Array.from(iovas);
    table.translateBatch(inOne, inOne, inOne.length);
    expect([...inOne]).toEqual(wanted);
    const out = new Float64Array(7);
    for (let at = 0; at < iovas.length; at += 7) {
      const some = Float64Array.from(iovas.slice(at, at + 7));
      table.translateBatch(some, out, some.length);
      expect([...out.subarray(0, some.length)]).toEqual(wanted.slice(at, at + 7));
    }
  }
}

/** Frames next to where the last operations were: enough look-ups for the table to know the place. */
export function compareNear(
  table: PageTable,
  model: ReferenceTable,
  variant: Variant,
  ops: readonly object[],
): void {
  const granule = 1n << BigInt(variant.reference.sizes[0] as number);
  const leafTable = granule << BigInt(variant.format.decoder.levelBits);
  const places = ops.flatMap((op) => ('va' in op ? [op.va as bigint] : [])).slice(-6);
  for (const va of places) {
    const frames = [va, va + granule, va + 5n * granule, va + leafTable, va - leafTable];
    for (const frame of frames.filter((f) => f >= 0n && f < TOP)) {
      const leaf = model.at(frame);
      const expected = leaf === undefined ? -1 : Number(leaf.oa + frame - leaf.va);
      for (let n = 0; n < 4; n++) {
        const found = table.translate(Number(frame));
        if (found !== expected) expect([frame, found]).toEqual([frame, expected]);
      }
    }
  }
}
