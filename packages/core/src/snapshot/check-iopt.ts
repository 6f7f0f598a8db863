/**
 * Saved I/O page tables: areas in order, inside their pages; pages pinned as they say.
 * @module
 */
import { need, needIndex } from './check.ts';
import type { RamFrames } from './check-memory.ts';
import type { AreaState, IoptState, PagesState } from './iopt-state.ts';

const LOW_MASK = 0xfff;
const MAX_PFN = 2 ** 52 - 1;
const MAX_ALIGNMENT = 4096;

/** Counts that references in pages point into. */
export interface PagesScope {
  readonly processes: number;
  readonly memoryFiles: number;
  readonly foreign: number;
}

/** @throws {IommuError} EINVAL */
export const checkPages = (pages: PagesState, scope: PagesScope, ram: RamFrames): void => {
  const { process, file, mode, count, basePage, users, whole, partial, accesses } = pages;
  needIndex(process, scope.processes, 'process');
  if (file?.kind === 'memory') needIndex(file.index, scope.memoryFiles, 'file in memory');
  if (file?.kind === 'foreign') needIndex(file.index, scope.foreign, 'foreign thing');
  need(!pages.revoked || file?.kind === 'foreign', 'pages of no dma-buf are revoked');
  need(mode <= 2, 'pages have no such account', mode);
  need(count > 0 && basePage + count <= 2 * (MAX_PFN + 1), 'pages have a bad length', count);
  const frames = whole.reduce((sum, run) => sum + run.count, 0);
  need(users >= 0 && frames === (users > 0 ? count : 0), 'pages have other frames pinned', frames);
  for (const run of whole) ram.need(run.pfn, run.count, 'pages');
  need(!(partial && users > 0), 'pages are pinned as a whole and in part');
  if (partial) checkPartial(partial, count, ram);
  for (const access of accesses) {
    const inside = access.users > 0 && access.count > 0 && access.first + access.count <= count;
    need(inside, 'an access lies outside its pages', access.first);
  }
};

const checkPartial = (
  { cover, frames }: NonNullable<PagesState['partial']>,
  count: number,
  ram: RamFrames,
): void => {
  let from = -1;
  for (const { start, level } of cover) {
    need(start > from && start <= count && level >= 0, 'users of pages are out of order', start);
    from = start;
  }
  need(cover.length > 0 && cover.at(-1)?.level === 0, 'users of pages do not end');
  ram.needRuns(frames, count, 'pages');
};

/** @throws {IommuError} EINVAL */
export const checkIopt = (iopt: IoptState, pages: readonly PagesState[]): void => {
  const { iovaAlignment, areas, reserved, allowed } = iopt;
  const isPower = iovaAlignment > 0 && (iovaAlignment & (iovaAlignment - 1)) === 0;
  need(isPower && iovaAlignment <= MAX_ALIGNMENT, 'no such alignment', iovaAlignment);
  let end = 0n;
  for (const area of areas) {
    needIndex(area.pages, pages.length, 'pages object');
    const of = pages[area.pages] as PagesState;
    end = checkArea(area, of, end);
    const isPinned = of.users > 0 || of.partial !== undefined;
    need(isPinned || iopt.domains.length === 0, 'pages of a domain are not pinned', area.startPfn);
  }
  for (const { start, last } of [...reserved, ...allowed]) {
    need(start <= last, 'a range ends before it starts', start);
  }
};

/** @returns the first byte behind the area */
const checkArea = (area: AreaState, pages: PagesState, from: bigint): bigint => {
  const { startPfn, startLow, lastPfn, lastLow, startIndex, pageOffset, prot } = area;
  need((startLow | lastLow | pageOffset) <= LOW_MASK, 'an area has a bad offset', startLow);
  need(startPfn <= lastPfn && lastPfn <= MAX_PFN, 'an area has no such address', startPfn);
  const start = BigInt(startPfn) * 4096n + BigInt(startLow);
  const last = BigInt(lastPfn) * 4096n + BigInt(lastLow);
  need(start >= from && start <= last, 'areas are out of order', start);
  const bytes = BigInt(pageOffset) + last - start + 1n;
  const index = BigInt(startIndex) + (bytes + 4095n) / 4096n;
  need(index <= BigInt(pages.count), 'an area lies outside its pages', startIndex);
  need(prot <= 3 && area.locks <= area.accesses, 'an area has bad rights or locks', prot);
  return last + 1n;
};
