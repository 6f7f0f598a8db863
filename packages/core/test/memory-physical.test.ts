import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isIommuError } from '../src/errors.ts';
import { PhysicalMemory } from '../src/memory/index.ts';

const codeOf = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    if (isIommuError(error)) return error.code;
    throw error;
  }
  return 'ok';
};

describe('PhysicalMemory', () => {
  it('answers bus errors as data', () => {
    const memory = new PhysicalMemory();
    memory.addRegion({ name: 'low', base: 0x1000, size: 0x1000 });
    memory.addRegion({ name: 'high', base: 2 ** 40, size: 0x2000 });
    expect(memory.read32(0)).toBe(-1);
    expect(memory.read32(0x2000)).toBe(-1);
    expect(memory.write32(2 ** 40 + 0x1ffc, 0xdeadbeef)).toBe(true);
    expect(memory.read32(2 ** 40 + 0x1ffc)).toBe(0xdeadbeef);
    expect(memory.write32(2 ** 40 + 0x2000, 1)).toBe(false);
    const out = new Uint32Array(4);
    expect(memory.write64(0x1008, 0x89abcdef, 0x01234567)).toBe(true);
    expect(memory.read64(0x1008, out, 2)).toBe(true);
    expect([...out]).toEqual([0, 0, 0x89abcdef, 0x01234567]);
    expect(memory.read64(0x3000, out)).toBe(false);
  });

  it('copies up to the first hole, across adjoining regions', () => {
    const memory = new PhysicalMemory();
    memory.addRegion({ name: 'a', base: 0x1000, size: 0x1000 });
    memory.addRegion({ name: 'b', base: 0x2000, size: 0x1000 });
    const bytes = Uint8Array.from({ length: 0x1800 }, (_, i) => i * 7);
    expect(memory.copyIn(0x1800, bytes)).toBe(0x1800);
    const back = new Uint8Array(0x1900);
    expect(memory.copyOut(0x1800, back)).toBe(0x1800);
    expect(back.subarray(0, 0x1800)).toEqual(bytes);
    expect(memory.view(0x1800, 0x800)?.length).toBe(0x800);
    expect(memory.view(0x1800, 0x801)).toBeUndefined();
  });

  it.each([
    ['misaligned base', { base: 0x800, size: 0x1000 }, 'EINVAL'],
    ['misaligned size', { base: 0, size: 0x1001 }, 'EINVAL'],
    ['no size', { base: 0, size: 0 }, 'EINVAL'],
    ['above 4 GiB', { base: 0, size: 2 ** 32 + 4096 }, 'EINVAL'],
    ['over another', { base: 0x10000, size: 0x2000 }, 'EEXIST'],
    ['beside another', { base: 0x12000, size: 0x1000 }, 'ok'],
  ])('addRegion: %s', (_, range, code) => {
    const memory = new PhysicalMemory();
    memory.addRegion({ name: 'taken', base: 0x11000, size: 0x1000 });
    expect(codeOf(() => memory.addRegion({ name: 'new', ...range }))).toBe(code);
  });

  it('follows a backing buffer that is replaced', () => {
    let buffer = new ArrayBuffer(0x3000);
    const memory = new PhysicalMemory();
    const region = memory.addBackedRegion({
      name: 'pool',
      base: 0x100000,
      size: 0x2000,
      byteOffset: 0x1000,
      buffer: () => buffer,
    });
    memory.write32(0x100004, 5);
    expect(new Int32Array(buffer)[0x401]).toBe(5);
    buffer = buffer.slice(0);
    region.refresh();
    memory.write32(0x100004, 6);
    expect(new Int32Array(buffer)[0x401]).toBe(6);
    expect(memory.allocPages(1)).toBe(-12);
  });

  it('reports writes to a watcher', () => {
    const memory = new PhysicalMemory();
    memory.addRegion({ name: 'a', base: 0, size: 0x1000 });
    const seen: number[][] = [];
    memory.onWrite = (pa, length) => seen.push([pa, length]);
    memory.write32(4, 1);
    memory.write64(8, 1, 2);
    memory.copyIn(100, new Uint8Array(3));
    memory.copyIn(0x2000, new Uint8Array(3));
    expect(seen).toEqual([
      [4, 4],
      [8, 8],
      [100, 3],
    ]);
  });

  it('clears frames that were used before, whatever their number', () => {
    const memory = new PhysicalMemory();
    memory.addRegion({ name: 'a', base: 0, size: 600 * 4096 });
    const one = memory.allocPages(3);
    memory.write32(one + 0x1000, 7);
    memory.freePages(one, 3);
    expect(memory.allocPages(600)).toBe(0);
    expect(memory.read32(one + 0x1000)).toBe(0);
  });

  it('refuses to free or reserve what is not there', () => {
    const memory = new PhysicalMemory();
    memory.addRegion({ name: 'a', base: 0, size: 8 * 4096 });
    const base = memory.allocPages(2);
    expect(codeOf(() => memory.freePages(base, 3))).toBe('EINVAL');
    expect(codeOf(() => memory.freePages(base + 1, 1))).toBe('EINVAL');
    expect(codeOf(() => memory.freePages(2 ** 33, 1))).toBe('EINVAL');
    expect(codeOf(() => memory.reservePages(base, 4))).toBe('EINVAL');
    memory.reservePages(0x4000, 1);
    memory.freePages(base, 2);
    expect(memory.allocPages(5)).toBe(-12);
    expect(memory.allocPages(4)).toBe(0);
    expect(memory.freePageCount).toBe(3);
  });

  it('takes the lowest hole, as a linear search over frames would (property)', () => {
    const command = fc.oneof(
      fc.record({ count: fc.integer({ min: 1, max: 70 }), align: fc.constantFrom(1, 2, 8, 64) }),
      fc.record({ free: fc.nat(50) }),
    );
    fc.assert(
      fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
        const memory = new PhysicalMemory();
        memory.addRegion({ name: 'a', base: 3 * 4096, size: 200 * 4096 });
        memory.addRegion({ name: 'b', base: 1000 * 4096, size: 129 * 4096 });
        const ranges = [
          [3, 203],
          [1000, 1129],
        ];
        const taken = new Set<number>();
        const live: { pfn: number; count: number }[] = [];
        const expected = (count: number, align: number): number => {
          for (const [from, end] of ranges as [number, number][]) {
            for (let pfn = from; pfn + count <= end; pfn++) {
              if (pfn % align !== 0) continue;
              let fits = true;
              for (let i = 0; i < count && fits; i++) fits = !taken.has(pfn + i);
              if (fits) return pfn;
            }
          }
          return -1;
        };
        for (const c of commands) {
          if ('free' in c) {
            const [gone] = live.splice(c.free % (live.length + 1), 1);
            if (!gone) continue;
            memory.freePages(gone.pfn * 4096, gone.count);
            for (let i = 0; i < gone.count; i++) taken.delete(gone.pfn + i);
          } else {
            const pfn = expected(c.count, c.align);
            const base = memory.allocPages(c.count, { alignPages: c.align });
            expect(base).toBe(pfn < 0 ? -12 : pfn * 4096);
            if (pfn < 0) continue;
            for (let i = 0; i < c.count; i++) taken.add(pfn + i);
            live.push({ pfn, count: c.count });
          }
        }
        expect(memory.freePageCount).toBe(329 - taken.size);
      }),
    );
  });
});
