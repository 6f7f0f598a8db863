/** Random operations on a table and on the reference, compared after every step and in whole at the end. */
import fc from 'fast-check';
import { expect } from 'vitest';
import {
  createPool,
  createTable,
  createWalkTrace,
  DIRTY,
  type EngineBuild,
  type LeafRecord,
  type PageTable,
  type PageTablePool,
  PROT,
  vtdSecondStage,
} from '../src/index.ts';
import type { Variant } from './formats-under-test.ts';
import { compareLookUps, compareNear } from './look-ups.ts';
import { type Leaf, ReferenceTable } from './reference.ts';

export type Op =
  | { kind: 'map'; va: bigint; oa: bigint; count: bigint; prot: number; smallest: boolean }
  | { kind: 'runs'; va: bigint; runs: [bigint, bigint][]; prot: number }
  | { kind: 'list'; va: bigint; oas: bigint[]; prot: number }
  | { kind: 'unmap'; va: bigint; count: bigint }
  | { kind: 'access'; va: bigint; write: boolean }
  | { kind: 'dirty'; va: bigint; count: bigint; clear: boolean; offset: number; lg2: number }
  | { kind: 'split'; va: bigint; size: number }
  | { kind: 'merge'; va: bigint; count: bigint; size: number }
  | { kind: 'singles'; va: bigint; oa: bigint; steps: Single[] }
  | { kind: 'free' }
  | { kind: 'grow' };

/** One granule mapped or unmapped, so many granules behind the operation's start. */
interface Single {
  map: boolean;
  slot: bigint;
  prot: number;
}

/** Frames near the borders of every level of the format, inside and just outside its range. */
function frames(
  limit: bigint,
  granule: bigint,
  levelBits: number,
  signExtended: boolean,
): fc.Arbitrary<bigint> {
  const level = (n: number) => granule << BigInt(levelBits * n);
  const bases = [
    0n,
    level(1),
    level(1) * 3n,
    level(2),
    level(2) - level(1),
    limit - level(1),
    limit / 2n,
  ];
  if (signExtended) bases.push((1n << 52n) - level(1), (1n << 52n) - limit / 2n);
  return fc
    .tuple(
      fc.constantFrom(...bases),
      fc.oneof(fc.integer({ min: -4, max: 8 }), fc.integer({ min: -40, max: 600 })),
    )
    .map(([base, slots]) => base + BigInt(slots) * granule)
    .filter((frame) => frame >= 0n);
}

