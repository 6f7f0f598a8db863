import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fromPair, lowOf, pfnOf } from '../src/iopt/address.ts';
import { IovaAllocator } from '../src/iopt/allocator.ts';
import { FAN_OUT } from '../src/iopt/area-nodes.ts';
import { AreaTree } from '../src/iopt/area-tree.ts';
import { GapSummary } from '../src/iopt/gap-summary.ts';
import { AllowedRanges, ReservedRanges } from '../src/iopt/reserved.ts';

/** Alignments that have a summary each, in pages: none below a page, one, four, a large page. */
const ALIGNMENTS = [0, 1, 4, 512];

/** Bytes from the first aligned one between two slots; the slow obvious way. */
const holeBefore = ({ nodes }: AreaTree, at: number, alignPages: number): number => {
  const end = BigInt(fromPair(nodes.lastPfn[at - 1] as number, nodes.lastLow(at - 1))) + 1n;
  const start = BigInt(fromPair(nodes.startPfn[at] as number, nodes.startLow(at)));
  if (alignPages === 0) return Number(start - end);
  const unit = BigInt(alignPages) * 4096n;
  return Math.max(0, Number(start - ((end + unit - 1n) / unit) * unit));
};

/** `expect` costs far more than a comparison, and there are millions of these. */
const same = (got: number, wanted: number) => {
  if (got !== wanted) expect(got).toBe(wanted);
};

/** Compare what a summary says of every node and slot with the holes that are there. */
const checkNode = (
  tree: AreaTree,
  summary: GapSummary,
  alignPages: number,
  node = tree.root,
  level = 0,
): number => {
  let best = 0;
  for (let slot = 0; slot < (tree.nodes.counts[node] as number); slot++) {
    const at = node * FAN_OUT + slot;
    let gap = slot === 0 ? 0 : holeBefore(tree, at, alignPages);
    if (level < tree.height - 1) {
      const child = tree.nodes.refs[at] as number;
      gap = Math.max(gap, checkNode(tree, summary, alignPages, child, level + 1));
      same(summary.at(node, slot, level), gap);
    }
    best = Math.max(best, gap);
  }
  same(summary.of(node, level), best);
  return best;
};

const newSummaries = (tree: AreaTree) =>
  ALIGNMENTS.map((alignPages) => ({ alignPages, summary: new GapSummary(tree, alignPages) }));

const checkAll = (tree: AreaTree, summaries: ReturnType<typeof newSummaries>) => {
  if (tree.height === 0) return;
  for (const { alignPages, summary } of summaries) checkNode(tree, summary, alignPages);
};

/** Bits of a change: where, and whether the summaries are asked for before the next one. */
const change = fc.record({
  page: fc.nat(400),
  pages: fc.constantFrom(1, 1, 1, 2, 3, 8),
  half: fc.boolean(),
  ask: fc.boolean(),
});

describe('largest holes per node, kept up to date as areas come and go', () => {
  it('are those of a count from scratch after every change (property)', () => {
    fc.assert(
      fc.property(fc.array(change, { minLength: 20, maxLength: 300, size: 'max' }), (changes) => {
        const tree = new AreaTree();
        const summaries = newSummaries(tree);
        changes.forEach(({ page, pages, half, ask }, id) => {
          const start = half ? 0x800 : 0;
          const last = page + pages - 1;
          if (tree.seekOverlap(page, start, last, 0xfff)) tree.remove();
          else tree.insert(page, start, last, 0xfff, id);
          if (ask) checkAll(tree, summaries);
        });
        checkAll(tree, summaries);
      }),
      { numRuns: 15 },
    );
  });

  it.each([
    ['ascending', (i: number) => i],
    ['descending', (i: number) => 3999 - i],
    ['scattered', (i: number) => (i * 1237) % 4000],
  ])('through splits and merges of a tree three levels high, %s', (_, order) => {
    const tree = new AreaTree();
    const summaries = newSummaries(tree);
    const width = (key: number) => 1 + (key % 7);
    for (let i = 0; i < 4000; i++) {
      const pfn = 10 * order(i);
      tree.insert(pfn, 0, pfn + width(order(i)) - 1, 0xfff, i);
      if (i % 500 === 499) checkAll(tree, summaries);
    }
    for (let i = 0; i < 4000; i++) {
      const key = (i * 1733) % 4000;
      expect(tree.seekOverlap(10 * key, 0, 10 * key, 0)).toBe(true);
      tree.remove();
      if (i % 500 === 499) checkAll(tree, summaries);
    }
    expect(tree.size).toBe(0);
  });
});

