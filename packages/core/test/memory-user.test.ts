import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createProcess,
  FramePool,
  FrameRuns,
  MAP_FLAG,
  PhysicalMemory,
  SEAL,
  UNPINNABLE_FILE,
  VM_PROT,
} from '../src/memory/index.ts';
import { ACCOUNT, chargePinned } from '../src/memory/user-account.ts';

const RW = VM_PROT.READ | VM_PROT.WRITE;
const ANON = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS;
const MIB = 2 ** 20;
const bytes = (...values: number[]) => Uint8Array.from(values);

const setup = (ramBytes = 64 * MIB) => {
  const memory = new PhysicalMemory();
  memory.addRegion({ name: 'ram', base: 2 ** 32, size: ramBytes });
  const pool = new FramePool(memory);
  const process = createProcess({ memory });
  const unpin = (runs: FrameRuns) => {
    for (let i = 0; i < runs.count; i++) {
      pool.unpin(runs.pairs[2 * i] as number, runs.pairs[2 * i + 1] as number);
    }
  };
  return { memory, pool, process, unpin, free: memory.freePageCount };
};

const map = (process: ReturnType<typeof createProcess>, pages: number, prot: number = RW) =>
  process.mmap({ length: pages * 4096, prot, flags: ANON });

const pin = (
  process: ReturnType<typeof createProcess>,
  va: number,
  pages: number,
  write = true,
) => {
  const runs = new FrameRuns();
  return { rc: process.pinRange(va / 4096, pages, write, runs), runs };
};

describe('mmap', () => {
  it.each([
    ['neither shared nor private', { length: 4096, prot: RW, flags: MAP_FLAG.ANONYMOUS }, -22],
    ['shared and private', { length: 4096, prot: RW, flags: ANON | MAP_FLAG.SHARED }, -22],
    ['no file', { length: 4096, prot: RW, flags: MAP_FLAG.PRIVATE }, -22],
    ['length 0', { length: 0, prot: RW, flags: ANON }, -22],
    ['misaligned address', { addr: 0x10800, length: 1, prot: RW, flags: ANON }, -22],
    ['misaligned hugetlb', { addr: 0x1000, length: 1, prot: RW, flags: ANON | 0x40000 }, -22],
    ['above user space', { addr: 2 ** 47 - 4096, length: 8192, prot: RW, flags: ANON }, -12],
    ['64-bit address', { addr: 2n ** 64n - 4096n, length: 4096, prot: RW, flags: ANON }, -12],
    [
      'over a mapping, NOREPLACE',
      { addr: 0x200000, length: 1, prot: RW, flags: ANON | MAP_FLAG.FIXED_NOREPLACE },
      -17,
    ],
    ['a free address', { addr: 0x201000, length: 1, prot: RW, flags: ANON }, 0x201000],
  ])('%s', (_, options, expected) => {
    const { process } = setup();
    process.mmap({ addr: 0x200000, length: 4096, prot: RW, flags: ANON });
    expect(process.mmap(options)).toBe(expected);
  });

  it('places mappings from the top down and reuses holes', () => {
    const { process } = setup();
    const a = map(process, 4);
    const b = map(process, 2);
    expect(b).toBe(a - 2 * 4096);
    process.munmap(a, 4 * 4096);
    expect(map(process, 3)).toBe(a + 4096);
  });

  it('MAP_FIXED replaces what was there', () => {
    const { process } = setup();
    const va = map(process, 3);
    process.write(va + 4096, bytes(1, 2, 3));
    process.mmap({ addr: va + 4096, length: 4096, prot: RW, flags: ANON | MAP_FLAG.FIXED });
    expect(process.peek(va + 4096, 3)).toEqual(bytes(0, 0, 0));
  });
});