function ops(variant: Variant): fc.Arbitrary<Op[]> {
  const { vaLimit, oaLimit, sizes, signExtended = false } = variant.reference;
  const granule = 1n << BigInt(sizes[0] as number);
  const levelBits = variant.format.decoder.levelBits;
  const va = frames(vaLimit, granule, levelBits, signExtended);
  const oa = frames(oaLimit < 1n << 36n ? oaLimit : 1n << 36n, granule, levelBits, false);
  const size = fc.constantFrom(
    ...sizes.filter((lg2) => lg2 <= (sizes[0] as number) + 2 * levelBits + 1),
  );
  const count = fc.oneof(
    fc.integer({ min: 0, max: 5 }).map((n) => BigInt(n) * granule),
    fc.integer({ min: 1, max: 1300 }).map((n) => BigInt(n) * granule),
    size.map((lg2) => 1n << BigInt(lg2)),
    fc
      .tuple(size, fc.integer({ min: -2, max: 9 }))
      .map(([lg2, n]) => (1n << BigInt(lg2)) + BigInt(n) * granule)
      .filter((n) => n >= 0n),
  );
  const few = fc.integer({ min: 1, max: 700 }).map((n) => BigInt(n) * granule);
  const prot = fc.constantFrom(...variant.prots);
  const run = fc.tuple(oa, few);
  // Mostly neighbours: in one leaf table, in the next one, and in one of the next table above.
  const single: fc.Arbitrary<Single> = fc.record({
    map: fc.boolean(),
    slot: fc
      .tuple(
        fc.constantFrom(0, 0, 0, 0, 1 << levelBits, 1 << (2 * levelBits)),
        fc.integer({ min: 0, max: 7 }),
      )
      .map(([base, near]) => BigInt(base + near)),
    prot: fc.oneof({ weight: 4, arbitrary: fc.constant(variant.prots[0] as number) }, prot),
  });
  // Half of all addresses share a phase with their output, so that large pages come about.
  const aligned = fc
    .tuple(va, fc.boolean(), oa)
    .map(([a, same, b]) => ({ va: a, oa: same ? a % oaLimit : b }));
  const op: fc.Arbitrary<Op> = fc.oneof(
    {
      weight: 6,
      arbitrary: fc
        .record({
          kind: fc.constant('map' as const),
          at: aligned,
          count,
          prot,
          smallest: fc.boolean(),
        })
        .map(({ at, ...rest }) => ({ ...rest, ...at })),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('runs' as const),
        va,
        runs: fc.array(run, { minLength: 1, maxLength: 5 }),
        prot,
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('list' as const),
        va,
        oas: fc.array(oa, { minLength: 1, maxLength: 20 }),
        prot,
      }),
    },
    { weight: 5, arbitrary: fc.record({ kind: fc.constant('unmap' as const), va, count }) },
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant('access' as const), va, write: fc.boolean() }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant('dirty' as const),
        va,
        count: few,
        clear: fc.boolean(),
        offset: fc.integer({ min: 0, max: 17 }),
        lg2: fc.constantFrom(0, 0, 1, 3, 9),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('split' as const), va, size }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('merge' as const), va, count, size }) },
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constant('singles' as const),
        va,
        oa,
        steps: fc.array(single, { minLength: 4, maxLength: 30 }),
      }),
    },
    { weight: 1, arbitrary: fc.constant({ kind: 'free' as const }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'grow' as const }) },
  );
  return fc.array(op, { minLength: 1, maxLength: 30 });
}

/** Whether a split of the leaf would make more leaves than the slow reference should hold. */
const tooMany = (leaf: Leaf | undefined, size: number) =>
  leaf !== undefined && leaf.size - size > 10;

function step(table: PageTable, model: ReferenceTable, variant: Variant, op: Op): void {
  const prot = 'prot' in op ? op.prot : 0;
  switch (op.kind) {
    case 'map': {
      if (model.leavesFor(op.va, op.oa, op.count, op.smallest) > 2500) break;
      const flags = op.smallest ? PROT.SMALLEST_PAGES : 0;
      const expected = model.map(op.va, [[op.oa, op.count]], variant.normalise(prot), flags !== 0);
      expect(table.mapRange(Number(op.va), Number(op.oa), Number(op.count), prot | flags)).toBe(
        expected,
      );
      break;
    }
    case 'runs': {
      const flat = Float64Array.from(op.runs.flat(), Number);
      expect(table.mapRuns(Number(op.va), flat, op.runs.length, prot)).toBe(
        model.map(op.va, op.runs, variant.normalise(prot)),
      );
      break;
    }
    case 'list': {
      const granule = 1n << BigInt(variant.reference.sizes[0] as number);
      const runs: [bigint, bigint][] = [];
      for (const oa of op.oas) {
        const last = runs.at(-1);
        if (last && last[0] + last[1] === oa) last[1] += granule;
        else runs.push([oa, granule]);
      }
      const list = Float64Array.from(op.oas, Number);
      expect(table.mapList(Number(op.va), list, list.length, prot)).toBe(
        model.map(op.va, runs, variant.normalise(prot)),
      );
      break;
    }
    case 'unmap':
      expect(table.unmapRange(Number(op.va), Number(op.count))).toBe(model.unmap(op.va, op.count));
      break;
    case 'access':
      expect(table.setAccessedDirty(Number(op.va), op.write)).toBe(model.access(op.va, op.write));
      break;
    case 'dirty': {
      if (!model.inRange(op.va, op.count)) break;
      const bitmap = new Uint8Array(Math.ceil(Number(op.count) / 8) + 4);
      const found = table.readAndClearDirty(
        Number(op.va),
        Number(op.count),
        bitmap,
        op.offset,
        op.clear ? 0 : DIRTY.NO_CLEAR,
        op.lg2,
      );
      const frames = model.dirty(op.va, op.count, false).filter(Boolean).length;
      const bits = model.dirty(op.va, op.count, op.clear, op.lg2);
      expect(found).toBe(frames);
      const expected = new Uint8Array(bitmap.length);
      bits.forEach((bit, i) => {
        const at = op.offset + i;
        if (bit) expected[at >> 3] = (expected[at >> 3] as number) | (1 << (at & 7));
      });
      expect(Buffer.from(bitmap).equals(Buffer.from(expected))).toBe(true);
      break;
    }
    case 'split':
      if (tooMany(model.at(op.va), op.size)) break;
      expect(table.splitLeaf(Number(op.va), op.size + variant.format.frameLg2)).toBe(
        model.split(op.va, op.size),
      );
      break;
    case 'merge':
      if (
        !model.inRange(op.va, op.count) ||
        op.count > 4096n << BigInt(variant.reference.sizes[0] as number)
      )
        break;
      expect(
        table.mergeLeaves(Number(op.va), Number(op.count), op.size + variant.format.frameLg2),
      ).toBeGreaterThanOrEqual(0);
      model.merge(op.va, op.count, op.size);
      break;
    case 'singles':
      for (const single of op.steps) stepSingle(table, model, variant, op, single);
      break;
    case 'free':
      table.freeTables(table.takeFreedTables());
      break;
    case 'grow':
      break; // the pool's, not the table's
  }
}

