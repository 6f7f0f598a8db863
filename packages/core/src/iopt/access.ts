/**
 * Accesses: users of an I/O address space that are no hardware (emulated devices, hardware queues).
 * They pin pages, or read and write through the mapping.
 * @linux drivers/iommu/iommufd/device.c iommufd_access_pin_pages, iommufd_access_rw
 * @module
 */
import { refuse } from '../errors.ts';
import { FrameRuns, PAGE_BYTES, type Process } from '../memory/index.ts';
import { fromPair, LOW_MASK, type U64 } from './address.ts';
import { neededAlignment, requireAlignment, settleAlignment } from './alignment.ts';
import { forEachContiguous, iovaSpan } from './contiguous.ts';
import type { IoPagetable } from './io-pagetable.ts';
import type { IoptPages } from './pages.ts';
import * as refusal from './refusals.ts';

/** One access. */
export interface IoptAccess {
  /** 4096 for one that pins, 1 for one that only reads and writes. */
  readonly iovaAlignment: number;
  /** A hardware queue: its pins lock areas against unmap instead of being asked to let go. */
  readonly internal?: boolean;
  /** Told to unpin what it holds in `[iova, iova + length)`. */
  unmap?(iova: U64, length: U64): void;
}

/**
 * Add an access.
 *
 * @throws {IommuError} EADDRINUSE when existing mappings do not have its alignment
 */
export const addAccess = (iopt: IoPagetable, access: IoptAccess, op = 'attach access'): void => {
  if (iopt.context.shouldFail('access-list')) throw refusal.outOfMemory(op, 'the list of accesses');
  requireAlignment(iopt, op, Math.max(neededAlignment(iopt), access.iovaAlignment));
  iopt.accesses.push(access);
  settleAlignment(iopt);
};

/** Take an access out; its pins must be gone. */
export const removeAccess = (iopt: IoPagetable, access: IoptAccess): void => {
  const at = iopt.accesses.indexOf(access);
  if (at < 0) return;
  iopt.accesses.splice(at, 1);
  settleAlignment(iopt);
};

/**
 * Pin the pages behind a range.
 *
 * @param out emptied; gets their frames in IOVA order
 * @throws {IommuError} EINVAL (length 0; not page aligned in the memory; an unmap is going on),
 * EOVERFLOW, ENOENT (a gap), EPERM (writing read-only pages), EFAULT, ENOMEM. Nothing is pinned then.
 */
export const pinAccess = (
  iopt: IoPagetable,
  access: IoptAccess,
  iova: U64,
  length: U64,
  write: boolean,
  out: FrameRuns,
  op = 'pin pages',
): void => {
  const { startPfn, startLow, lastPfn, lastLow } = iovaSpan(op, 'iova', iova, length);
  const { areas } = iopt;
  const lock = access.internal ?? false;
  out.clear();
  let donePfn = startPfn;
  let doneLow = startLow;
  const visit = (pfn: number, low: number, endPfn: number, endLow: number): void => {
    const { id } = areas.tree;
    const isLast = endPfn === lastPfn && endLow === lastLow;
    checkPinnable(iopt, op, low, isLast);
    const first = areas.indexAt(pfn, low);
    const pages = areas.pages(id);
    checkRights(op, areas.prot(id), write, areas.start);
    checkReachable(op, pages);
    const rc = pages.addAccess(first, areas.indexAt(endPfn, endLow) - first + 1, write, out);
    if (rc === -1) throw refusal.readOnlyPages(op);
    if (rc < 0) throw refusal.cannotPin(op, rc, pages);
    areas.addUse(id, 1, lock);
    doneLow = (endLow + 1) & LOW_MASK;
    donePfn = doneLow === 0 ? endPfn + 1 : endPfn;
  };
  try {
    forEachContiguous(iopt, op, startPfn, startLow, lastPfn, lastLow, visit);
  } catch (error) {
    unpinUpTo(iopt, startPfn, startLow, donePfn, doneLow, lock);
    out.clear();
    throw error;
  }
};

/**
 * Undo one {@link pinAccess} of exactly this range.
 *
 * @throws {IommuError} ENOENT or EINVAL when that was never pinned
 */
export const unpinAccess = (
  iopt: IoPagetable,
  access: IoptAccess,
  iova: U64,
  length: U64,
  op = 'unpin pages',
): void => {
  const { startPfn, startLow, lastPfn, lastLow } = iovaSpan(op, 'iova', iova, length);
  const { areas } = iopt;
  forEachContiguous(iopt, op, startPfn, startLow, lastPfn, lastLow, (pfn, low, endPfn, endLow) => {
    const { id } = areas.tree;
    const first = areas.indexAt(pfn, low);
    const count = areas.indexAt(endPfn, endLow) - first + 1;
    if (areas.accessCount(id) === 0 || !areas.pages(id).removeAccess(first, count)) {
      throw refuse('EINVAL', op, 'not-pinned', 'this range was not pinned', {
        range: { start: fromPair(pfn, low), last: fromPair(endPfn, endLow) },
        accepted: 'a range as given to pin pages',
      });
    }
    areas.addUse(id, -1, access.internal ?? false);
  });
};

/** What {@link accessRw} copies. */
export interface AccessRwOptions {
  readonly iova: U64;
  /** Filled, or written from. */
  readonly data: Uint8Array;
  readonly write: boolean;
  /** Who does it: its own memory is reached through its page table, not through pins. */
  readonly process: Process;
  /** Go through frames even in the own process. */
  readonly slow?: boolean;
}

