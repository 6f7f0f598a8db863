/** Random maps and unmaps against a slow model: an array with one entry per page. */
import { isIommuError, VFIO_EXTENSION } from '@iommukit/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MEMORY, openFixture, PAGE } from '../fixture.ts';

const PAGES = 24;
const BASE = 0x20_0000;

/** Which mapping each page belongs to, and where in user memory it goes. */
class Model {
  readonly pages: ({ readonly id: number; readonly user: number } | undefined)[];
  #nextId = 0;

  constructor() {
    this.pages = Array(PAGES).fill(undefined);
  }

  get mapped(): number {
    return this.pages.filter((page) => page).length;
  }

  map(start: number, count: number, user: number): string {
    const inside = this.pages.slice(start, start + count);
    if (inside.some((page) => page)) return 'EEXIST';
    const id = this.#nextId++;
    for (let i = 0; i < count; i++) this.pages[start + i] = { id, user: user + i };
    return 'ok';
  }

  unmap(start: number, count: number, v2: boolean): string {
    const idsIn = (from: number, to: number) =>
      new Set(this.pages.slice(Math.max(0, from), Math.max(0, to)).map((page) => page?.id));
    const inside = idsIn(start, start + count);
    const cut = (at: number) => {
      const [id] = idsIn(at, at + 1);
      return id !== undefined && idsIn(at - 1, at).has(id);
    };
    inside.delete(undefined);
    if (v2 && (cut(start) || cut(start + count))) return 'EINVAL';
    if (!v2 && cut(start)) return '0';
    let bytes = 0;
    this.pages.forEach((page, at) => {
      if (!page || !inside.has(page.id)) return;
      this.pages[at] = undefined;
      bytes += PAGE;
    });
    return String(bytes);
  }
}

const range = fc
  .tuple(fc.integer({ min: 0, max: PAGES - 1 }), fc.integer({ min: 1, max: 8 }))
  .map(([start, count]) => ({ start, count: Math.min(count, PAGES - start) }));
const step = fc.record({
  range,
  map: fc.boolean(),
  user: fc.integer({ min: 0, max: 40 }),
});

const answerOf = (call: () => string): string => {
  try {
    return call();
  } catch (error) {
    if (!isIommuError(error)) throw error;
    return error.code;
  }
};

describe.each([
  ['TYPE1', VFIO_EXTENSION.TYPE1_IOMMU],
  ['TYPE1v2', VFIO_EXTENSION.TYPE1v2_IOMMU],
])('%s against the model', (_name, type) => {
  test('answers, VmLck, dma_avail, and what a device reads', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 30 }), (steps) => {
        const { container, process, nic } = openFixture(type);
        for (let i = 0; i < 64; i++) process.poke(MEMORY + i * PAGE, Uint8Array.of(i + 1));
        const model = new Model();
        const v2 = type === VFIO_EXTENSION.TYPE1v2_IOMMU;
        for (const { range, map, user } of steps) {
          const iova = BASE + range.start * PAGE;
          const size = range.count * PAGE;
          const vaddr = MEMORY + user * PAGE;
          const wanted = map
            ? model.map(range.start, range.count, user)
            : model.unmap(range.start, range.count, v2);
          const got = answerOf(() => {
            if (!map) return String(container.iommuUnmapDma({ iova, size }).size);
            container.iommuMapDma({ flags: 3, vaddr, iova, size });
            return 'ok';
          });
          expect(got).toBe(wanted);
          expect(process.lockedPages).toBe(model.mapped);
          expect(process.pinnedPages).toBe(0);
        }
        const ids = new Set(model.pages.map((page) => page?.id));
        ids.delete(undefined);
        expect(container.iommuGetInfo().dmaAvail).toBe(65_535 - ids.size);
        model.pages.forEach((page, at) => {
          const byte = new Uint8Array(1);
          const done = nic.dmaRead(BASE + at * PAGE, byte);
          expect(done === 1 ? byte[0] : undefined).toBe(page ? page.user + 1 : undefined);
        });
      }),
      { numRuns: 40 },
    );
  });
});
