import { describe, expect, it } from 'vitest';
import {
  accessRw,
  addAccess,
  addDomain,
  cutAreas,
  IoPagetable,
  type IoptAccess,
  pinAccess,
  removeAccess,
  removeDomain,
  unpinAccess,
} from '../src/iopt/index.ts';
import { createProcess, FrameRuns } from '../src/memory/index.ts';
import { ANON, areasOf, audit, codeOf, RW, setup, TestDomain } from './iopt-support.ts';

const PAGE = 4096;
const VA = 0x1_0000_0000;

/** 0x10000..0x13fff and 0x14000..0x17fff writeable, 0x20000 read-only, 0x30800 half a page. */
const mapped = () => {
  const all = setup();
  const { process, iopt } = all;
  process.mmap({ addr: VA, length: 64 * PAGE, prot: RW, flags: ANON });
  const map = (iova: number, offset: number, length: number, prot: number) =>
    iopt.mapUser({ process, userVa: VA + offset, length, prot, iova });
  map(0x10000, 0, 0x4000, 3);
  map(0x14000, 0x8000, 0x4000, 3);
  map(0x20000, 0x10000, 0x1000, 1);
  map(0x30800, 0x20800, 0x800, 3);
  map(0x31000, 0x21000, 0x1000, 3);
  return all;
};

const access = (options: Partial<IoptAccess> = {}): IoptAccess => ({
  iovaAlignment: 1,
  ...options,
});

const heldBy = (iopt: IoPagetable, first: number, count: number, area = 0) => {
  const pages = areasOf(iopt)[area]?.pages;
  return pages ? [{ pages, first, count }] : [];
};

describe('pin pages (facts 3.4)', () => {
  it.each<[string, number, number, boolean, string]>([
    ['one page', 0x10000, 0x1000, true, 'ok'],
    ['over two areas', 0x12000, 0x4000, true, 'ok'],
    ['part of a page', 0x10000, 1, false, 'ok'],
    ['not from a page start', 0x10800, 0x800, false, 'EINVAL'],
    ['length 0', 0x10000, 0, false, 'EINVAL'],
    ['wraps', 2 ** 40, 0, false, 'EINVAL'],
    ['a gap', 0x17000, 0x2000, false, 'ENOENT'],
    ['nothing', 0x40000, 0x1000, false, 'ENOENT'],
    ['read of read-only pages', 0x20000, 0x1000, false, 'ok'],
    ['write of read-only pages', 0x20000, 0x1000, true, 'EPERM'],
    ['memory not page aligned', 0x30800, 0x800, false, 'EINVAL'],
  ])('%s', (_, iova, length, write, code) => {
    const { process, iopt } = mapped();
    const out = new FrameRuns();
    const user = access();
    expect(codeOf(() => pinAccess(iopt, user, iova, length, write, out))).toBe(code);
    expect(out.pages).toBe(code === 'ok' ? Math.ceil(length / PAGE) : 0);
    if (code === 'ok') unpinAccess(iopt, user, iova, length);
    audit([iopt], [process]);
    expect(process.pinnedPages).toBe(0);
  });

  it('gives the frames in IOVA order', () => {
    const { process, iopt } = mapped();
    const out = new FrameRuns();
    pinAccess(iopt, access(), 0x12000, 0x4000, true, out);
    const frames: number[] = [];
    for (let i = 0; i < out.count; i++) {
      for (let j = 0; j < (out.pairs[2 * i + 1] as number); j++) {
        frames.push((out.pairs[2 * i] as number) + j);
      }
    }
    const expected = [0x2000, 0x3000, 0x8000, 0x9000].map((at) => process.frameAt(VA + at));
    expect(frames).toEqual(expected);
  });

  it('a fault or a limit in the second area unpins the first', () => {
    const { process, iopt } = mapped();
    process.munmap(VA + 0x9000, PAGE);
    const out = new FrameRuns();
    expect(codeOf(() => pinAccess(iopt, access(), 0x12000, 0x4000, true, out))).toBe('EFAULT');
    audit([iopt], [process]);
    expect(out.pages).toBe(0);
  });

  it('a fault behind pages that are pinned already unpins those in front of them', () => {
    const { process, iopt, memory } = mapped();
    const frames = [0, 1, 2, 3].map((page) => {
      process.write(VA + page * PAGE, Uint8Array.of(1));
      return process.frameAt(VA + page * PAGE);
    });
    const pins = () => frames.map((pfn) => memory.pages.pinCount(pfn));
    const user = access();
    pinAccess(iopt, user, 0x11000, PAGE, true, new FrameRuns());
    process.munmap(VA + 2 * PAGE, PAGE);
    const all = () => pinAccess(iopt, user, 0x10000, 0x3000, true, new FrameRuns());
    expect(codeOf(all)).toBe('EFAULT');
    expect(pins()).toEqual([0, 1, 0, 0]);
    audit([iopt], [process], heldBy(iopt, 1, 1));
  });

  it('the same range is pinned once, overlapping ones share pages; a domain changes nothing', () => {
    const { process, iopt } = mapped();
    const out = new FrameRuns();
    const user = access();
    const domain = new TestDomain(11);
    const pin = (iova: number, length: number) => pinAccess(iopt, user, iova, length, true, out);
    const unpin = (iova: number, length: number) => unpinAccess(iopt, user, iova, length);
    pin(0x10000, 0x2000);
    pin(0x10000, 0x2000);
    pin(0x11000, 0x2000);
    const held = [...heldBy(iopt, 0, 2), ...heldBy(iopt, 1, 2)];
    audit([iopt], [process], held);
    addDomain(iopt, domain, 'HWPT 2');
    audit([iopt], [process], held);
    removeDomain(iopt, domain);
    audit([iopt], [process], held);
    unpin(0x10000, 0x2000);
    audit([iopt], [process], held);
    unpin(0x10000, 0x2000);
    audit([iopt], [process], heldBy(iopt, 1, 2));
    expect(codeOf(() => unpin(0x10000, 0x2000))).toBe('EINVAL');
    unpin(0x11000, 0x2000);
    audit([iopt], [process]);
  });

  it('pins go on after every domain that shared them is gone', () => {
    const { process, iopt } = mapped();
    const domain = new TestDomain(11);
    addDomain(iopt, domain, 'HWPT 2');
    const out = new FrameRuns();
    pinAccess(iopt, access(), 0x11000, PAGE, true, out);
    const frame = out.pairs[0] as number;
    removeDomain(iopt, domain);
    expect(process.memory.pages.pinCount(frame)).toBe(1);
    audit([iopt], [process], heldBy(iopt, 1, 1));
  });
});

