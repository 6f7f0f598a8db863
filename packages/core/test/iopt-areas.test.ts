import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fromPair, lowOf, pfnOf, U64_MAX } from '../src/iopt/address.ts';
import { alignmentFor, IovaAllocator } from '../src/iopt/allocator.ts';
import { AreaTree } from '../src/iopt/area-tree.ts';
import { AllowedRanges, type IovaRange, ReservedRanges } from '../src/iopt/reserved.ts';

interface Area {
  start: bigint;
  last: bigint;
  id: number;
}

/** The slow obvious way: a sorted array of bigint ranges. */
class Reference {
  areas: Area[] = [];
  overlap(start: bigint, last: bigint) {
    return this.areas.find((a) => a.start <= last && start <= a.last);
  }
  insert(area: Area) {
    this.areas.push(area);
    this.areas.sort((a, b) => (a.start < b.start ? -1 : 1));
  }
}

const insert = (tree: AreaTree, { start, last, id }: Area) =>
  tree.insert(pfnOf(start), lowOf(start), pfnOf(last), lowOf(last), id);
const seek = (tree: AreaTree, start: bigint, last: bigint) =>
  tree.seekOverlap(pfnOf(start), lowOf(start), pfnOf(last), lowOf(last));

const contents = (tree: AreaTree): Area[] => {
  const { nodes } = tree;
  const out: Area[] = [];
  for (let more = tree.seek(0, 0); more; more = tree.advance()) {
    const { at } = tree;
    out.push({
      start: BigInt(fromPair(nodes.startPfn[at] as number, nodes.startLow(at))),
      last: BigInt(fromPair(nodes.lastPfn[at] as number, nodes.lastLow(at))),
      id: tree.id,
    });
  }
  return out;
};

const clamp = (x: bigint): bigint => {
  if (x > U64_MAX) return U64_MAX;
  return x;
};