describe('reading and writing', () => {
  it('faults are data, with the bytes before them done', () => {
    const { process } = setup();
    const va = map(process, 2);
    process.munmap(va + 4096, 4096);
    expect(process.write(va + 4094, bytes(1, 2, 3))).toBe(-14);
    expect(process.peek(va + 4094, 2)).toEqual(bytes(1, 2));
    expect(process.read(va + 4095, new Uint8Array(2))).toBe(-14);
    expect(process.read(2n ** 64n - 1n, new Uint8Array(2))).toBe(-14);
    expect(process.peek(va + 4096, 1)).toBeUndefined();
  });

  it('honours rights, except for peek and poke', () => {
    const { process } = setup();
    const va = map(process, 1, VM_PROT.READ);
    expect(process.write(va, bytes(1))).toBe(-14);
    expect(process.poke(va, bytes(9))).toBe(0);
    expect(process.read(va, new Uint8Array(1))).toBe(0);
    process.mprotect(va, 4096, VM_PROT.NONE);
    expect(process.read(va, new Uint8Array(1))).toBe(-14);
    expect(process.peek(va, 1)).toEqual(bytes(9));
    expect(process.mprotect(va, 8192, RW)).toBe(-12);
  });

  it('reads of untouched memory take no frame', () => {
    const { memory, process, free } = setup();
    const va = map(process, 16);
    process.read(va, new Uint8Array(16 * 4096));
    expect(memory.freePageCount).toBe(free);
    expect(process.frameAt(va)).toBe(-1);
  });
});

describe('pinning', () => {
  it.each([
    ['write to read-only', VM_PROT.READ, true, -14],
    ['read of read-only', VM_PROT.READ, false, 0],
    ['PROT_NONE', VM_PROT.NONE, false, -14],
    ['write to writable', RW, true, 0],
  ])('%s', (_, prot, write, expected) => {
    const { process } = setup();
    expect(pin(process, map(process, 2, prot), 2, write).rc).toBe(expected);
  });

  it('a hole in the middle pins nothing', () => {
    const { memory, process } = setup();
    const va = map(process, 4);
    process.write(va, bytes(1));
    process.munmap(va + 2 * 4096, 4096);
    const { rc, runs } = pin(process, va, 4);
    expect([rc, runs.count]).toEqual([-14, 0]);
    expect(memory.pages.pinCount(process.frameAt(va))).toBe(0);
  });

  it('a fresh mapping gets neighbouring frames, in step with its 2 MiB boundaries', () => {
    const { process } = setup();
    const va = process.mmap({ addr: 0x1ff000, length: 5 * MIB, prot: RW, flags: ANON });
    const { rc, runs } = pin(process, va, 1280);
    expect(rc).toBe(0);
    expect(runs.count).toBeLessThanOrEqual(2);
    expect((runs.pairs[2] as number) % 512).toBe(0);
  });

  it('a touched 2 MiB window of a large mapping becomes one huge page', () => {
    const { process } = setup();
    const va = process.mmap({ addr: 4 * MIB, length: 4 * MIB, prot: RW, flags: ANON });
    process.write(va + 5000, bytes(1));
    const { runs } = pin(process, va, 512);
    expect([runs.count, (runs.pairs[0] as number) % 512]).toEqual([1, 0]);
  });

  it('a read-only pin unshares: a later write keeps the frame', () => {
    const { process } = setup();
    const file = process.createFile({ size: 4096 });
    const shared = process.mmap({ length: 4096, prot: RW, flags: MAP_FLAG.SHARED, file });
    process.write(shared, bytes(7));
    const va = process.mmap({ length: 4096, prot: RW, flags: MAP_FLAG.PRIVATE, file });
    const { runs } = pin(process, va, 1, false);
    process.write(va, bytes(8));
    expect(process.frameAt(va)).toBe(runs.pairs[0]);
    expect(process.peek(shared, 1)).toEqual(bytes(7));
  });

  it('pinned frames outlive munmap, and are free after the last unpin', () => {
    const { memory, process, unpin, free } = setup();
    const va = map(process, 3);
    const first = pin(process, va, 3).runs;
    const second = pin(process, va, 2).runs;
    const pfn = first.pairs[0] as number;
    process.write(va, bytes(42));
    process.munmap(va, 3 * 4096);
    expect([0, 1, 2].map((i) => memory.pages.pinCount(pfn + i))).toEqual([2, 2, 1]);
    expect(memory.view(pfn * 4096, 1)?.[0]).toBe(42);
    unpin(first);
    expect(memory.freePageCount).toBe(free - 2);
    unpin(second);
    expect(memory.freePageCount).toBe(free);
  });

  it('hugetlb pages are 2 MiB of neighbouring frames', () => {
    const { memory, process, unpin, free } = setup();
    const va = process.mmap({ length: MIB, prot: RW, flags: ANON | MAP_FLAG.HUGETLB });
    const { rc, runs } = pin(process, va + 8192, 510);
    expect([rc, runs.count, (runs.pairs[0] as number) % 512]).toEqual([0, 1, 2]);
    process.munmap(va, 2 * MIB);
    unpin(runs);
    expect(memory.freePageCount).toBe(free);
  });

  it('out of frames is -12 and leaves no pin', () => {
    const { memory, process, free } = setup(MIB);
    const va = map(process, 512);
    expect(pin(process, va, 512).rc).toBe(-12);
    process.exit();
    expect(memory.freePageCount).toBe(free);
  });

  it('16 GiB in one call costs no object per page', () => {
    const memory = new PhysicalMemory();
    for (let i = 1; i <= 8; i++) {
      memory.addRegion({ name: `ram${i}`, base: i * 2 ** 31, size: 2 ** 31 });
    }
    const process = createProcess({ memory });
    const va = process.mmap({ addr: 2 ** 40, length: 2 ** 34, prot: RW, flags: ANON });
    const { rc, runs } = pin(process, va, 2 ** 22);
    expect([rc, runs.pages]).toEqual([0, 2 ** 22]);
    expect(runs.count).toBeLessThanOrEqual(8);
  });
});

