/**
 * Unmapping: whole areas, lowest first; accesses are asked to let go, invalidations are sent in
 * batches before any page is unpinned.
 * @linux drivers/iommu/iommufd/io_pagetable.c iopt_unmap_iova_range
 * @module
 */
import { refuse } from '../errors.ts';
import { fromPair, LOW_MASK, MAX_PFN } from './address.ts';
import { announceUnmap } from './dependents.ts';
import type { IoPagetable } from './io-pagetable.ts';
import type { IoptPages } from './pages.ts';
import * as refusal from './refusals.ts';

/** How often an access is asked before Linux gives up with a warning. */
const MAX_TRIES = 100;
/** Areas whose pages wait for one `sync`. */
const BATCH = 256;

/** Pages whose last IOVA is gone from the tables but maybe not from hardware's caches. */
class Pending {
  private readonly iopt: IoPagetable;
  private readonly pages: IoptPages[] = [];
  private readonly first: number[] = [];
  private readonly count: number[] = [];

  constructor(iopt: IoPagetable) {
    this.iopt = iopt;
  }

  push(pages: IoptPages, first: number, count: number): void {
    this.pages.push(pages);
    this.first.push(first);
    this.count.push(count);
    if (this.pages.length === BATCH) this.flush();
  }

  flush(): void {
    if (this.pages.length === 0) return;
    const filled = this.iopt.domains.length > 0;
    this.iopt.filler.sync();
    for (let i = 0; i < this.pages.length; i++) {
      const pages = this.pages[i] as IoptPages;
      if (filled) {
        pages.release(this.first[i] as number, this.count[i] as number);
        pages.settle();
      }
      pages.put();
    }
    this.pages.length = 0;
    this.first.length = 0;
    this.count.length = 0;
  }
}

/**
 * Unmap whole areas inside `[start, last]`; the bytes go to `iopt.lastUnmappedBytes`.
 *
 * @throws {IommuError} ENOENT, EBUSY, EDEADLOCK; areas in front of the one in question are gone
 */
export const unmapRange = (
  iopt: IoPagetable,
  op: string,
  startPfn: number,
  startLow: number,
  lastPfn: number,
  lastLow: number,
): void => {
  const pending = new Pending(iopt);
  const { areas, filler } = iopt;
  const { tree } = areas;
  let pfn = startPfn;
  let low = startLow;
  let bytesPages = 0;
  let bytesLow = 0;
  let tries = 0;
  try {
    while (pfn <= MAX_PFN && tree.seekOverlap(pfn, low, lastPfn, lastLow)) {
      const { id } = tree;
      checkWhole(iopt, op, id, pfn, low, lastPfn, lastLow);
      filler.aimAtCursor();
      const { span } = filler;
      if (span.startPfn !== pfn || span.startLow !== low) tries = 0;
      if (areas.accessCount(id) > 0) {
        pfn = span.startPfn;
        low = span.startLow;
        areas.preventAccess(id);
        pending.flush();
        notify(iopt, pfn, low, span.pages, span.low);
        if (++tries > MAX_TRIES) throw unanswered(op, fromPair(pfn, low));
        continue;
      }
      if (iopt.dependents.length > 0) {
        announceUnmap(iopt, op);
        // They read this tree, so its cursor may be elsewhere.
        tree.seekOverlap(pfn, low, lastPfn, lastLow);
      }
      filler.unmapDomains();
      const first = areas.firstIndex(id);
      pending.push(areas.pages(id), first, areas.lastIndexAtCursor() - first + 1);
      areas.removeAtCursor();
      bytesLow += span.low;
      bytesPages += span.pages + (bytesLow >> 12);
      bytesLow &= LOW_MASK;
      const end = span.startLow + span.low;
      pfn = span.startPfn + span.pages + (end >> 12);
      low = end & LOW_MASK;
    }
  } finally {
    pending.flush();
    // All 2^64 bytes count as none, as in Linux's unsigned long.
    iopt.lastUnmappedBytes = fromPair(bytesPages > MAX_PFN ? 0 : bytesPages, bytesLow);
  }
  if (iopt.lastUnmappedBytes === 0) {
    const range = { start: fromPair(startPfn, startLow), last: fromPair(lastPfn, lastLow) };
    throw refusal.notMapped(op, range, 'has nothing mapped');
  }
};

/** Refuse locked areas and those that reach over an edge. */
const checkWhole = (
  { areas }: IoPagetable,
  op: string,
  id: number,
  pfn: number,
  low: number,
  lastPfn: number,
  lastLow: number,
): void => {
  const { nodes, at } = areas.tree;
  if (areas.lockCount(id) > 0) {
    throw refuse('EBUSY', op, 'area-locked', 'the mapping is locked by a hardware queue', {
      range: { start: areas.start, last: areas.last },
      owner: 'hardware queue',
      accepted: 'destroy the queue first',
    });
  }
  const firstPfn = nodes.startPfn[at] as number;
  const endPfn = nodes.lastPfn[at] as number;
  const before = firstPfn < pfn || (firstPfn === pfn && nodes.startLow(at) < low);
  const behind = endPfn > lastPfn || (endPfn === lastPfn && nodes.lastLow(at) > lastLow);
  if (!before && !behind) return;
  const range = { start: areas.start, last: areas.last };
  throw refuse('ENOENT', op, 'area-cut', 'the range would cut a mapping; mappings go whole', {
    range,
    accepted: `a range that holds all of it`,
  });
};

const notify = (iopt: IoPagetable, pfn: number, low: number, pages: number, rest: number): void => {
  const iova = fromPair(pfn, low);
  const length = fromPair(pages, rest);
  for (const access of [...iopt.accesses]) {
    if (!access.internal) access.unmap?.(iova, length);
  }
};

const unanswered = (op: string, iova: number | bigint) =>
  refuse('EDEADLOCK', op, 'access-holds-pages', 'an access does not unpin when told to', {
    value: iova,
    accepted: 'an access whose unmap callback unpins the range',
  });
