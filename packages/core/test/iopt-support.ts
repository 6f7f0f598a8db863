import { expect } from 'vitest';
import { isIommuError } from '../src/errors.ts';
import type { IoptDomain } from '../src/iopt/domain-fill.ts';
import { IoPagetable, PinContext, type U64 } from '../src/iopt/index.ts';
import type { IoptPages } from '../src/iopt/pages.ts';
import { createProcess, PhysicalMemory, type Process, VM_PROT } from '../src/memory/index.ts';

export const RW = VM_PROT.READ | VM_PROT.WRITE;
export const ANON = 0x22;

/** Run something that may be refused; `'ok'` or the errno name. */
export const codeOf = (run: () => unknown): string => {
  try {
    run();
    return 'ok';
  } catch (error) {
    if (!isIommuError(error)) throw error;
    expect(error.reason.rule).toMatch(/^[a-z0-9-]+$/);
    expect(error.reason.message.length).toBeGreaterThan(10);
    expect(error.message).not.toMatch(/undefined|NaN|\[object/);
    return error.code;
  }
};

/** A paging domain as a map of granules; strict about what it is asked. */
export class TestDomain implements IoptDomain {
  readonly granuleLg2: number;
  readonly apertureStartFrame: number;
  readonly apertureLastFrame: number;
  /** Output granule and rights per IOVA granule. */
  readonly table = new Map<number, { out: number; prot: number }>();
  /** Run lengths of the last map call. */
  lastRuns: number[] = [];
  unsynced = false;
  /** Refuse the map call after that many. */
  failAfter = Number.POSITIVE_INFINITY;

  constructor(granuleLg2 = 12, startByte = 0, lastByte?: number) {
    this.granuleLg2 = granuleLg2;
    this.apertureStartFrame = startByte / 2 ** granuleLg2;
    this.apertureLastFrame =
      lastByte === undefined ? 2 ** (64 - granuleLg2) - 1 : (lastByte + 1) / 2 ** granuleLg2 - 1;
  }

  mapRuns(iovaFrame: number, runs: Float64Array, runCount: number, prot: number): number {
    if (this.failAfter-- <= 0) return -12;
    this.lastRuns = [];
    let at = iovaFrame;
    for (let i = 0; i < runCount; i++) {
      const count = runs[2 * i + 1] as number;
      this.lastRuns.push(count);
      for (let j = 0; j < count; j++, at++) {
        expect(this.table.has(at)).toBe(false);
        expect(at >= this.apertureStartFrame && at <= this.apertureLastFrame).toBe(true);
        this.table.set(at, { out: (runs[2 * i] as number) + j, prot });
      }
    }
    return 0;
  }

  unmap(iovaFrame: number, count: number): number {
    this.unsynced = true;
    for (let i = 0; i < count; i++) expect(this.table.delete(iovaFrame + i)).toBe(true);
    return count;
  }

  sync(): void {
    this.unsynced = false;
  }
}

export const setup = (ramBytes = 16 * 2 ** 20, uid = 0) => {
  const memory = new PhysicalMemory();
  memory.addRegion({ name: 'ram', base: 2 ** 32, size: ramBytes });
  const process = createProcess({ memory }, { uid, rlimitMemlockBytes: 2 ** 40 });
  const context = new PinContext(memory);
  return { memory, process, context, iopt: new IoPagetable(context), free: memory.freePageCount };
};

export interface AreaView {
  start: U64;
  last: U64;
  pages: IoptPages;
  first: number;
  offset: number;
  prot: number;
}

/** Every area, ascending. */
export const areasOf = ({ areas }: IoPagetable): AreaView[] => {
  const out: AreaView[] = [];
  for (let more = areas.tree.seek(0, 0); more; more = areas.tree.advance()) {
    const { id } = areas.tree;
    const { start, last } = areas;
    const [first, offset] = [areas.firstIndex(id), areas.pageOffset(id)];
    out.push({ start, last, pages: areas.pages(id), first, offset, prot: areas.prot(id) });
  }
  return out;
};

/** One pinned range of an access, as the test remembers it. */
export interface HeldPin {
  pages: IoptPages;
  first: number;
  count: number;
}

/**
 * Check everything there is to know about pins: each page of each object is pinned exactly when
 * some domain or access needs it, domains hold exactly the areas, frames and charges add up.
 */
export const audit = (iopts: IoPagetable[], processes: Process[], held: HeldPin[] = []): void => {
  const needed = new Map<IoptPages, Set<number>>();
  const references = new Map<IoptPages, number>();
  const need = (pages: IoptPages, first: number, count: number) => {
    const set = needed.get(pages) ?? new Set();
    needed.set(pages, set);
    for (let i = 0; i < count; i++) set.add(first + i);
  };
  for (const iopt of iopts) {
    for (const { domain } of iopt.domains) {
      expect((domain as TestDomain).unsynced).toBe(false);
    }
    for (const area of areasOf(iopt)) {
      references.set(area.pages, (references.get(area.pages) ?? 0) + 1);
      const length = Number(BigInt(area.last) - BigInt(area.start)) + 1;
      if (!needed.has(area.pages)) needed.set(area.pages, new Set());
      if (iopt.domains.length > 0) {
        need(area.pages, area.first, Math.ceil((area.offset + length) / 4096));
      }
    }
  }
  for (const { pages, first, count } of held) need(pages, first, count);
  const pins = new Map<number, number>();
  const frames = new Map<IoptPages, Map<number, number>>();
  for (const [pages, set] of needed) {
    expect(pages.references).toBe(references.get(pages));
    expect([pages.pinned, pages.charged]).toEqual([set.size, set.size]);
    const byPage = new Map<number, number>();
    frames.set(pages, byPage);
    for (const page of set) {
      const { context } = pages;
      context.scratch.clear();
      pages.collect(page, 1, context.scratch);
      const pfn = context.scratch.pairs[0] as number;
      byPage.set(page, pfn);
      pins.set(pfn, (pins.get(pfn) ?? 0) + 1);
    }
  }
  for (const [pfn, count] of pins) {
    expect(processes[0]?.memory.pages.pinCount(pfn)).toBe(count);
  }
  for (const process of processes) {
    let charged = 0;
    for (const pages of needed.keys()) if (pages.process === process) charged += pages.charged;
    expect(process.pinnedPages).toBe(charged);
  }
  for (const iopt of iopts) checkDomains(iopt, frames);
};

const checkDomains = (iopt: IoPagetable, frames: Map<IoptPages, Map<number, number>>): void => {
  for (const { domain } of iopt.domains as unknown as { domain: TestDomain }[]) {
    const granule = 2 ** domain.granuleLg2;
    let entries = 0;
    for (const { start, last, pages, first, offset, prot } of areasOf(iopt)) {
      for (let at = BigInt(start); at <= BigInt(last); at += BigInt(granule)) {
        const byte = offset + Number(at - BigInt(start));
        const pfn = frames.get(pages)?.get(first + Math.floor(byte / 4096)) as number;
        expect(domain.table.get(Number(at / BigInt(granule)))).toEqual({
          out: pfn * (4096 / granule) + Math.floor((byte % 4096) / granule),
          prot: prot | 4,
        });
        entries++;
      }
    }
    expect(domain.table.size).toBe(entries);
  }
};
