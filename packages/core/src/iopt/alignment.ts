/**
 * What alignment an I/O address space asks for, and large pages.
 * @linux drivers/iommu/iommufd/io_pagetable.c iopt_calculate_iova_alignment
 * @module
 */
import { refuse } from '../errors.ts';
import { PAGE_SIZE } from './address.ts';
import type { IoPagetable } from './io-pagetable.ts';
import * as refusal from './refusals.ts';

/** The alignment that domains, accesses and the large-page option ask for together. */
export const neededAlignment = (iopt: IoPagetable): number => {
  let alignment = iopt.largePages ? 1 : PAGE_SIZE;
  for (const { domain } of iopt.domains) alignment = Math.max(alignment, 2 ** domain.granuleLg2);
  for (const access of iopt.accesses) alignment = Math.max(alignment, access.iovaAlignment);
  return alignment;
};

/**
 * Check that every area has an alignment, when it is more than the present one.
 *
 * @throws {IommuError} EADDRINUSE
 */
export const requireAlignment = (iopt: IoPagetable, op: string, alignment: number): void => {
  if (alignment <= iopt.iovaAlignment) return;
  const { areas } = iopt;
  const { tree } = areas;
  const mask = alignment - 1;
  for (let more = tree.seek(0, 0); more; more = tree.advance()) {
    const start = tree.nodes.startLow(tree.at);
    const length = tree.nodes.lastLow(tree.at) - start + 1;
    if ((start | length | areas.pageOffset(tree.id)) & mask) {
      throw refusal.areaMisaligned(op, { start: areas.start, last: areas.last }, alignment);
    }
  }
};

/** Let the alignment fall (or rise, when {@link requireAlignment} said yes) to what is needed. */
export const settleAlignment = (iopt: IoPagetable): void => {
  iopt.iovaAlignment = neededAlignment(iopt);
};

/**
 * `IOMMU_OPTION_HUGE_PAGES`.
 *
 * @throws {IommuError} switching off: EINVAL with domains and mappings; EADDRINUSE with mappings
 * that are not page aligned
 */
export const setLargePages = (iopt: IoPagetable, enable: boolean, op = 'IOMMU_OPTION'): void => {
  if (enable === iopt.largePages) return;
  if (!enable) {
    if (iopt.domains.length > 0 && iopt.areas.count > 0) {
      throw refuse('EINVAL', op, 'large-pages-in-use', 'mappings may use large pages already', {
        owner: iopt.domains[0]?.label ?? '',
        accepted: 'an IOAS without mappings or without HWPTs',
      });
    }
    requireAlignment(iopt, op, PAGE_SIZE);
  }
  iopt.largePages = enable;
  settleAlignment(iopt);
};
