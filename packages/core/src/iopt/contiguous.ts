/**
 * Ranges of IOVAs that must be mapped without a gap.
 * @linux drivers/iommu/iommufd/io_pagetable.c iopt_for_each_contig_area
 * @module
 */
import { checkU64, fromPair, LOW_MASK, lowOf, MAX_PFN, pfnOf, type U64 } from './address.ts';
import type { IoPagetable } from './io-pagetable.ts';
import * as refusal from './refusals.ts';

/**
 * Call `visit` with the part of each area inside a range, the tree's cursor on it.
 *
 * @throws {IommuError} ENOENT at the first gap, after the parts before it
 */
export const forEachContiguous = (
  { areas }: IoPagetable,
  op: string,
  startPfn: number,
  startLow: number,
  lastPfn: number,
  lastLow: number,
  visit: (startPfn: number, startLow: number, lastPfn: number, lastLow: number) => void,
): void => {
  const { tree } = areas;
  let pfn = startPfn;
  let low = startLow;
  for (;;) {
    if (areas.find(pfn, low) < 0) {
      const range = { start: fromPair(startPfn, startLow), last: fromPair(lastPfn, lastLow) };
      throw refusal.notMapped(
        op,
        range,
        `has nothing mapped at 0x${fromPair(pfn, low).toString(16)}`,
      );
    }
    const areaPfn = tree.nodes.lastPfn[tree.at] as number;
    const areaLow = tree.nodes.lastLow(tree.at);
    const ends = areaPfn > lastPfn || (areaPfn === lastPfn && areaLow >= lastLow);
    visit(pfn, low, ends ? lastPfn : areaPfn, ends ? lastLow : areaLow);
    if (ends) return;
    low = (areaLow + 1) & LOW_MASK;
    pfn = low === 0 ? areaPfn + 1 : areaPfn;
  }
};

/**
 * A range of IOVAs in pairs, checked.
 *
 * @throws {IommuError} EINVAL (length 0), EOVERFLOW
 */
export const iovaSpan = (op: string, what: string, iova: U64, length: U64) => {
  checkU64(op, what, iova);
  checkU64(op, 'length', length);
  if (length === 0 || length === 0n) throw refusal.emptyRange(op);
  const startPfn = pfnOf(iova);
  const startLow = lowOf(iova);
  const end = startLow + lowOf(length) - 1;
  const lastPfn = startPfn + pfnOf(length) + (end >> 12);
  if (lastPfn > MAX_PFN) throw refusal.wraps(op, what, iova, length);
  return { startPfn, startLow, lastPfn, lastLow: end & LOW_MASK };
};