describe('a change that others of its kind do not hide', () => {
  /** 4000 areas of a page, nine pages apart, in full nodes: 125 leaves below 4 nodes below a root. */
  const full = () => {
    const tree = new AreaTree();
    for (let i = 0; i < 4000; i++) tree.insert(10 * i, 0, 10 * i, 0xfff, i);
    const summaries = newSummaries(tree);
    checkAll(tree, summaries);
    return { tree, check: () => checkAll(tree, summaries) };
  };
  /** Index of the first area below a slot of the root. */
  const firstBelow = (slot: number) => slot * FAN_OUT * FAN_OUT;
  const remove = (tree: AreaTree, i: number) => {
    expect(tree.seekOverlap(10 * i, 0, 10 * i, 0)).toBe(true);
    tree.remove();
  };

  it('a hole grows while the root awaits another subtree', () => {
    const { tree, check } = full();
    const key = 10 * firstBelow(3) + 5;
    tree.insert(key, 0, key, 0xfff, 4000);
    remove(tree, firstBelow(2) + 40);
    check();
  });

  it('the first area of a subtree goes, and comes back earlier', () => {
    const { tree, check } = full();
    const first = firstBelow(1);
    remove(tree, first);
    check();
    tree.insert(10 * first - 3, 0, 10 * first - 3, 0xfff, 4000);
    check();
  });

  it('the last area of a subtree goes, and comes back later', () => {
    const { tree, check } = full();
    const last = firstBelow(2) - 1;
    remove(tree, last);
    check();
    tree.insert(10 * last + 3, 0, 10 * last + 3, 0xfff, 4000);
    check();
  });
});

describe('an automatic IOVA and what is inserted next', () => {
  const step = fc.record({
    pages: fc.constantFrom(1, 1, 2, 4, 16),
    next: fc.constantFrom('take', 'take', 'take', 'elsewhere', 'nothing', 'search', 'remove'),
    page: fc.nat(599),
    from: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 580 })),
  });

  it('an area goes where its range says, wherever the search before it ended (property)', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 40, maxLength: 300, size: 'max' }), (steps) => {
        const tree = new AreaTree();
        const allocator = new IovaAllocator(tree);
        const reserved = new ReservedRanges();
        const taken = new Map<number, number>();
        const isFree = (page: number, pages: number) =>
          ![...taken].some(([at, n]) => at < page + pages && page < at + n);
        const put = (page: number, pages: number) => {
          tree.insert(page, 0, page + pages - 1, 0xfff, page);
          taken.set(page, pages);
        };
        const find = (pages: number, from: number) => {
          const allowed = new AllowedRanges([{ start: from * 4096, last: 599 * 4096 + 0xfff }]);
          return allocator.find(pages, 0, 1, 0, 1, allowed, reserved);
        };
        for (const { pages, next, page, from } of steps) {
          const rc = find(pages, from);
          const all = [...Array(601 - pages - from).keys()].map((at) => at + from);
          const expected = all.find((at) => isFree(at, pages));
          expect(rc === 0 ? allocator.pfn : undefined).toBe(expected);
          if (next === 'take' && rc === 0) put(allocator.pfn, pages);
          else if (next === 'elsewhere' && isFree(page, 1)) put(page, 1);
          else if (next === 'search') find(599, 1);
          else if (next === 'remove' && tree.seekOverlap(page, 0, page, 0)) {
            taken.delete(tree.id);
            tree.remove();
          }
        }
        const found: number[] = [];
        for (let more = tree.seek(0, 0); more; more = tree.advance()) found.push(tree.id);
        expect(found).toEqual([...taken.keys()].sort((a, b) => a - b));
        for (const page of taken.keys()) {
          expect(tree.seekOverlap(pfnOf(page * 4096), lowOf(page * 4096), page, 0)).toBe(true);
          expect(tree.id).toBe(page);
        }
      }),
      { numRuns: 20 },
    );
  });

  it('a found hole in front of a leaf says nothing about what lies left of that leaf', () => {
    const tree = new AreaTree();
    for (let i = 0; i < 64; i++) tree.insert(10 * i, 0, 10 * i + 8, 0xfff, i);
    tree.seek(320, 0);
    tree.remove();
    const allocator = new IovaAllocator(tree);
    const allowed = new AllowedRanges([{ start: 319 * 4096, last: 600 * 4096 }]);
    expect(allocator.find(2, 0, 1, 0, 1, allowed, new ReservedRanges())).toBe(0);
    expect(allocator.pfn).toBe(319);
    tree.insert(9, 0, 9, 0xfff, 100);
    expect(tree.seekOverlap(9, 0, 9, 0)).toBe(true);
    expect(tree.id).toBe(100);
  });
});