describe('files in memory', () => {
  it('MAP_FILE pins the page cache; past the end or not in memory is EINVAL', () => {
    const { process, pool } = setup();
    const file = process.createFile({ size: 0x3800 });
    const runs = new FrameRuns();
    expect(file.pinRange(0, 3, runs)).toBe(0);
    const va = process.mmap({ length: 0x4000, prot: RW, flags: MAP_FLAG.SHARED, file });
    expect(process.frameAt(va)).toBe(runs.pairs[0]);
    pool.unpin(runs.pairs[0] as number, 3);
    runs.clear();
    expect(file.pinRange(2, 2, runs)).toBe(-22);
    expect(UNPINNABLE_FILE.pinRange(0, 1, runs)).toBe(-22);
  });

  it('a mapping past the end of file faults', () => {
    const { process } = setup();
    const file = process.createFile({ size: 4096, sealable: true });
    const va = process.mmap({ length: 0x2000, prot: RW, flags: MAP_FLAG.SHARED, file });
    expect(process.write(va + 4096, bytes(1))).toBe(-14);
    expect(pin(process, va, 2).rc).toBe(-14);
    file.truncate(8192);
    expect(pin(process, va, 2).rc).toBe(0);
    file.truncate(100);
    expect(process.read(va + 4096, bytes(1))).toBe(-14);
  });

  it.each([
    ['unsealable', false, SEAL.GROW, -1],
    ['unknown bit', true, 0x40, -22],
    ['GROW', true, SEAL.GROW, 0],
    ['WRITE while mapped writable', true, SEAL.WRITE, -16],
  ])('seals: %s', (_, sealable, seals, expected) => {
    const { process } = setup();
    const file = process.createFile({ size: 4096, sealable });
    process.mmap({ length: 4096, prot: RW, flags: MAP_FLAG.SHARED, file });
    expect(file.addSeals(seals)).toBe(expected);
  });

  it('seals bind truncate and mmap', () => {
    const { process } = setup();
    const file = process.createFile({ size: 4096, sealable: true });
    const va = process.mmap({ length: 8192, prot: RW, flags: MAP_FLAG.SHARED, file });
    process.mprotect(va, 4096, VM_PROT.READ);
    process.munmap(va + 4096, 4096);
    expect(file.addSeals(SEAL.WRITE | SEAL.SHRINK)).toBe(0);
    expect([file.truncate(0), file.truncate(8192)]).toEqual([-1, 0]);
    const flags = MAP_FLAG.SHARED;
    expect(process.mmap({ length: 4096, prot: RW, flags, file })).toBe(-1);
    expect(process.mmap({ length: 4096, prot: VM_PROT.READ, flags, file })).toBeGreaterThan(0);
  });

  it('the page cache goes with the last reference', () => {
    const { memory, process, free } = setup();
    const file = process.createFile({ size: 8192 });
    const va = process.mmap({ length: 8192, prot: RW, flags: MAP_FLAG.SHARED, file });
    process.write(va, bytes(1));
    file.release();
    expect(process.peek(va, 1)).toEqual(bytes(1));
    process.munmap(va, 8192);
    expect(memory.freePageCount).toBe(free);
  });
});

