/** The shadow of a child over a parent, against page-by-page composition. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addAccess,
  addDomain,
  cutAreas,
  IoPagetable,
  PinContext,
  pinAccess,
  removeDomain,
  unpinAccess,
} from '../../src/iopt/index.ts';
import { FrameRuns } from '../../src/memory/index.ts';
import type { ChildRange } from '../../src/nesting/child-ranges.ts';
import { ShadowComposer } from '../../src/nesting/composer.ts';
import { ShadowPagetable } from '../../src/nesting/shadow-pagetable.ts';
import { ANON, audit, codeOf, RW, setup, TestDomain } from '../iopt-support.ts';

const VA = 0x4000_0000;
const PAGE = 4096;
const PAGES = 16;
const CACHE = 4;

const nesting = () => {
  const { process, memory } = setup();
  process.mmap({ addr: VA, length: 64 * PAGE, prot: RW, flags: ANON });
  const context = new PinContext(memory);
  const parent = new IoPagetable(context);
  parent.largePages = false;
  const shadow = new ShadowPagetable(context);
  const below = new TestDomain();
  const through = new TestDomain();
  addDomain(parent, below, 'parent');
  addDomain(shadow, through, 'shadow');
  const composer = new ShadowComposer(parent, shadow);
  return { process, parent, shadow, below, through, composer };
};

type Nesting = ReturnType<typeof nesting>;

const mapParent = ({ parent, process }: Nesting, page: number, n: number, prot = 3) =>
  parent.mapUser({ process, userVa: VA + page * PAGE, length: n * PAGE, prot, iova: page * PAGE });

const child = (iova: number, to: number, n: number, prot = 3): ChildRange => ({
  start: BigInt(iova * PAGE),
  last: BigInt((iova + n) * PAGE - 1),
  parentStart: BigInt(to * PAGE),
  parentLast: BigInt((to + n) * PAGE - 1),
  prot,
});

/** What each page of the children means, looked up one by one in the parent's own domain. */
const composed = ({ below }: Nesting, children: readonly ChildRange[]) => {
  const table = new Map<number, { out: number; prot: number }>();
  for (const { start, last, parentStart, prot } of children) {
    for (let at = start; at <= last; at += 4096n) {
      const leaf = below.table.get(Number((parentStart + at - start) >> 12n));
      const rights = (leaf?.prot ?? 0) & prot;
      if (leaf && rights) table.set(Number(at >> 12n), { out: leaf.out, prot: rights | CACHE });
    }
  }
  return table;
};

const byPage = (table: ReadonlyMap<number, unknown>) => [...table].sort(([a], [b]) => a - b);

const check = (made: Nesting, children: readonly ChildRange[]) => {
  expect(byPage(made.through.table)).toEqual(byPage(composed(made, children)));
  audit([made.parent, made.shadow], [made.process]);
  expect(made.shadow.children.count).toBe(children.length);
};

const where = fc.nat(PAGES - 1);
const step = fc.record({
  op: fc.constantFrom('map', 'map', 'unmap', 'child', 'child', 'childUnmap', 'cut', 'rejoin'),
  at: where,
  to: where,
  n: fc.integer({ min: 1, max: 6 }),
  prot: fc.constantFrom(1, 2, 3, 3),
  fails: fc.constantFrom(-1, -1, -1, 0, 1, 2),
});

