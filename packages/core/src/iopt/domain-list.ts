/**
 * Domains join and leave an I/O address space; each holds every area.
 * @linux drivers/iommu/iommufd/io_pagetable.c iopt_table_add_domain, iopt_table_remove_domain
 * @module
 */
import { refuse } from '../errors.ts';
import { fromPair, MAX_PFN, type U64, U64_MAX } from './address.ts';
import { requireAlignment, settleAlignment } from './alignment.ts';
import type { DomainEntry } from './area-filler.ts';
import { granulesPerPage, type IoptDomain, unmapSpan } from './domain-fill.ts';
import type { IoPagetable } from './io-pagetable.ts';
import * as refusal from './refusals.ts';

/** Byte address of a granule. */
const granuleAddress = (domain: IoptDomain, frame: number): U64 => {
  const perPage = granulesPerPage(domain);
  return fromPair(Math.floor(frame / perPage), (frame % perPage) * 2 ** domain.granuleLg2);
};

/**
 * Add a domain and fill it with every area.
 *
 * @param label its name for refusals, `'HWPT 3'`
 * @throws {IommuError} EEXIST (there already); EINVAL (smallest page above 4096); EADDRINUSE
 * (misaligned areas; mappings or allowed ranges outside the aperture); EFAULT, ENOMEM or what the
 * driver says while filling. Nothing has changed then.
 */
export const addDomain = (
  iopt: IoPagetable,
  domain: IoptDomain,
  label: string,
  op = 'IOMMU_HWPT_ALLOC',
): void => {
  if (iopt.domains.some((entry) => entry.domain === domain)) {
    throw refuse('EEXIST', op, 'domain-twice', `${label} is in this IOAS already`, {
      owner: label,
      accepted: 'a domain that is not in the IOAS yet',
    });
  }
  if (domain.granuleLg2 > 12) {
    throw refuse('EINVAL', op, 'page-size', `${label} has no pages of 4096 bytes or less`, {
      value: 2 ** domain.granuleLg2,
      accepted: 'a smallest page of at most 4096 bytes',
    });
  }
  const alignment = Math.max(2 ** domain.granuleLg2, iopt.iovaAlignment);
  requireAlignment(iopt, op, alignment);
  if (iopt.context.shouldFail('domain-list')) throw refusal.outOfMemory(op, 'the list of domains');
  const entry = { domain, label };
  try {
    reserveOutside(iopt, op, entry);
    fillDomain(iopt, op, entry);
  } catch (error) {
    iopt.reserved.removeOwner(domain);
    throw error;
  }
  iopt.domains.push(entry);
  iopt.iovaAlignment = alignment;
};

/** Take a domain out: unmap all of it, and unpin what nobody else needs. */
export const removeDomain = (iopt: IoPagetable, domain: IoptDomain): void => {
  const at = iopt.domains.findIndex((entry) => entry.domain === domain);
  if (at < 0) return;
  iopt.domains.splice(at, 1);
  emptyDomain(iopt, domain, iopt.areas.count);
  iopt.reserved.removeOwner(domain);
  settleAlignment(iopt);
};

/** Reserve what lies outside the aperture, owned by the domain. */
const reserveOutside = (iopt: IoPagetable, op: string, { domain, label }: DomainEntry): void => {
  const owner = domain;
  if (domain.apertureStartFrame > 0) {
    const last = BigInt(granuleAddress(domain, domain.apertureStartFrame)) - 1n;
    iopt.reserve({ start: 0, last, owner, label: `what lies below the aperture of ${label}` }, op);
  }
  const perPage = granulesPerPage(domain);
  if (domain.apertureLastFrame < (MAX_PFN + 1) * perPage - 1) {
    const start = granuleAddress(domain, domain.apertureLastFrame + 1);
    const what = `what lies above the aperture of ${label}`;
    iopt.reserve({ start, last: U64_MAX, owner, label: what }, op);
  }
};

/** Fill a new domain with every area; what was done is undone before a throw. */
const fillDomain = (iopt: IoPagetable, op: string, entry: DomainEntry): void => {
  const { areas, filler } = iopt;
  const { tree } = areas;
  const isFirst = iopt.domains.length === 0;
  let done = 0;
  try {
    for (let more = tree.seek(0, 0); more; more = tree.advance(), done++) {
      fillArea(iopt, op, entry, isFirst);
    }
  } catch (error) {
    emptyDomain(iopt, entry.domain, done);
    throw error;
  }
  filler.frames.clear();
};

/**
 * Map every area into a domain that is in the list already and empty, without pinning anything.
 *
 * @throws {IommuError} what the driver answers; the domain is empty again then
 */
export const refillDomain = (iopt: IoPagetable, entry: DomainEntry, op: string): void =>
  fillDomain(iopt, op, entry);

/** Fill the area at the cursor. The first domain pins; later ones get the same frames. */
const fillArea = (iopt: IoPagetable, op: string, entry: DomainEntry, isFirst: boolean): void => {
  const { areas, filler } = iopt;
  const { id } = areas.tree;
  const pages = areas.pages(id);
  const first = areas.firstIndex(id);
  const count = areas.lastIndexAtCursor() - first + 1;
  filler.aimAtCursor();
  if (isFirst) filler.pin(op, entry, pages, first, count, areas.prot(id));
  else {
    if (iopt.context.shouldFail('pin-batch')) throw refusal.outOfMemory(op, 'a batch of frames');
    filler.frames.clear();
    pages.collect(first, count, filler.frames);
  }
  let mapped = false;
  try {
    filler.mapInto(op, entry, pages, areas.pageOffset(id), areas.prot(id));
    mapped = true;
    if (isFirst) filler.charge(op, pages);
  } catch (error) {
    if (mapped) {
      unmapSpan(entry.domain, filler.span);
      entry.domain.sync();
    }
    if (isFirst) {
      pages.release(first, count);
      pages.settle();
    }
    throw error;
  }
};

/** Unmap the first `count` areas from a domain that is not in the list, then drop pins no longer needed. */
const emptyDomain = (iopt: IoPagetable, domain: IoptDomain, count: number): void => {
  const { areas, filler } = iopt;
  const { tree } = areas;
  let left = count;
  for (let more = tree.seek(0, 0); more && left > 0; more = tree.advance(), left--) {
    filler.aimAtCursor();
    unmapSpan(domain, filler.span);
  }
  domain.sync();
  if (iopt.domains.length > 0) return;
  left = count;
  for (let more = tree.seek(0, 0); more && left > 0; more = tree.advance(), left--) {
    const { id } = tree;
    const first = areas.firstIndex(id);
    areas.pages(id).release(first, areas.lastIndexAtCursor() - first + 1);
    areas.pages(id).settle();
  }
};