/**
 * Read or write memory through the mappings, without pinning for good.
 *
 * @throws {IommuError} EINVAL (no bytes; an unmap is going on), EOVERFLOW, ENOENT (a gap; what lies
 * before it is done), EPERM (writing read-only pages), EFAULT
 * @linux drivers/iommu/iommufd/pages.c iopt_pages_rw_access
 */
export const accessRw = (iopt: IoPagetable, options: AccessRwOptions, op = 'access rw'): void => {
  const { iova, data, write } = options;
  const { startPfn, startLow, lastPfn, lastLow } = iovaSpan(op, 'iova', iova, data.length);
  const { areas } = iopt;
  let done = 0;
  forEachContiguous(iopt, op, startPfn, startLow, lastPfn, lastLow, (pfn, low, endPfn, endLow) => {
    const { id } = areas.tree;
    if (areas.preventsAccess(id)) throw beingUnmapped(op, iova);
    const pages = areas.pages(id);
    checkRights(op, areas.prot(id), write, areas.start);
    if (write && !pages.writable) throw refusal.readOnlyPages(op);
    checkReachable(op, pages);
    const bytes = (endPfn - pfn) * PAGE_BYTES + endLow - low + 1;
    const part = data.subarray(done, done + bytes);
    const rc = copyPages(pages, areas.indexAt(pfn, low), areas.offsetAt(low), part, options);
    if (rc < 0) throw refusal.cannotPin(op, rc, pages);
    done += bytes;
  });
};

const copyPages = (
  pages: IoptPages,
  index: number,
  offset: number,
  data: Uint8Array,
  { write, process, slow }: AccessRwOptions,
): number => {
  const remote = (slow ?? false) || process !== pages.process;
  const onePage = offset + data.length <= PAGE_BYTES;
  const source = pages.process;
  if (pages.file || (remote && !(onePage && source.alive))) {
    return copyFrames(pages, index, offset, data, write);
  }
  const va = BigInt(pages.basePage + index) * 4096n + BigInt(offset);
  return write ? source.write(va, data) : source.read(va, data);
};

/** Copy through the frames: pinned ones, or pinned for the moment (not charged). */
const copyFrames = (
  pages: IoptPages,
  index: number,
  offset: number,
  data: Uint8Array,
  write: boolean,
): number => {
  const count = Math.ceil((offset + data.length) / PAGE_BYTES);
  const frames = new FrameRuns();
  const rc = pages.acquire(index, count, frames);
  if (rc < 0) return rc;
  const { memory } = pages.context.pool;
  let done = 0;
  let skip = offset;
  for (let i = 0; i < frames.count; i++) {
    const bytes = (frames.pairs[2 * i + 1] as number) * PAGE_BYTES - skip;
    const part = data.subarray(done, done + bytes);
    const pa = (frames.pairs[2 * i] as number) * PAGE_BYTES + skip;
    if (write) memory.copyIn(pa, part);
    else memory.copyOut(pa, part);
    done += part.length;
    skip = 0;
  }
  pages.release(index, count);
  return 0;
};

/** Whether the part of the range in the area at the cursor can be pinned. */
const checkPinnable = ({ areas }: IoPagetable, op: string, low: number, isLast: boolean): void => {
  if (areas.preventsAccess(areas.tree.id)) throw beingUnmapped(op, areas.start);
  const areaEnd = areas.offsetAt(areas.tree.nodes.lastLow(areas.tree.at));
  if (areas.offsetAt(low) === 0 && (isLast || areaEnd === LOW_MASK)) return;
  throw refuse(
    'EINVAL',
    op,
    'page-alignment',
    'the range does not start and go on at whole pages',
    {
      value: areas.start,
      accepted: 'an IOVA whose memory is page aligned, over areas of whole pages',
    },
  );
};

const IOPT_READ = 1;
const IOPT_WRITE = 2;

/** The mapping itself must have the right, whatever its pages would allow. */
const checkRights = (op: string, prot: number, write: boolean, iova: U64): void => {
  if (prot & (write ? IOPT_WRITE : IOPT_READ)) return;
  const right = write ? 'WRITEABLE' : 'READABLE';
  throw refuse('EPERM', op, 'mapping-rights', `the mapping was not made ${right}`, {
    value: iova,
    accepted: `a mapping made with IOMMU_IOAS_MAP_${right}`,
  });
};

/** EINVAL for memory that only devices reach. */
const checkReachable = (op: string, { file }: IoptPages): void => {
  if (!file?.isDmabuf) return;
  throw refuse('EINVAL', op, 'dmabuf-access', 'a dma-buf is mapped there', {
    accepted: 'user memory or a file in memory',
  });
};

const beingUnmapped = (op: string, iova: U64) =>
  refuse('EINVAL', op, 'being-unmapped', 'the mapping is being removed', {
    value: iova,
    accepted: 'a mapping that stays',
  });

const unpinUpTo = (
  iopt: IoPagetable,
  startPfn: number,
  startLow: number,
  endPfn: number,
  endLow: number,
  lock: boolean,
): void => {
  if (startPfn === endPfn && startLow === endLow) return;
  const { areas } = iopt;
  const lastLow = endLow === 0 ? LOW_MASK : endLow - 1;
  const lastPfn = endLow === 0 ? endPfn - 1 : endPfn;
  forEachContiguous(
    iopt,
    'unpin',
    startPfn,
    startLow,
    lastPfn,
    lastLow,
    (pfn, low, toPfn, toLow) => {
      const { id } = areas.tree;
      const first = areas.indexAt(pfn, low);
      areas.pages(id).removeAccess(first, areas.indexAt(toPfn, toLow) - first + 1);
      areas.addUse(id, -1, lock);
    },
  );
};