describe('shadow of a child over a parent', () => {
  it('is the composition after any changes of both sides, failing drivers included', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const made = nesting();
        const { parent, shadow, through, composer } = made;
        let children: ChildRange[] = [];
        for (const { op, at, to, n, prot, fails } of steps) {
          const before = [byPage(through.table), byPage(made.below.table)];
          through.failAfter = fails < 0 || op === 'rejoin' ? Number.POSITIVE_INFINITY : fails;
          const code = codeOf(() => {
            if (op === 'map') mapParent(made, at, n, prot);
            else if (op === 'unmap') parent.unmap(at * PAGE, n * PAGE);
            else if (op === 'cut')
              cutAreas(
                parent,
                [at * PAGE - 1].filter((iova) => iova > 0),
              );
            else if (op === 'rejoin') {
              removeDomain(shadow, through);
              addDomain(shadow, through, 'shadow');
            } else if (op === 'child') {
              const range = child(at, to, n, prot);
              if (shadow.children.overlapping(range.start, range.last).length > 0) return;
              composer.add('test', range);
              children.push(range);
            } else {
              const { start, last } = child(at, 0, n);
              const inside = children.filter((c) => c.start >= start && c.last <= last);
              composer.remove(
                'test',
                inside.sort((a, b) => Number(a.start - b.start)),
              );
              children = children.filter((c) => !inside.includes(c));
            }
          });
          through.failAfter = Number.POSITIVE_INFINITY;
          if (code !== 'ok' && op !== 'unmap') {
            expect([byPage(through.table), byPage(made.below.table)]).toEqual(before);
          }
          // A refused copy of what a cut left over may leave a hole, never a stale page.
          if (code === 'ENOMEM' && op === 'unmap') {
            const want = composed(made, children);
            for (const [page, leaf] of through.table) expect(want.get(page)).toEqual(leaf);
            return;
          }
          check(made, children);
        }
        composer.close('test');
        expect([through.table.size, parent.dependents.length]).toEqual([0, 0]);
        audit([parent, shadow], [made.process]);
      }),
      { numRuns: 300 },
    );
  });

  it('waits for the parent, and is completed by later maps piece by piece', () => {
    const made = nesting();
    const range = child(0x20, 2, 6);
    made.composer.add('test', range);
    expect(made.through.table.size).toBe(0);
    mapParent(made, 0, 4);
    expect([...made.through.table.keys()].sort()).toEqual([0x20, 0x21]);
    mapParent(made, 5, 8);
    expect([...made.through.table.keys()].sort()).toEqual([0x20, 0x21, 0x23, 0x24, 0x25]);
    mapParent(made, 4, 1);
    check(made, [range]);
    expect(made.through.table.size).toBe(6);
    made.parent.unmap(0, 4 * PAGE);
    expect([...made.through.table.keys()].sort()).toEqual([0x22, 0x23, 0x24, 0x25]);
    check(made, [range]);
  });

  it('keeps the rest of an area that was cut after it was copied', () => {
    const made = nesting();
    mapParent(made, 0, 8);
    const range = child(0x20, 1, 6);
    made.composer.add('test', range);
    cutAreas(made.parent, [3 * PAGE - 1, 5 * PAGE - 1]);
    made.parent.unmap(3 * PAGE, 2 * PAGE);
    expect([...made.through.table.keys()].sort()).toEqual([0x20, 0x21, 0x24, 0x25]);
    check(made, [range]);
  });

  it('a parent mapping that the shadow cannot take is refused and leaves nothing', () => {
    const made = nesting();
    made.composer.add('test', child(0x20, 2, 6));
    made.through.failAfter = 0;
    expect(codeOf(() => mapParent(made, 0, 4))).toBe('ENOMEM');
    expect([made.below.table.size, made.process.pinnedPages]).toEqual([0, 0]);
  });

  it('gives no right that either side lacks', () => {
    const made = nesting();
    mapParent(made, 0, 1, 1);
    mapParent(made, 1, 1, 2);
    made.composer.add('test', child(0x20, 0, 2, 3));
    made.composer.add('test', child(0x30, 0, 2, 2));
    const rights = [...made.through.table].map(([page, { prot }]) => [page, prot & 3]);
    expect(rights).toEqual([
      [0x20, 1],
      [0x21, 2],
      [0x31, 2],
    ]);
  });

  it('pins and charges a page once however many children name it', () => {
    const made = nesting();
    mapParent(made, 0, 4);
    for (let i = 0; i < 5; i++) made.composer.add('test', child(0x20 + 4 * i, 0, 4));
    expect(made.process.pinnedPages).toBe(4);
    expect(made.through.table.size).toBe(20);
    made.parent.unmap(0, 4 * PAGE);
    expect([made.process.pinnedPages, made.through.table.size]).toEqual([0, 0]);
  });

  it('a page locked by a hardware queue keeps both sides as they are', () => {
    const made = nesting();
    const { parent, shadow, composer } = made;
    mapParent(made, 0, 4);
    const ranges = [child(0x20, 0, 4), child(0x30, 0, 4), child(0x40, 2, 4)];
    for (const range of ranges) composer.add('test', range);
    const queue = { iovaAlignment: PAGE, internal: true };
    addAccess(shadow, queue);
    pinAccess(shadow, queue, 0x30 * PAGE, PAGE, false, new FrameRuns());
    expect(codeOf(() => parent.unmap(0, 4 * PAGE))).toBe('EBUSY');
    expect(byPage(made.through.table)).toEqual(byPage(composed(made, ranges)));
    expect(codeOf(() => composer.remove('test', ranges))).toBe('EBUSY');
    expect(byPage(made.through.table)).toEqual(byPage(composed(made, ranges)));
    expect(made.through.table.size).toBe(10);
    unpinAccess(shadow, queue, 0x30 * PAGE, PAGE);
    parent.unmap(0, 4 * PAGE);
    check(made, ranges);
  });

  it('a child of a child follows the lowest table', () => {
    const made = nesting();
    const top = new ShadowPagetable(made.parent.context);
    const topDomain = new TestDomain();
    addDomain(top, topDomain, 'top');
    const upper = new ShadowComposer(made.shadow, top);
    upper.add('test', child(0x80, 0x20, 2));
    made.composer.add('test', child(0x20, 0, 2));
    mapParent(made, 0, 2);
    expect(topDomain.table.get(0x81)?.out).toBe(made.below.table.get(1)?.out);
    expect(made.process.pinnedPages).toBe(2);
    made.parent.unmap(0, 2 * PAGE);
    expect(topDomain.table.size).toBe(0);
  });
});

describe('a shadow belongs to its nesting', () => {
  it.each([
    [
      'map',
      (m: Nesting) => m.shadow.mapUser({ process: m.process, userVa: VA, length: PAGE, prot: 1 }),
    ],
    ['copy', (m: Nesting) => m.shadow.mapPages(m.parent.getPages(0, PAGE), PAGE, 1)],
    ['unmap', (m: Nesting) => m.shadow.unmap(0x20 * PAGE, PAGE)],
    ['unmap all', (m: Nesting) => m.shadow.unmapAll()],
  ])('%s by others is refused', (_, run) => {
    const made = nesting();
    mapParent(made, 0, 1);
    made.composer.add('test', child(0x20, 0, 1));
    expect(codeOf(() => run(made))).toBe('EPERM');
    check(made, [child(0x20, 0, 1)]);
  });

  it('nothing is reserved over a child range that waits', () => {
    const { shadow, composer } = nesting();
    composer.add('test', child(0x20, 0, 1));
    const range = { start: 0x20_000, last: 0x20_fff, owner: undefined, label: 'a window' };
    expect(codeOf(() => shadow.reserve(range))).toBe('EADDRINUSE');
  });
});