describe('fork', () => {
  it('private pages are copied on write, shared ones are not, pinned ones stay with the parent', () => {
    const { memory, process, unpin, free } = setup();
    const va = map(process, 2);
    const shared = process.mmap({ length: 4096, prot: RW, flags: MAP_FLAG.SHARED | 0x20 });
    process.write(va, bytes(1));
    process.write(va + 4096, bytes(2));
    const { runs } = pin(process, va, 1);
    const child = process.fork();
    expect(child.frameAt(va)).not.toBe(process.frameAt(va));
    expect(child.frameAt(va + 4096)).toBe(process.frameAt(va + 4096));
    child.write(va + 4096, bytes(3));
    child.write(shared, bytes(4));
    expect(process.frameAt(va)).toBe(runs.pairs[0]);
    expect(process.peek(va + 4096, 1)).toEqual(bytes(2));
    expect(process.peek(shared, 1)).toEqual(bytes(4));
    child.exit();
    expect(child.pinRange(va / 4096, 1, true, new FrameRuns())).toBe(-14);
    process.exit();
    unpin(runs);
    expect(memory.freePageCount).toBe(free);
  });

  it('pinning after a fork takes a frame of its own', () => {
    const { process } = setup();
    const va = map(process, 1);
    process.write(va, bytes(5));
    const child = process.fork();
    const { runs } = pin(process, va, 1, false);
    expect(process.frameAt(va)).toBe(runs.pairs[0]);
    expect(child.frameAt(va)).not.toBe(runs.pairs[0]);
    expect(child.peek(va, 1)).toEqual(bytes(5));
  });

  it('a hugetlb page shared by three processes is copied once', () => {
    const { memory, process } = setup();
    const va = process.mmap({ length: MIB, prot: RW, flags: ANON | MAP_FLAG.HUGETLB });
    process.write(va + MIB, bytes(6));
    process.fork();
    process.fork();
    const before = memory.freePageCount;
    expect(pin(process, va, 512).runs.count).toBe(1);
    expect(memory.freePageCount).toBe(before - 512);
  });
});

