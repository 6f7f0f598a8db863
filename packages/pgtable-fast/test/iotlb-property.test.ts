import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ALL_KINDS,
  ANY_TAG,
  ENTRY_KIND,
  FIRST_STAGE_KINDS,
  IOTLB_MISS,
  Iotlb,
  type IotlbEntry,
} from '../src/iotlb/index.ts';
import { IotlbModel, type Selector } from './iotlb-model.ts';

const SPACE_FRAMES = 2 ** 52;
const sources = fc.constantFrom(0, 1, 0x10, 0xffffffff);
const pasids = fc.constantFrom(-1, 0, 7, 0xfffff);
const tagAs = fc.constantFrom(0, 1, 2, 0xffff0001);
const tagBs = fc.constantFrom(-1, 0, 7);
const kinds = fc.constantFrom(...Object.values(ENTRY_KIND));
const sizes = fc.constantFrom(12, 13, 14, 16, 21, 25, 30, 39, 64);
/** Few frames, so that pages meet; some beyond 2^32 and at the very end of the space. */
const frames = fc.oneof(
  fc.nat(40),
  fc.nat(0x80000),
  fc.nat(40).map((n) => 2 ** 40 + n * 512),
  fc.nat(40).map((n) => SPACE_FRAMES - 1 - n),
);

type Command =
  | { readonly op: 'insert'; readonly entry: IotlbEntry }
  | {
      readonly op: 'lookup';
      readonly source: number;
      readonly pasid: number;
      readonly pfn: number;
      readonly need: number;
    }
  | { readonly op: 'all' }
  | { readonly op: 'tag'; readonly tagA: number; readonly tagB: number; readonly kinds: number }
  | {
      readonly op: 'range';
      readonly tagA: number;
      readonly tagB: number;
      readonly pfn: number;
      readonly sizeLg2: number;
      readonly kinds: number;
    }
  | {
      readonly op: 'pages';
      readonly tagA: number;
      readonly tagB: number;
      readonly pfn: number;
      readonly count: number;
    }
  | {
      readonly op: 'nested';
      readonly tagA: number;
      readonly pfn: number;
      readonly sizeLg2: number;
    };

const alignDown = (pfn: number, sizeLg2: number) => pfn - (pfn % 2 ** (sizeLg2 - 12));

const entries: fc.Arbitrary<IotlbEntry> = fc
  .record({
    source: sources,
    pasid: pasids,
    iovaPfn: frames,
    outPfn: fc.nat(2 ** 28),
    sizeLg2: sizes,
    permissions: fc.nat(15),
    dirtyKnown: fc.boolean(),
    kind: kinds,
    tagA: tagAs,
    tagB: tagBs,
    fault: fc.constantFrom(0, 0, 0, -2, -40),
  })
  .map((e) => ({
    ...e,
    iovaPfn: alignDown(e.iovaPfn, e.sizeLg2),
    outPfn: e.fault === 0 ? e.outPfn : IOTLB_MISS,
    permissions: e.fault === 0 ? e.permissions : 0,
    // The D bit matters to writes alone; without them nothing tells the two apart.
    dirtyKnown: e.fault !== 0 || e.dirtyKnown || (e.permissions & 2) === 0,
  }));

const anyOr = (tags: fc.Arbitrary<number>) => fc.oneof(tags, fc.constant(ANY_TAG));
const commands: fc.Arbitrary<Command[]> = fc.array(
  fc.oneof(
    { weight: 8, arbitrary: fc.record({ op: fc.constant('insert' as const), entry: entries }) },
    {
      weight: 8,
      arbitrary: fc.record({
        op: fc.constant('lookup' as const),
        source: sources,
        pasid: pasids,
        pfn: frames,
        need: fc.nat(15),
      }),
    },
    { weight: 1, arbitrary: fc.record({ op: fc.constant('all' as const) }) },
    {
      weight: 1,
      arbitrary: fc.record({
        op: fc.constant('tag' as const),
        tagA: anyOr(tagAs),
        tagB: anyOr(tagBs),
        kinds: fc.integer({ min: 1, max: 15 }),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        op: fc.constant('range' as const),
        tagA: anyOr(tagAs),
        tagB: anyOr(tagBs),
        pfn: frames,
        sizeLg2: sizes,
        kinds: fc.integer({ min: 1, max: 15 }),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        op: fc.constant('pages' as const),
        tagA: anyOr(tagAs),
        tagB: anyOr(tagBs),
        pfn: frames,
        count: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constant(1e6)),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        op: fc.constant('nested' as const),
        tagA: tagAs,
        pfn: frames,
        sizeLg2: sizes,
      }),
    },
  ),
  { maxLength: 120 },
);

