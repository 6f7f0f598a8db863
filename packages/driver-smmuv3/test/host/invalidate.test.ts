import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { decode } from '@iommukit/bits';
import { createMachine, HostMemory } from '@iommukit/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CommandQueue } from '../../src/host/command-queue.ts';
import { Invalidate } from '../../src/host/invalidate.ts';
import { atcSize } from '../../src/host/range-pieces.ts';
import { createSmmuHardware, TLBI } from '../../src/index.ts';

interface RangeSplit {
  readonly iova: string;
  readonly size: string;
  readonly granule: string;
  readonly tg: number;
  readonly leaf: boolean;
  readonly commands: readonly { readonly words: readonly string[] }[];
}

interface AtcSpan {
  readonly iova: string;
  readonly len: string;
  readonly addr: string;
  readonly size: number;
}

const vectors = JSON.parse(
  gunzipSync(readFileSync(new URL('../data/smmuv3-vectors.json.gz', import.meta.url))).toString(),
) as { rangeSplit: RangeSplit[]; atcSpan: AtcSpan[] };

/** The commands that `use` adds, four dwords each. */
const commandsOf = (ranges: boolean, use: (invalidate: Invalidate) => unknown): number[][] => {
  const out: number[][] = [];
  const push = (...words: number[]) => void out.push(words);
  const features = { rangeInvalidation: ranges, el2: false, e2h: false };
  use(new Invalidate({ push, submit: () => undefined } as unknown as CommandQueue, features));
  return out;
};

const hex = (lo: number, hi: number) => `0x${((BigInt(hi) << 32n) | BigInt(lo)).toString(16)}`;
const pfn = (address: string) => Number(BigInt(address) / 4096n);

describe('SMMUv3 4.4.1.1: how a range is named', () => {
  test.each(
    vectors.rangeSplit.map(
      (item) => [`${item.size} at ${item.iova}, tg ${item.tg}, leaf ${item.leaf}`, item] as const,
    ),
  )('vector: %s', (_, { iova, size, granule, tg, leaf, commands }) => {
    const range = { opcode: 0x12, tags: 1 << 16 };
    const start = pfn(iova);
    const last = start + pfn(size) - 1;
    const leafLg2 = Math.log2(Number(granule));
    const emitted = commandsOf(true, (i) => i.range(range, start, last, leafLg2, leaf, tg));
    expect(emitted.map(([a = 0, b = 0, c = 0, d = 0]) => [hex(a, b), hex(c, d)])).toEqual(
      commands.map(({ words }) => words),
    );
  });

  interface Covered {
    readonly start: number;
    readonly pages: number;
  }

  /** The commands for one range, as ranges again; undefined stands for everything of the tag. */
  const emitted = (
    kind: 'stage1' | 'stage2',
    ranges: boolean,
    start: number,
    last: number,
    leafLg2: number,
    leafOnly: boolean,
  ): (Covered | undefined)[] =>
    commandsOf(ranges, (i) => i[kind](7, start, last, leafLg2, leafOnly)).map((words) => {
      const { OPCODE, NUM, SCALE, TG, TTL, LEAF, ADDR, VMID, ASID } = decode(TLBI, words);
      expect([VMID, ASID]).toEqual(kind === 'stage1' ? [0, 7] : [7, 0]);
      if (OPCODE === (kind === 'stage1' ? 0x11 : 0x28)) return undefined;
      expect(OPCODE).toBe(kind === 'stage1' ? 0x12 : 0x2a);
      expect(LEAF).toBe(leafOnly ? 1 : 0);
      // TG=0 names one page; TG with NUM, SCALE and TTL all zero is illegal.
      if (TG === 0) expect([NUM, SCALE, TTL]).toEqual([0, 0, 0]);
      else expect(NUM + SCALE + TTL).toBeGreaterThan(0);
      if (TTL > 0) expect(leafLg2).toBe(12 + 9 * (3 - TTL));
      const pages = TG === 0 ? 2 ** Math.max(leafLg2 - 12, 0) : (NUM + 1) * 2 ** SCALE;
      return { start: ADDR / 4096, pages };
    });

  const kinds = fc.constantFrom('stage1' as const, 'stage2' as const);
  const lengths = fc.oneof(
    fc.integer({ min: 1, max: 600 }),
    fc.integer({ min: 1, max: 2 ** 31 - 600 }),
  );

  test('with ranges: exactly covered when the leaf is known, else with one page more at most', () => {
    fc.assert(
      fc.property(
        kinds,
        fc.nat(2 ** 31),
        lengths,
        fc.boolean(),
        fc.boolean(),
        (kind, start, pages, known, leafOnly) => {
          const leaf = known && leafOnly ? 12 : 0;
          const pieces = emitted(kind, true, start, start + pages - 1, leaf, leafOnly);
          let next = start;
          for (const piece of pieces) {
            expect(piece?.start).toBe(next);
            next += piece?.pages ?? 0;
          }
          const beyond = leaf === 0 && pages % 32 === 1 ? 1 : 0;
          expect(next).toBe(start + pages + beyond);
        },
      ),
    );
  });

  test('without ranges: a command for each leaf, from 512 on everything of the tag', () => {
    fc.assert(
      fc.property(
        kinds,
        fc.nat(2 ** 18),
        fc.integer({ min: 1, max: 600 }),
        fc.constantFrom(12, 21),
        (kind, block, leaves, leafLg2) => {
          const step = 2 ** (leafLg2 - 12);
          const start = block * step;
          const pieces = emitted(kind, false, start, start + leaves * step - 1, leafLg2, true);
          if (leaves >= 512) {
            expect(pieces).toEqual([undefined]);
            return;
          }
          const expected = Array.from({ length: leaves }, (_, at) => start + at * step);
          expect(pieces.map((piece) => piece?.start)).toEqual(expected);
        },
      ),
    );
  });

  test('more than 2^31 pages: everything of the tag', () => {
    expect(emitted('stage2', true, 0, 2 ** 36 - 1, 0, true)).toEqual([undefined]);
    expect(emitted('stage1', true, 0, 2 ** 36 - 1, 0, true)).toEqual([undefined]);
  });
});