describe('RLIMIT_MEMLOCK', () => {
  it.each([
    ['NONE', ACCOUNT.NONE, 5, 0, [5, 0, 0]],
    ['USER within', ACCOUNT.USER, 4, 0, [4, 0, 4]],
    ['USER beyond', ACCOUNT.USER, 5, -12, [0, 0, 0]],
    ['MM within', ACCOUNT.MM, 4, 0, [4, 4, 0]],
    ['MM beyond', ACCOUNT.MM, 5, -12, [0, 0, 0]],
  ])('%s', (_, mode, pages, rc, counts) => {
    const { memory } = setup();
    const process = createProcess({ memory }, { uid: 1000, rlimitMemlockBytes: 4 * 4096 + 100 });
    expect(chargePinned(process, process.user, mode, pages)).toBe(rc);
    expect([process.pinnedPages, process.lockedPages, process.user.lockedPages]).toEqual(counts);
    if (rc === 0) chargePinned(process, process.user, mode, -pages);
    expect([process.pinnedPages, process.lockedPages, process.user.lockedPages]).toEqual([0, 0, 0]);
  });

  it('one user, two processes, one account', () => {
    const { memory } = setup();
    const options = { uid: 1000, rlimitMemlockBytes: 8192 };
    const a = createProcess({ memory }, options);
    const b = createProcess({ memory }, options);
    chargePinned(a, a.user, ACCOUNT.USER, 2);
    expect(chargePinned(b, b.user, ACCOUNT.USER, 1)).toBe(-12);
    expect(chargePinned(b, b.user, ACCOUNT.MM, 1)).toBe(0);
  });
});

describe('user memory against a byte-map reference (property)', () => {
  const PAGES = 12;
  const BASE = 0x40_0000 - 6 * 4096;
  const page = fc.nat(PAGES - 1);
  const span = fc.record({ at: page, n: fc.integer({ min: 1, max: 5 }) });
  const command = fc.oneof(
    span.map((s) => ({ op: 'map' as const, ...s })),
    span.map((s) => ({ op: 'unmap' as const, ...s })),
    fc.record({ op: fc.constant('write' as const), who: fc.nat(3), at: page, value: fc.nat(255) }),
    fc.record({ op: fc.constant('pin' as const), who: fc.nat(3), at: page, n: fc.constant(2) }),
    fc.record({ op: fc.constant('fork' as const) }),
    fc.record({ op: fc.constant('unpin' as const) }),
  );

  it('keeps every process its own bytes, pinned frames theirs, and leaks no frame', () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 50 }), (commands) => {
        const { memory, process, unpin, free } = setup(8 * MIB);
        const all = [{ process, bytes: new Map<number, number>() }];
        const pins: { who: number; at: number; runs: FrameRuns }[] = [];
        for (const c of commands) {
          const who = 'who' in c ? c.who % all.length : 0;
          const subject = all[who] as (typeof all)[0];
          const va = 'at' in c ? BASE + c.at * 4096 : 0;
          if (c.op === 'map') {
            subject.process.mmap({ addr: va, length: c.n * 4096, prot: RW, flags: ANON | 0x10 });
            for (let i = 0; i < c.n; i++) subject.bytes.set(c.at + i, 0);
          } else if (c.op === 'unmap') {
            subject.process.munmap(va, c.n * 4096);
            for (let i = 0; i < c.n; i++) subject.bytes.delete(c.at + i);
          } else if (c.op === 'write') {
            const mapped = subject.bytes.has(c.at);
            expect(subject.process.write(va, bytes(c.value))).toBe(mapped ? 0 : -14);
            if (mapped) subject.bytes.set(c.at, c.value);
          } else if (c.op === 'pin') {
            const mapped = subject.bytes.has(c.at) && subject.bytes.has(c.at + 1);
            const { rc, runs } = pin(subject.process, va, 2);
            expect(rc).toBe(mapped ? 0 : -14);
            if (mapped) pins.push({ who, at: c.at, runs });
          } else if (c.op === 'fork' && all.length < 4) {
            all.push({ process: process.fork(), bytes: new Map((all[0] as typeof subject).bytes) });
          } else if (c.op === 'unpin') {
            const gone = pins.shift();
            if (gone) unpin(gone.runs);
          }
          for (const { process: p, bytes: expected } of all) {
            for (let i = 0; i < PAGES + 4; i++) {
              expect(p.peek(BASE + i * 4096, 1)?.[0]).toBe(expected.get(i));
            }
          }
        }
        for (const { runs } of pins) unpin(runs);
        for (const { process: p } of all) p.exit();
        expect(memory.freePageCount).toBe(free);
      }),
      { numRuns: 150 },
    );
  });
});