describe('alignment', () => {
  it('an access that pins asks for whole pages, and lets go of that', () => {
    const { process, iopt } = setup();
    process.mmap({ addr: VA, length: PAGE, prot: RW, flags: ANON });
    const user = access({ iovaAlignment: 4096 });
    addAccess(iopt, user);
    expect(iopt.iovaAlignment).toBe(4096);
    const odd = { process, userVa: VA, length: 0x800, prot: 3 };
    expect(codeOf(() => iopt.mapUser(odd))).toBe('EINVAL');
    removeAccess(iopt, user);
    iopt.mapUser(odd);
    expect(codeOf(() => addAccess(iopt, user))).toBe('EADDRINUSE');
    expect([iopt.iovaAlignment, iopt.accesses.length]).toEqual([1, 0]);
    addAccess(iopt, access());
    expect(iopt.accesses.length).toBe(1);
  });
});

describe('unmap of pinned areas (facts 3.3)', () => {
  it('asks the access to let go, refusing new pins meanwhile', () => {
    const { process, iopt } = mapped();
    const out = new FrameRuns();
    const seen: unknown[] = [];
    const user = access({
      unmap: (iova, length) => {
        seen.push([iova, length]);
        const again = () => pinAccess(iopt, user, 0x10000, PAGE, true, new FrameRuns());
        expect(codeOf(again)).toBe('EINVAL');
        unpinAccess(iopt, user, 0x10000, 0x2000);
      },
    });
    addAccess(iopt, user);
    pinAccess(iopt, user, 0x10000, 0x2000, true, out);
    expect(iopt.unmap(0x10000, 0x8000)).toBe(0x8000);
    expect(seen).toEqual([[0x10000, 0x4000]]);
    audit([iopt], [process]);
  });

  it('gives up on an access that does not answer; what lay in front is gone', () => {
    const { process, iopt } = mapped();
    let asked = 0;
    const user = access({ unmap: () => asked++ });
    addAccess(iopt, user);
    pinAccess(iopt, user, 0x14000, PAGE, true, new FrameRuns());
    expect(codeOf(() => iopt.unmap(0x10000, 0x8000))).toBe('EDEADLOCK');
    expect([asked, iopt.lastUnmappedBytes, areasOf(iopt)[0]?.start]).toEqual([
      101, 0x4000, 0x14000,
    ]);
    audit([iopt], [process], heldBy(iopt, 0, 1));
  });

  it('what lies in front is unpinned before an access is asked', () => {
    const { process, iopt } = mapped();
    addDomain(iopt, new TestDomain(11), 'HWPT 2');
    const pinned = process.pinnedPages;
    const seen: number[] = [];
    const user = access({
      unmap: () => {
        seen.push(process.pinnedPages);
        unpinAccess(iopt, user, 0x14000, PAGE);
      },
    });
    addAccess(iopt, user);
    pinAccess(iopt, user, 0x14000, PAGE, true, new FrameRuns());
    iopt.unmap(0x10000, 0x8000);
    expect(seen).toEqual([pinned - 4]);
    expect(process.pinnedPages).toBe(pinned - 8);
  });

  it('a hardware queue locks its area instead: EBUSY until it is gone', () => {
    const { iopt } = mapped();
    const queue = access({
      internal: true,
      iovaAlignment: 4096,
      unmap: () => expect.unreachable(),
    });
    pinAccess(iopt, queue, 0x10000, 0x2000, true, new FrameRuns());
    expect(codeOf(() => iopt.unmap(0x10000, 0x4000))).toBe('EBUSY');
    expect(codeOf(() => iopt.unmapAll())).toBe('EBUSY');
    expect(codeOf(() => cutAreas(iopt, [0x11fff]))).toBe('EINVAL');
    unpinAccess(iopt, queue, 0x10000, 0x2000);
    expect(codeOf(() => iopt.unmap(0x10000, 0x4000))).toBe('ok');
  });
});