describe('SMMUv3 4.5.1: ATC_INV', () => {
  const spans = vectors.atcSpan.filter(({ len }) => len !== '0x0');

  test.each(spans)(
    'vector: $len at $iova is 2^$size pages from $addr',
    ({ iova, len, addr, size }) => {
      const start = pfn(iova);
      const last = Number((BigInt(iova) + BigInt(len) - 1n) / 4096n);
      expect(atcSize(start, last)).toBe(size);
      const [words = []] = commandsOf(true, (i) => i.deviceTlb(0x17, 5, start, last));
      expect(words.slice(0, 2)).toEqual([0x5840, 0x17]);
      expect(hex(words[2] as number, words[3] as number)).toBe(hex(Number(addr) + size, 0));
    },
  );

  test('everything: size 52 at address 0, as the vector says; without SubstreamID no SSV', () => {
    expect(vectors.atcSpan.find(({ len }) => len === '0x0')).toMatchObject({
      addr: '0x0',
      size: 52,
    });
    expect(commandsOf(true, (i) => i.wholeDeviceTlb(0x17, -1))).toEqual([[0x40, 0x17, 52, 0]]);
    expect(commandsOf(true, (i) => i.wholeDeviceTlb(0x17, 5))).toEqual([[0x5840, 0x17, 52, 0]]);
  });

  test('a span of any range is the smallest aligned power of two around it', () => {
    fc.assert(
      fc.property(fc.nat(2 ** 52 - 1), fc.nat(2 ** 40), (start, length) => {
        const last = Math.min(start + length, 2 ** 52 - 1);
        const size = atcSize(start, last);
        const block = (lg2: number, page: number) => BigInt(page) >> BigInt(lg2);
        expect(block(size, start)).toBe(block(size, last));
        if (size > 0) expect(block(size - 1, start)).not.toBe(block(size - 1, last));
      }),
    );
  });
});

const createQueue = () => {
  const { memory } = createMachine();
  const unit = createSmmuHardware({ memory });
  const queue = new CommandQueue(unit, new HostMemory(memory), 3);
  queue.program();
  unit.writeReg32(0x20, 8);
  return { unit, queue };
};

test('a refused command is EIO, and the queue goes on with the next', () => {
  const { queue } = createQueue();
  queue.push(0x7f, 0, 0, 0);
  expect(() => queue.submit()).toThrow(expect.objectContaining({ code: 'EIO' }));
  queue.push(0x30, 0, 0, 0);
  expect(() => queue.submit()).not.toThrow();
});

test('a queue that is off does not advance: EIO', () => {
  const { unit, queue } = createQueue();
  unit.writeReg32(0x20, 0);
  queue.push(0x30, 0, 0, 0);
  expect(() => queue.submit()).toThrow(/does not advance/);
});

test('more commands than the ring holds go in parts', () => {
  const { unit, queue } = createQueue();
  for (let at = 0; at < 100; at++) queue.push(0x30, 0, 0, 0);
  queue.submit();
  // 100 commands in chunks of 7, a SYNC each: 115 entries; index and wrap bit are the low 4 bits.
  expect(unit.readReg32(0x9c)).toBe(115 % 16);
});