function stepSingle(
  table: PageTable,
  model: ReferenceTable,
  variant: Variant,
  { va: start, oa: output }: { va: bigint; oa: bigint },
  { map, slot, prot }: Single,
): void {
  const granule = 1n << BigInt(variant.reference.sizes[0] as number);
  const va = start + slot * granule;
  const oa = output + slot * granule;
  if (map) {
    const expected = model.map(va, [[oa, granule]], variant.normalise(prot));
    expect(table.mapRange(Number(va), Number(oa), Number(granule), prot)).toBe(expected);
  } else {
    expect(table.unmapRange(Number(va), Number(granule))).toBe(model.unmap(va, granule));
  }
}

/** Everything that can be read from the table against the reference. */
function compare(table: PageTable, model: ReferenceTable, variant: Variant): void {
  const leaf: LeafRecord = { iovaPfn: 0, oaPfn: 0, pages: 0, level: 0, wordLo: 0, wordHi: 0 };
  const trace = createWalkTrace();
  let from = 0;
  let checked = 0;
  const stride = Math.ceil(model.leaves.length / 60);
  for (const expected of model.sorted()) {
    const found = table.nextLeaf(from, 2 ** 52, leaf);
    from = leaf.iovaPfn + leaf.pages;
    const last = table.translate(from - 1);
    const want = [
      true,
      Number(expected.va),
      Number(expected.oa),
      2 ** expected.size,
      Number(expected.oa) + leaf.pages - 1,
    ];
    const got = [found, leaf.iovaPfn, leaf.oaPfn, leaf.pages, last];
    if (got.join() !== want.join()) expect(got).toEqual(want);
    if (checked++ % stride === 0) compareSlots(table, variant, expected, trace);
  }
  expect(from < 2 ** 52 && table.nextLeaf(from, 2 ** 52, leaf)).toBe(false);
  const mapped = model.leaves.reduce((sum, { size }) => sum + 2 ** size, 0);
  expect(table.stats().mappedPages).toBe(mapped);
}

