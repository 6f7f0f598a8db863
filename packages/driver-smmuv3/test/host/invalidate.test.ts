import { decode } from '@iommukit/bits';
import { createMachine, HostMemory } from '@iommukit/core';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CommandQueue } from '../../src/host/command-queue.ts';
import { Invalidate } from '../../src/host/invalidate.ts';
import { createSmmuHardware, TLBI } from '../../src/index.ts';

interface Covered {
  readonly start: number;
  readonly pages: number;
}

/** The commands for one range, as ranges again; undefined stands for the whole VMID. */
const emitted = (ranges: boolean, start: number, last: number): (Covered | undefined)[] => {
  const out: (Covered | undefined)[] = [];
  const push = (...words: number[]) => {
    const { OPCODE, NUM, SCALE, TG, TTL, ADDR, VMID } = decode(TLBI, words);
    expect([VMID, TTL]).toEqual([7, 0]);
    if (OPCODE === 0x28) return out.push(undefined);
    expect(OPCODE).toBe(0x2a);
    // TG=0 names one page; TG with NUM, SCALE and TTL all zero is illegal.
    if (TG === 0) expect([NUM, SCALE]).toEqual([0, 0]);
    else expect(NUM + SCALE).toBeGreaterThan(0);
    return out.push({ start: ADDR / 4096, pages: (NUM + 1) * 2 ** SCALE });
  };
  new Invalidate({ push, submit: () => undefined } as unknown as CommandQueue, ranges).stage2(
    7,
    start,
    last,
    true,
  );
  return out;
};

test.each([true, false])('SMMUv3 4.4.1.1: a range is covered exactly, RIL %s', (ranges) => {
  fc.assert(
    fc.property(
      fc.nat(2 ** 31 - 1),
      fc.oneof(fc.integer({ min: 1, max: 600 }), fc.integer({ min: 1, max: 2 ** 31 - 1 })),
      (start, pages) => {
        const pieces = emitted(ranges, start, start + pages - 1);
        if (!ranges && pages > 512) {
          expect(pieces).toEqual([undefined]);
          return;
        }
        let next = start;
        for (const piece of pieces) {
          expect(piece?.start).toBe(next);
          next += piece?.pages ?? 0;
        }
        expect(next).toBe(start + pages);
      },
    ),
  );
});

test('more than 2^31 pages: the whole VMID', () => {
  expect(emitted(true, 0, 2 ** 36 - 1)).toEqual([undefined]);
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