/** Random numbers that do not depend on the engine. */
const lcg = (seed: number) => {
  let state = seed;
  return (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
};

describe('AreaTree', () => {
  it('keeps exact 64-bit edges', () => {
    const tree = new AreaTree();
    const edges: Area[] = [
      { start: 0n, last: 0n, id: 1 },
      { start: 1n, last: 2n ** 53n, id: 2 },
      { start: 2n ** 53n + 1n, last: 2n ** 63n - 1n, id: 3 },
      { start: 2n ** 63n, last: U64_MAX - 1n, id: 4 },
      { start: U64_MAX, last: U64_MAX, id: 5 },
    ];
    for (const area of [3, 0, 4, 1, 2]) insert(tree, edges[area] as Area);
    expect(contents(tree)).toEqual(edges);
    for (const { start, last, id } of edges) {
      for (const x of [start, last]) {
        expect(seek(tree, x, x)).toBe(true);
        expect(tree.id).toBe(id);
      }
    }
  });

  it.each([
    ['ascending', 1],
    ['random', 2],
  ])('%s inserts and random removals of 20 000 areas agree with a sorted list', (_, kind) => {
    const random = lcg(kind);
    const tree = new AreaTree();
    const keys = Array.from({ length: 20_000 }, (_, i) => i);
    if (kind === 2) keys.sort(() => random(2) - 0.5);
    for (const key of keys) tree.insert(key * 2, 0, key * 2, 4095, key);
    expect(contents(tree).map((a) => a.id)).toEqual(Array.from(keys.keys()));
    const live = new Set(keys);
    for (let i = 0; i < 40_000; i++) {
      const key = random(20_000);
      const found = tree.seekOverlap(key * 2, 7, key * 2, 7);
      expect(found).toBe(live.has(key));
      if (found) {
        expect(tree.id).toBe(key);
        tree.remove();
        live.delete(key);
      } else if (i % 3 === 0) {
        tree.insert(key * 2, 0, key * 2, 4095, key);
        live.add(key);
      }
    }
    expect(contents(tree).map((a) => a.id)).toEqual([...live].sort((a, b) => a - b));
    expect(tree.size).toBe(live.size);
    while (tree.seek(0, 0)) tree.remove();
    expect([tree.size, tree.height]).toEqual([0, 0]);
  });

  it.each([33, 1025, 1057, 32 ** 3 + 1])(
    'nodes with one child at the right edge of %s ascending areas empty cleanly',
    (count) => {
      const tree = new AreaTree();
      for (let i = 0; i < count; i++) tree.insert(2 * i, 0, 2 * i, 4095, i);
      const ids = () => {
        const out: number[] = [];
        for (let more = tree.seek(0, 0); more; more = tree.advance()) out.push(tree.id);
        return out;
      };
      const removeLast = (left: number) => {
        expect(tree.seek(2 * (left - 1), 0)).toBe(true);
        expect(tree.id).toBe(left - 1);
        tree.remove();
      };
      removeLast(count);
      expect(ids().length).toBe(count - 1);
      expect(ids().every((id, i) => id === i)).toBe(true);
      tree.insert(2 * count, 0, 2 * count, 4095, count);
      expect(ids().at(-1)).toBe(count);
      tree.seek(2 * count, 0);
      tree.remove();
      for (let left = count - 1; left > 0; left--) removeLast(left);
      expect([tree.size, tree.height, ids()]).toEqual([0, 0, []]);
    },
  );

  it('overlap, insert, remove as a sorted list would (property)', () => {
    const address = fc.oneof(
      fc.bigInt({ min: 0n, max: 300n }),
      fc.bigInt({ min: 4000n, max: 4300n }),
      fc.bigInt({ min: U64_MAX - 300n, max: U64_MAX }),
    );
    const command = fc.record({
      a: address,
      n: fc.bigInt({ min: 0n, max: 9n }),
      del: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(command, { maxLength: 200 }), (commands) => {
        const tree = new AreaTree();
        const reference = new Reference();
        let id = 0;
        for (const { a, n, del } of commands) {
          const last = clamp(a + n);
          const hit = reference.overlap(a, last);
          expect(seek(tree, a, last)).toBe(hit !== undefined);
          if (hit) expect(tree.id).toBe(hit.id);
          if (hit && del) {
            tree.remove();
            reference.areas.splice(reference.areas.indexOf(hit), 1);
          } else if (!hit) {
            const area = { start: a, last, id: id++ };
            insert(tree, area);
            reference.insert(area);
          }
        }
        expect(contents(tree)).toEqual(reference.areas);
      }),
    );
  });
});

/** The kernel's algorithm, step by step, over sorted lists. */
const slowFind = (
  length: bigint,
  addr: bigint,
  iovaAlignment: bigint,
  allowed: IovaRange[],
  used: IovaRange[],
): bigint | number => {
  const MAX = U64_MAX;
  if (length === 0n || length >= MAX / 2n) return -75;
  const pageOffset = addr % 4096n;
  let align = 1n;
  while (align < length) align *= 2n;
  if (addr !== 0n && (addr & -addr) < align) align = addr & -addr;
  if (align > 2n ** 21n) align = 2n ** 21n;
  if (align < iovaAlignment) return -22;
  const fit = (start: bigint, last: bigint): bigint => {
    if (start + align - 1n > MAX) return -1n;
    const aligned = ((start + align - 1n) & ~(align - 1n)) | pageOffset;
    return aligned >= last || last - aligned < length - 1n ? -1n : aligned;
  };
  const union = (ranges: IovaRange[]) => {
    const out: { start: bigint; last: bigint }[] = [];
    for (const r of [...ranges].sort((a, b) => (a.start < b.start ? -1 : 1))) {
      const end = out.at(-1);
      const [start, last] = [BigInt(r.start), BigInt(r.last)];
      if (end && start <= end.last + 1n) {
        if (last > end.last) end.last = last;
      } else out.push({ start, last });
    }
    return out;
  };
  const window = { start: 4096n, last: MAX - 4096n };
  const spans = allowed.length === 0 ? [window] : union(allowed);
  for (const span of spans) {
    const start = span.start < 4096n ? window.start : span.start;
    const last = span.last > MAX - 4096n ? window.last : span.last;
    if (start > last) continue;
    const moved = fit(start, last);
    if (moved < 0n) continue;
    let at = moved;
    for (const { start: s, last: l } of [...union(used), { start: last + 1n, last: MAX + 1n }]) {
      if (l < at) continue;
      const to = s <= last ? s - 1n : last;
      const found = at <= to ? fit(at, to) : -1n;
      if (found >= 0n) return found;
      at = l + 1n;
      if (at > last) break;
    }
  }
  return -28;
};

const run = (
  length: bigint,
  addr: bigint,
  iovaAlignment: number,
  allowed: IovaRange[],
  reserved: IovaRange[],
  areas: IovaRange[],
): bigint | number => {
  const tree = new AreaTree();
  areas.forEach((a, id) => {
    insert(tree, { start: BigInt(a.start), last: BigInt(a.last), id });
  });
  const ranges = new ReservedRanges();
  for (const r of reserved) ranges.add({ ...r, owner: 0, label: 'test' });
  const allocator = new IovaAllocator(tree);
  const rc = allocator.find(
    pfnOf(length),
    lowOf(length),
    pfnOf(addr),
    lowOf(addr),
    iovaAlignment,
    new AllowedRanges(allowed),
    ranges,
  );
  return rc < 0 ? rc : BigInt(fromPair(allocator.pfn, allocator.low));
};

const MOCK = [
  { start: 0n, last: 0xffffffn },
  { start: 0x80000000n, last: U64_MAX },
];
const X86_MSI = [{ start: 0xfee00000n, last: 0xfeefffffn }];

describe('automatic IOVA: worked cases', () => {
  const GIB = 2n ** 30n;
  it.each<[string, bigint, bigint, number, IovaRange[], IovaRange[], IovaRange[], bigint | number]>(
    [
      ['empty, one page', 0x1000n, 0x7f0000001000n, 1, [], [], [], 0x1000n],
      ['length rounds to 16K', 0x3000n, 0x7f0000000000n, 1, [], [], [], 0x4000n],
      ['alignment caps at 2 MiB', 0x400000n, 0x7f0000000000n, 1, [], [], [], 0x200000n],
      ['page offset kept', 0x800n, 0x7f0000000800n, 1, [], [], [], 0x1800n],
      ['odd address, one byte', 1n, 0x7f0000000123n, 1, [], [], [], 0x1123n],
      ['address 0', 0x5000n, 0n, 1, [], [], [], 0x8000n],
      ['mock aperture', 0x1000n, 0x7f0000001000n, 2048, [], MOCK, [], 0x1000000n],
      ['below the alignment', 0x1000n, 0x7f0000000400n, 2048, [], MOCK, [], -22],
      [
        'behind an area',
        0x2000n,
        0x7f0000002000n,
        2048,
        [],
        MOCK,
        [{ start: 0x1000000n, last: 0x1000fffn }],
        0x1002000n,
      ],
      [
        'allowed list',
        0x1000n,
        0x7f0000001000n,
        1,
        [{ start: 0x1001000n, last: 0x1258fffn }],
        [],
        [],
        0x1001000n,
      ],
      [
        'nearly everything reserved',
        0x5000n,
        0x7f0000000000n,
        1,
        [],
        [{ start: 6n, last: 6n + 0xffffffffffff8001n - 1n }],
        [],
        -28,
      ],
      ['x86 host, 1 GiB', GIB, 0x7f0040000000n, 1, [], X86_MSI, [], 0x200000n],
      [
        'x86 host with RAM mapped, 1 GiB',
        GIB,
        0x7f0040000000n,
        1,
        [],
        X86_MSI,
        [{ start: 0n, last: 0xbfffffffn }],
        0xff000000n,
      ],
      [
        'a hole of exactly one byte',
        1n,
        0x7f0000001000n,
        1,
        [{ start: 0x1000n, last: 0x2000n }],
        [],
        [{ start: 0x1001n, last: 0x2000n }],
        -28,
      ],
      [
        'a hole in front of the aligned start of the span does not count',
        0x400n,
        0x7f0000000800n,
        1,
        [{ start: 0x1001n, last: 0x8fffn }],
        [],
        [{ start: 0x1001n, last: 0x14ffn }],
        0x1c00n,
      ],
      ['length 0', 0n, 0x1000n, 1, [], [], [], -75],
      ['2^63 - 1', 2n ** 63n - 1n, 0x1000n, 1, [], [], [], -75],
      ['2^63 - 2', 2n ** 63n - 2n, 0x1000n, 1, [], [], [], 0x1000n],
      [
        'the last usable byte',
        2n ** 62n,
        2n ** 62n,
        1,
        [{ start: 2n ** 63n, last: U64_MAX }],
        [],
        [],
        2n ** 63n,
      ],
    ],
  )('%s', (_, length, addr, alignment, allowed, reserved, areas, expected) => {
    expect(run(length, addr, alignment, allowed, reserved, areas)).toBe(expected);
    expect(slowFind(length, addr, BigInt(alignment), allowed, [...reserved, ...areas])).toBe(
      expected,
    );
  });

  it.each([
    [0x1000n, 0x3000n, 0x1000],
    [0x3000n, 0x7f0000000000n, 0x4000],
    [2n ** 40n, 2n ** 40n, 2 ** 21],
    [5n, 0x7f0000000004n, 4],
    [0x200001n, 0n, 2 ** 21],
  ])('alignment for length %s at %s', (length, addr, expected) => {
    expect(alignmentFor(pfnOf(length), lowOf(length), pfnOf(addr), lowOf(addr))).toBe(expected);
  });
});

describe('automatic IOVA against the linear search (property)', () => {
  const unit = fc.constantFrom(1n, 0x400n, 0x800n, 0x1000n, 0x2000n, 0x8000n, 0x200000n);
  const place = fc.oneof(
    fc.tuple(unit, fc.bigInt({ min: 0n, max: 40n })).map(([u, n]) => u * n),
    fc.tuple(unit, fc.bigInt({ min: 1n, max: 40n })).map(([u, n]) => U64_MAX + 1n - u * n),
  );
  const size = fc.tuple(unit, fc.bigInt({ min: 1n, max: 6n })).map(([u, n]) => u * n);
  const range = fc.tuple(place, size).map(([start, n]) => {
    const last = start + n - 1n;
    return { start, last: clamp(last) };
  });
  const disjoint = (ranges: IovaRange[], others: IovaRange[] = []) => {
    const kept: IovaRange[] = [];
    for (const r of ranges) {
      const clash = [...kept, ...others].some((o) => o.start <= r.last && r.start <= o.last);
      if (!clash) kept.push(r);
    }
    return kept;
  };

  it('chooses the same address, or refuses the same way', () => {
    fc.assert(
      fc.property(
        fc.array(range, { maxLength: 60 }),
        fc.array(range, { maxLength: 5 }),
        fc.array(range, { maxLength: 5 }),
        size,
        place,
        fc.constantFrom(1, 2048, 4096),
        (areaList, reserved, allowedList, length, addr, alignment) => {
          const areas = disjoint(areaList, reserved);
          const allowed = disjoint(allowedList);
          const expected = slowFind(length, addr, BigInt(alignment), allowed, [
            ...reserved,
            ...areas,
          ]);
          expect(run(length, addr, alignment, allowed, reserved, areas)).toBe(expected);
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('stays the same through thousands of maps and unmaps, as the summaries change', () => {
    const random = lcg(5);
    const tree = new AreaTree();
    const allocator = new IovaAllocator(tree);
    const allowed = new AllowedRanges([{ start: 0x1000n, last: 0x3ff_ffffn }]);
    const reserved = new ReservedRanges();
    reserved.add({ start: 0x10_0000, last: 0x17_ffff, owner: 0, label: 'hole' });
    const areas: Area[] = [];
    let answers = 0;
    for (let i = 0; i < 6000; i++) {
      const length = BigInt(
        [0x1000, 0x800, 0x2000, 0x6000, 0x10000, 0x200000][random(6)] as number,
      );
      const addr = BigInt([0x1000, 0x800, 0x2000, 0x10000, 0x200000, 0][random(6)] as number);
      const rc = allocator.find(
        pfnOf(length),
        lowOf(length),
        pfnOf(addr),
        lowOf(addr),
        1,
        allowed,
        reserved,
      );
      if (i % 20 === 0) {
        const used = [...reserved.all, ...areas];
        const expected = slowFind(length, addr, 1n, [...allowed.all], used);
        const got = rc < 0 ? rc : BigInt(fromPair(allocator.pfn, allocator.low));
        expect(got).toBe(expected);
        answers++;
      }
      if (rc === 0) {
        const start = BigInt(fromPair(allocator.pfn, allocator.low));
        const area = { start, last: start + length - 1n, id: i };
        insert(tree, area);
        areas.push(area);
      }
      if (rc < 0 || random(5) < 2) {
        for (let n = rc < 0 ? 20 : 1; n > 0 && areas.length > 0; n--) {
          const [gone] = areas.splice(random(areas.length), 1) as [Area];
          seek(tree, gone.start, gone.last);
          tree.remove();
        }
      }
    }
    expect(answers).toBe(300);
    expect(tree.size).toBe(areas.length);
  });
});

describe('ReservedRanges', () => {
  const range = fc
    .tuple(fc.bigInt({ min: 0n, max: 30n }), fc.bigInt({ min: 0n, max: 6n }), fc.boolean())
    .map(([at, n, high]) =>
      high ? { start: U64_MAX - at, last: clamp(U64_MAX - at + n) } : { start: at, last: at + n },
    );

  it('holes and conflicts as byte by byte (property)', () => {
    fc.assert(
      fc.property(fc.array(range, { maxLength: 8 }), range, (list, probe) => {
        const ranges = new ReservedRanges();
        list.forEach((r, i) => {
          ranges.add({ ...r, owner: i % 2, label: `range ${i}` });
        });
        const inside = (x: bigint, rs: readonly IovaRange[]) =>
          rs.some((r) => r.start <= x && x <= r.last);
        const bytes = [...Array(45).keys()].flatMap((i) => [BigInt(i), U64_MAX - BigInt(i)]);
        const check = () => {
          const holes = ranges.holes();
          for (const x of bytes) expect(inside(x, holes)).toBe(!inside(x, ranges.all));
          for (let i = 1; i < holes.length; i++) {
            expect(
              BigInt(holes[i]?.start as bigint) - BigInt(holes[i - 1]?.last as bigint),
            ).toBeGreaterThan(1n);
          }
          const clash = ranges.all.some((r) => r.start <= probe.last && probe.start <= r.last);
          expect(ranges.conflict(probe) !== undefined).toBe(clash);
          const { start, last } = probe;
          expect(ranges.touches(pfnOf(start), lowOf(start), pfnOf(last), lowOf(last))).toBe(clash);
        };
        check();
        ranges.removeOwner(1);
        expect(ranges.all.every((r) => r.owner === 0)).toBe(true);
        check();
      }),
    );
  });
});