/** Runs one invalidation on the fast IOTLB and returns what it should have reached. */
function invalidate(tlb: Iotlb, command: Command): { dropped: number; selectors: Selector[] } {
  const aligned = (pfn: number, sizeLg2: number): readonly [number, number] => {
    const first = alignDown(pfn, sizeLg2);
    return [first, first + 2 ** (sizeLg2 - 12) - 1];
  };
  switch (command.op) {
    case 'tag': {
      const { tagA, tagB, kinds } = command;
      return { dropped: tlb.invalidateTag(tagA, tagB, kinds), selectors: [{ kinds, tagA, tagB }] };
    }
    case 'range': {
      const { tagA, tagB, pfn, sizeLg2, kinds } = command;
      const dropped = tlb.invalidateRange(tagA, tagB, pfn, sizeLg2, kinds);
      return { dropped, selectors: [{ kinds, tagA, tagB, span: aligned(pfn, sizeLg2) }] };
    }
    case 'pages': {
      const { tagA, tagB, pfn, count } = command;
      const dropped = tlb.invalidatePages(tagA, tagB, pfn, count);
      const span = [pfn, pfn + count - 1] as const;
      return { dropped, selectors: [{ kinds: ALL_KINDS, tagA, tagB, span }] };
    }
    case 'nested': {
      const { tagA, pfn, sizeLg2 } = command;
      const dropped = tlb.invalidateRangeAndNested(tagA, pfn, sizeLg2);
      const kinds = ALL_KINDS & ~FIRST_STAGE_KINDS;
      const span = aligned(pfn, sizeLg2);
      return {
        dropped,
        selectors: [
          { kinds, tagA, tagB: ANY_TAG, span },
          { kinds: FIRST_STAGE_KINDS, tagA, tagB: ANY_TAG },
        ],
      };
    }
    default:
      return {
        dropped: tlb.invalidateAll(),
        selectors: [{ kinds: ALL_KINDS, tagA: ANY_TAG, tagB: ANY_TAG }],
      };
  }
}

function insert(tlb: Iotlb, e: IotlbEntry): number {
  return e.fault !== 0
    ? tlb.insertFault(e.source, e.pasid, e.iovaPfn, e.sizeLg2, e.fault, e.kind, e.tagA, e.tagB)
    : tlb.insert(
        e.source,
        e.pasid,
        e.iovaPfn,
        e.outPfn,
        e.sizeLg2,
        e.permissions,
        e.dirtyKnown,
        e.kind,
        e.tagA,
        e.tagB,
      );
}

function run(tlb: Iotlb, command: Command, model: IotlbModel): void {
  if (command.op === 'insert') {
    const slot = insert(tlb, command.entry);
    model.insert(command.entry);
    expect(tlb.describe(slot)).toEqual(command.entry);
    const { source, pasid, iovaPfn } = command.entry;
    // Found by searching too, not only through the hint that the insertion left.
    expect(tlb.find(source, pasid, iovaPfn, 0)).not.toBe(IOTLB_MISS);
    return;
  }
  if (command.op === 'lookup') {
    const { source, pasid, pfn, need } = command;
    const answer = tlb.lookup(source, pasid, pfn, need);
    if (answer !== IOTLB_MISS) expect(model.answers(source, pasid, pfn, need, 2)).toContain(answer);
    return;
  }
  const before = [...tlb.entries()];
  const { dropped, selectors } = invalidate(tlb, command);
  const decisions = selectors.map((selector) => model.invalidate(selector));
  const survivors = before.filter((entry) => !decisions.some((hit) => hit(entry)));
  expect([...tlb.entries()]).toEqual(survivors);
  expect(dropped).toBe(before.length - survivors.length);
}

describe('Iotlb against the unlimited model', () => {
  const geometries = [
    { sets: 8, ways: 1 },
    { sets: 8, ways: 2 },
    { sets: 32, ways: 4 },
    { sets: 64, ways: 3 },
  ];
  for (const geometry of geometries) {
    it(`hits only what the model has, and invalidates exactly (${geometry.sets}x${geometry.ways})`, () => {
      fc.assert(
        fc.property(commands, (list) => {
          const tlb = new Iotlb(geometry);
          const model = new IotlbModel();
          for (const command of list) run(tlb, command, model);
          expect(tlb.size).toBe([...tlb.entries()].length);
          for (const entry of tlb.entries()) {
            expect(model.entries.get(keyOf(entry))).toEqual(entry);
          }
        }),
        { numRuns: 150 },
      );
    });
  }

  it('hits at once what was just inserted, at any address inside the page', () => {
    const tlb = new Iotlb();
    fc.assert(
      fc.property(entries, fc.double({ min: 0, max: 1, noNaN: true }), (entry, place) => {
        tlb.invalidateAll();
        insert(tlb, entry);
        const inside = Math.floor(place * (2 ** (entry.sizeLg2 - 12) - 1));
        const need = entry.dirtyKnown ? entry.permissions : entry.permissions & ~2;
        const expected = entry.fault !== 0 ? entry.fault : entry.outPfn + inside;
        expect(tlb.lookup(entry.source, entry.pasid, entry.iovaPfn + inside, need)).toBe(expected);
        expect(tlb.lookup(entry.source, entry.pasid, entry.iovaPfn + inside, need)).toBe(expected);
      }),
      { numRuns: 500 },
    );
  });

  it('replays the same commands to the same entries and counters', () => {
    fc.assert(
      fc.property(commands, (list) => {
        const dumps = [new Iotlb({ sets: 8, ways: 2 }), new Iotlb({ sets: 8, ways: 2 })].map(
          (tlb) => {
            const model = new IotlbModel();
            for (const command of list) run(tlb, command, model);
            return { entries: [...tlb.entries()], statistics: tlb.statistics };
          },
        );
        expect(dumps[0]).toEqual(dumps[1]);
      }),
      { numRuns: 50 },
    );
  });
});

function keyOf({ source, pasid, sizeLg2, iovaPfn }: IotlbEntry): string {
  return `${source}/${pasid}/${sizeLg2}/${iovaPfn}`;
}
