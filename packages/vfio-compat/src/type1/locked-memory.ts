/**
 * RLIMIT_MEMLOCK as type1 applies it: pages count as locked (VmLck) in the process that maps,
 * CAP_IPC_LOCK lifts the limit but not the count, and VmPin stays as it is.
 *
 * @linux drivers/vfio/vfio_iommu_type1.c vfio_pin_pages_remote, mm_lock_acct
 * @module
 */
import { FramePool, FrameRuns, PAGE_BYTES, type Process } from '@iommukit/core';
import type { VfioCall } from '../call.ts';

/** First page number above any user memory, 2^47 bytes. */
const USER_END_PAGE = 2 ** 35;

/** Pages that a process may still lock; Infinity with CAP_IPC_LOCK. */
const roomOf = (process: Process): number => {
  if (process.capabilities.has('CAP_IPC_LOCK')) return Number.POSITIVE_INFINITY;
  return Math.max(0, Math.floor(process.rlimitMemlockBytes / PAGE_BYTES) - process.lockedPages);
};

/**
 * Check the limit before pages are pinned. The kernel pins page by page and stops at whichever
 * comes first, a bad page or the limit; so does this. A range above all user memory is a bad page
 * too, which the I/O page table would call an overflow.
 *
 * @param page user address / 4096
 * @throws {IommuError} ENOMEM over the limit; EFAULT when a page before it cannot be pinned
 */
export const checkPinnable = (
  call: VfioCall,
  process: Process,
  page: number,
  pages: number,
  writable: boolean,
): void => {
  const room = roomOf(process);
  if (pages <= room && page + pages <= USER_END_PAGE) return;
  const runs = new FrameRuns();
  const rc = process.pinRange(page, Math.min(pages, room + 1), writable, runs);
  if (rc < 0) {
    throw call.refuse('EFAULT', 'user-memory', 'a page of the range cannot be pinned', {
      value: page * PAGE_BYTES,
      accepted: writable ? 'writable user memory' : 'readable user memory',
    });
  }
  unpin(process, runs);
  throw overLimit(call, process, pages);
};

/**
 * Charge pages that are pinned to another process than before (MAP_DMA VADDR by a new owner).
 *
 * @throws {IommuError} ENOMEM over its limit
 */
export const moveLockedPages = (
  call: VfioCall,
  from: Process,
  to: Process,
  pages: number,
): void => {
  if (pages > roomOf(to)) throw overLimit(call, to, pages);
  to.lockedPages += pages;
  from.lockedPages -= pages;
};

/**
 * Run something that pins or unpins through an I/O page table, whose count of pinned pages is
 * iommufd's, and leave the process's VmPin as it was.
 */
export const keepVmPin = <T>(process: Process, run: () => T): T => {
  const { pinnedPages } = process;
  try {
    return run();
  } finally {
    process.pinnedPages = pinnedPages;
  }
};

const unpin = (process: Process, runs: FrameRuns): void => {
  const pool = new FramePool(process.memory);
  for (let i = 0; i < runs.count; i++) {
    pool.unpin(runs.pairs[2 * i] as number, runs.pairs[2 * i + 1] as number);
  }
};

const overLimit = (call: VfioCall, process: Process, pages: number) =>
  call.refuse('ENOMEM', 'memlock', `${pages} pages more would exceed RLIMIT_MEMLOCK`, {
    value: pages,
    accepted: `at most ${process.rlimitMemlockBytes} bytes locked (now ${process.lockedPages} pages), or CAP_IPC_LOCK`,
  });
