/**
 * I/O page tables of a restored context.
 * @module
 */
import type { Access } from '../iommufd/access.ts';
import type { IommufdContext } from '../iommufd/context.ts';
import type { Ioas } from '../iommufd/ioas.ts';
import { AllowedRanges } from '../iopt/index.ts';
import { IoptPages } from '../iopt/pages.ts';
import { type AccountMode, type PinnableFile, UNPINNABLE_FILE } from '../memory/index.ts';
import { usersOf } from '../memory/user-account.ts';
import type { ShadowIoas } from '../nesting/software-nesting.ts';
import { inconsistent } from './check.ts';
import type { IoptState, PagesState, PinnableRef, ReservedOwner } from './iopt-state.ts';
import type { RestoreGraph } from './restore-graph.ts';

const OP = 'restore';

/** Pages of one mapping call, with their pins. */
export const loadPages = (
  graph: RestoreGraph,
  context: IommufdContext,
  state: PagesState,
): IoptPages => {
  const { memory } = graph.machine;
  const pages = new IoptPages(context.pins, {
    process: graph.processes[state.process] as IoptPages['process'],
    user: usersOf(memory).account(state.uid),
    file: state.file && pinnable(graph, state.file),
    basePage: state.basePage,
    count: state.count,
    writable: state.writable,
    revoked: state.revoked,
    mode: state.mode as AccountMode,
  });
  pages.load(state);
  return pages;
};

const pinnable = (graph: RestoreGraph, ref: PinnableRef): PinnableFile => {
  if (ref.kind === 'unpinnable') return UNPINNABLE_FILE;
  if (ref.kind === 'memory') return graph.memoryFiles[ref.index] as PinnableFile;
  const file = graph.foreign(ref.index) as PinnableFile;
  if (typeof file.pinRange === 'function') return file;
  throw inconsistent('pages of something that cannot be pinned', ref.index);
};

/** Areas, in order. */
export const loadAreas = (ioas: Ioas, state: IoptState, pages: readonly IoptPages[]): void => {
  const { iopt } = ioas;
  for (const area of state.areas) {
    const of = pages[area.pages] as IoptPages;
    of.dmabuf?.track(iopt);
    iopt.areas.load(area, of);
  }
  iopt.largePages = state.largePages;
  iopt.iovaAlignment = state.iovaAlignment;
  iopt.lastUnmappedBytes = narrow(state.lastUnmappedBytes);
  iopt.allowed = new AllowedRanges(
    state.allowed.map(({ start, last }) => ({ start: narrow(start), last: narrow(last) })),
  );
};

/** What refers to other objects; they are all there. */
export const loadIoptRefs = (ioas: Ioas, state: IoptState): void => {
  const { iopt, context } = ioas;
  for (const { hwpt, label } of state.domains) {
    iopt.domains.push({ domain: context.find(OP, hwpt, 'HWPT_PAGING').domain, label });
  }
  for (const id of state.accesses) {
    iopt.accesses.push((context.find(OP, id, 'ACCESS') as Access).handle);
  }
  const shadows = state.shadows.map((id) => (context.find(OP, id, 'IOAS') as ShadowIoas).composer);
  iopt.dependents.splice(0, iopt.dependents.length, ...shadows);
  iopt.reserved.load(
    state.reserved.map(({ start, last, label, owner }) => ({
      start: narrow(start),
      last: narrow(last),
      label,
      owner: ownerOf(context, owner),
    })),
  );
};

const ownerOf = (context: IommufdContext, owner: ReservedOwner): unknown => {
  if (owner.kind === 'hwpt') return context.find(OP, owner.id, 'HWPT_PAGING').domain;
  return owner.kind === 'device' ? context.find(OP, owner.id, 'DEVICE') : undefined;
};

/** A number where it is exact. */
const narrow = (value: bigint): number | bigint =>
  value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