/** First and last slot of a leaf: walk result, and the words against the layouts. */
function compareSlots(
  table: PageTable,
  variant: Variant,
  expected: Leaf,
  trace: ReturnType<typeof createWalkTrace>,
): void {
  const slots = (1n << BigInt(expected.size)) / variant.slotFrames(expected);
  for (const slot of new Set([0, Number(slots) - 1])) {
    const offset = BigInt(slot) * variant.slotFrames(expected);
    expect(table.walk(Number(expected.va + offset), trace)).toBe(Number(expected.oa + offset));
    expect(trace.pageLg2).toBe(expected.size + variant.format.frameLg2);
    const last = trace.steps - 1;
    const words = variant.words(expected, slot);
    const status =
      slots > 1n ? variant.words({ ...expected, accessed: !expected.accessed }, slot) : words;
    const found = [trace.wordLo[last], trace.wordHi[last]];
    // Of several copies hardware marks only the one it used.
    const close = [
      words,
      status,
      variant.words({ ...expected, dirty: !expected.dirty }, slot),
      variant.words({ ...expected, accessed: !expected.accessed, dirty: !expected.dirty }, slot),
    ];
    if (slots === 1n) expect(found).toEqual([...words]);
    else expect(close.map((pair) => [...pair])).toContainEqual(found);
  }
}

/** A table under test, and what it must be equal to. */
interface Subject {
  table: PageTable;
  model: ReferenceTable;
}

/** Makes the memory of the pool grow, whatever it is now: views and buffers of before are gone. */
function grow(pool: PageTablePool, hog: PageTable): void {
  const { totalBytes } = pool.stats();
  for (let i = 0; pool.stats().totalBytes === totalBytes; i++) {
    hog.unmapRange(0, 2 ** 27);
    hog.freeTables(hog.takeFreedTables());
    expect(hog.mapRange(0, 1, (i + 1) * 2 ** 17, PROT.READ)).toBe(0);
  }
  hog.unmapRange(0, 2 ** 27);
  hog.freeTables(hog.takeFreedTables());
}

/**
 * One property run: a fresh pool with as many tables as there are sequences, their operations in turn,
 * the comparison, and no page lost in the end.
 */
export function checkSequences(variant: Variant, sequences: Op[][], build?: EngineBuild): void {
  const pool = createPool({
    maxBytes: 64 << 20,
    ...(build && { build }),
    ...(build === 'shared' && { shared: true }),
  });
  const before = pool.stats().usedBytes;
  const subjects: Subject[] = sequences.map(() => ({
    table: createTable(pool, variant.format),
    model: new ReferenceTable(variant.reference),
  }));
  const hog = createTable(pool, vtdSecondStage({ levels: 3 }));
  const rounds = Math.max(...sequences.map((sequence) => sequence.length));
  let grown = false;
  for (let i = 0; i < rounds; i++) {
    for (const [at, { table, model }] of subjects.entries()) {
      const op = sequences[at]?.[i];
      if (op === undefined) continue;
      if (op.kind !== 'grow') step(table, model, variant, op);
      else if (!grown) {
        grow(pool, hog);
        grown = true;
      }
      compareNear(table, model, variant, sequences[at]?.slice(0, i + 1) ?? []);
    }
  }
  for (const [at, { table, model }] of subjects.entries()) {
    compare(table, model, variant);
    compareLookUps(table, model, variant);
    compareRuns(table, model, variant, sequences[at] as Op[]);
    table.destroy();
  }
  hog.destroy();
  expect(pool.stats().usedBytes - before).toBe(4096); // the page of control blocks
}

/** Read-back where the first operation was. */
function compareRuns(
  table: PageTable,
  model: ReferenceTable,
  variant: Variant,
  sequence: Op[],
): void {
  const count = 1024n << BigInt(variant.reference.sizes[0] as number);
  const out = new Float64Array(4096);
  for (const op of sequence) {
    if (!('va' in op) || !model.inRange(op.va, count)) continue;
    const runs = table.readRuns(Number(op.va), Number(count), out);
    expect([...out.subarray(0, runs * 2)]).toEqual(model.runs(op.va, count).flat());
    return;
  }
}

/** One property run with one table. */
export function checkSequence(variant: Variant, sequence: Op[], build?: EngineBuild): void {
  checkSequences(variant, [sequence], build);
}

export { ops };
