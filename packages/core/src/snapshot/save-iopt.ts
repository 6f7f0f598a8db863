/**
 * I/O page tables and their pages, as a snapshot holds them.
 * @module
 */
import type { IommufdContext } from '../iommufd/context.ts';
import type { IommufdDevice } from '../iommufd/device.ts';
import type { HwptPaging } from '../iommufd/hwpt.ts';
import type { Ioas } from '../iommufd/ioas.ts';
import type { IoptPages } from '../iopt/index.ts';
import { ShadowIoas } from '../nesting/software-nesting.ts';
import type { AreaState, IoptState, PagesState, ReservedOwner } from './iopt-state.ts';
import type { Numbering } from './numbering.ts';
import { cannotSave, type SaveGraph } from './save-graph.ts';

/** Pages of one mapping call. */
export const savePages = (graph: SaveGraph, pages: IoptPages): PagesState => {
  const { basePage, count, writable, references, pinned, charged, mode } = pages;
  return {
    process: graph.processes.of(pages.process),
    uid: pages.user.uid,
    mode,
    file: pages.file && graph.pinnableRef(pages.file),
    basePage,
    count,
    writable,
    revoked: pages.dmabuf?.revoked ?? false,
    references,
    pinned,
    charged,
    ...pages.save(),
  };
};

/** What finds the things that an I/O page table refers to by identity. */
interface Owners {
  readonly hwpts: ReadonlyMap<unknown, HwptPaging>;
  readonly accesses: ReadonlyMap<unknown, number>;
  readonly shadows: ReadonlyMap<unknown, number>;
}

const ownersOf = (context: IommufdContext): Owners => {
  const hwpts = new Map<unknown, HwptPaging>();
  const accesses = new Map<unknown, number>();
  const shadows = new Map<unknown, number>();
  for (const { id, kind } of context.objects.all()) {
    if (kind === 'HWPT_PAGING') {
      const hwpt = context.find('save', id, kind);
      hwpts.set(hwpt.domain, hwpt);
    } else if (kind === 'ACCESS') accesses.set(context.find('save', id, kind).handle, id);
    else if (kind === 'IOAS') {
      const ioas = context.find('save', id, kind);
      if (ioas instanceof ShadowIoas) shadows.set(ioas.composer, id);
    }
  }
  return { hwpts, accesses, shadows };
};

/** Ids of things found by identity. */
const idsOf = (
  things: readonly unknown[],
  ids: ReadonlyMap<unknown, number>,
  what: string,
): number[] =>
  things.map((thing) => {
    const id = ids.get(thing);
    if (id !== undefined) return id;
    throw cannotSave('foreign-iopt', `${what} of an IOAS is no object`, 'objects of the context');
  });

/** The I/O page table of an IOAS. */
export const saveIopt = (ioas: Ioas, pages: Numbering<IoptPages>): IoptState => {
  const { iopt, context } = ioas;
  const owners = ownersOf(context);
  const ids = new Map([...owners.hwpts].map(([domain, { id }]) => [domain, id]));
  const hwpts = idsOf(
    iopt.domains.map(({ domain }) => domain),
    ids,
    'a domain',
  );
  return {
    areas: saveAreas(ioas, pages),
    reserved: iopt.reserved.all.map(({ start, last, label, owner }) => ({
      start: BigInt(start),
      last: BigInt(last),
      label,
      owner: ownerOf(context, owners, owner),
    })),
    allowed: iopt.allowed.all.map(({ start, last }) => ({
      start: BigInt(start),
      last: BigInt(last),
    })),
    iovaAlignment: iopt.iovaAlignment,
    largePages: iopt.largePages,
    lastUnmappedBytes: BigInt(iopt.lastUnmappedBytes),
    domains: iopt.domains.map(({ label }, index) => ({ hwpt: hwpts[index] as number, label })),
    accesses: idsOf(iopt.accesses, owners.accesses, 'an access'),
    shadows: idsOf(iopt.dependents, owners.shadows, 'a dependent'),
  };
};

const saveAreas = ({ iopt: { areas } }: Ioas, pages: Numbering<IoptPages>): AreaState[] => {
  const states: AreaState[] = [];
  const { tree } = areas;
  for (let more = tree.seek(0, 0); more; more = tree.advance()) {
    states.push(areas.saveAtCursor(pages.of(areas.pages(tree.id))));
  }
  return states;
};

const ownerOf = (context: IommufdContext, { hwpts }: Owners, owner: unknown): ReservedOwner => {
  if (owner === undefined) return { kind: 'none' };
  const hwpt = hwpts.get(owner);
  if (hwpt) return { kind: 'hwpt', id: hwpt.id };
  const device = context.objects.all().find((object) => object === owner);
  if (device?.kind === 'DEVICE') return { kind: 'device', id: (device as IommufdDevice).id };
  throw cannotSave('foreign-iopt', 'a reserved range has an owner that is no object', 'no owner');
};