describe('read and write (facts 3.4)', () => {
  it.each<[string, number, number, boolean, boolean, string]>([
    ['unaligned over a page edge', 0x10ffd, 7, true, false, 'ok'],
    ['the same through frames', 0x10ffd, 7, true, true, 'ok'],
    ['over two areas', 0x13ffe, 5, false, true, 'ok'],
    ['no bytes', 0x10000, 0, false, false, 'EINVAL'],
    ['a gap', 0x17ffe, 5, false, false, 'ENOENT'],
    ['write to read-only pages', 0x20000, 5, true, false, 'EPERM'],
    ['read of read-only pages', 0x20000, 5, false, false, 'ok'],
    ['sub-page area', 0x30800, 0x800, true, true, 'ok'],
  ])('%s', (_, iova, length, write, slow, code) => {
    const { process, iopt } = mapped();
    const data = Uint8Array.from({ length }, (_unused, i) => i + 1);
    const run = () => accessRw(iopt, { iova, data, write, process, slow });
    if (!write) process.write(VA + 0x3ffe, Uint8Array.of(9, 8));
    expect(codeOf(run)).toBe(code);
    if (code === 'ok' && write) {
      const back = new Uint8Array(length);
      accessRw(iopt, { iova, data: back, write: false, process, slow: !slow });
      expect(back).toEqual(data);
    }
    if (iova === 0x13ffe) expect([...data]).toEqual([9, 8, 0, 0, 0]);
    audit([iopt], [process]);
    expect(process.pinnedPages).toBe(0);
  });

  it('of memory that is gone: EFAULT in the own process, the pinned bytes through frames', () => {
    const { process, iopt } = mapped();
    addDomain(iopt, new TestDomain(11), 'HWPT 2');
    process.write(VA + PAGE - 1, Uint8Array.of(1, 2));
    process.munmap(VA, 2 * PAGE);
    const data = new Uint8Array(2);
    const options = { iova: 0x10fff, data, write: false, process };
    expect(codeOf(() => accessRw(iopt, options))).toBe('EFAULT');
    accessRw(iopt, { ...options, slow: true });
    expect([...data]).toEqual([1, 2]);
  });

  it.each([
    ['pinned by a domain', true, 'ok'],
    ['pinned by nobody', false, 'EFAULT'],
  ])('of a process that exited, %s', (_, pinned, code) => {
    const { process, iopt, memory } = mapped();
    if (pinned) addDomain(iopt, new TestDomain(11), 'HWPT 2');
    process.exit();
    const other = createProcess({ memory });
    const data = new Uint8Array(4);
    for (const iova of [0x10000, 0x10ffe]) {
      expect(codeOf(() => accessRw(iopt, { iova, data, write: false, process: other }))).toBe(code);
    }
  });

  it('a file is reached through its page cache', () => {
    const { process, context } = setup();
    const iopt = new IoPagetable(context);
    const file = process.createFile({ size: 2 * PAGE });
    iopt.mapFile({ process, file, start: 0, length: 3 * PAGE, prot: 3, iova: 0 });
    const data = Uint8Array.of(5, 6);
    accessRw(iopt, { iova: PAGE - 1, data, write: true, process });
    const va = process.mmap({ length: 2 * PAGE, prot: RW, flags: 1, file });
    expect(process.peek(va + PAGE - 1, 2)).toEqual(data);
    const past = { iova: 2 * PAGE - 1, data, write: false, process };
    expect(codeOf(() => accessRw(iopt, past))).toBe('EINVAL');
  });
});
