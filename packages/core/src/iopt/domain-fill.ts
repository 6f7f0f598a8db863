/**
 * Putting the frames of an area into a domain, and taking them out: from 4 KiB frames to the
 * domain's granules, with the first and last page cut where the area starts or ends inside one.
 * @module
 */
import { type PagingDomain, PROT } from '../driver/domains.ts';
import { FrameRuns } from '../memory/index.ts';

/** What an I/O page table needs of a paging domain. */
export type IoptDomain = Pick<
  PagingDomain,
  'granuleLg2' | 'apertureStartFrame' | 'apertureLastFrame' | 'mapRuns' | 'unmap' | 'sync'
>;

/** Granules of a 4 KiB page. */
export const granulesPerPage = (domain: Pick<IoptDomain, 'granuleLg2'>): number =>
  2 ** (12 - domain.granuleLg2);

/** Pages that one call maps while large pages are off. */
const SMALL_BATCH = 512;

/** A range of IOVAs as the inner loops pass it: start and length as pairs. */
export interface IovaSpan {
  startPfn: number;
  startLow: number;
  pages: number;
  low: number;
}

const firstFrame = ({ startPfn, startLow }: IovaSpan, domain: IoptDomain): number =>
  startPfn * granulesPerPage(domain) + (startLow >> domain.granuleLg2);

const frameCount = ({ pages, low }: IovaSpan, domain: IoptDomain): number =>
  pages * granulesPerPage(domain) + (low >> domain.granuleLg2);

const scratch = new FrameRuns(SMALL_BATCH);

/**
 * Map frames at an IOVA.
 *
 * @param pageOffset byte offset in the first frame
 * @param prot `IOMMU_READ` 1, `IOMMU_WRITE` 2
 * @param largePages false: one 4 KiB page at a time, so that no larger leaf comes to be
 * @returns 0, or the driver's negative errno with nothing mapped
 * @linux drivers/iommu/iommufd/pages.c batch_to_domain, batch_iommu_map_small
 * @hot
 */
export const mapFrames = (
  domain: IoptDomain,
  span: IovaSpan,
  pageOffset: number,
  frames: FrameRuns,
  prot: number,
  largePages: boolean,
): number => {
  const rights = prot | PROT.CACHE;
  if (!largePages) return mapSmall(domain, span, pageOffset, frames, rights);
  if (domain.granuleLg2 === 12) {
    return domain.mapRuns(span.startPfn, frames.pairs, frames.count, rights);
  }
  const perPage = granulesPerPage(domain);
  let skip = pageOffset >> domain.granuleLg2;
  let left = frameCount(span, domain);
  scratch.clear();
  for (let i = 0; i < frames.count; i++) {
    const count = Math.min(left, (frames.pairs[2 * i + 1] as number) * perPage - skip);
    scratch.push((frames.pairs[2 * i] as number) * perPage + skip, count);
    left -= count;
    skip = 0;
  }
  return domain.mapRuns(firstFrame(span, domain), scratch.pairs, scratch.count, rights);
};

/** Take a range out of a domain; its `sync` is the caller's. */
export const unmapSpan = (domain: IoptDomain, span: IovaSpan): void => {
  domain.unmap(firstFrame(span, domain), frameCount(span, domain));
};

const smallPairs = new Float64Array(2 * SMALL_BATCH);

const mapSmall = (
  domain: IoptDomain,
  span: IovaSpan,
  pageOffset: number,
  frames: FrameRuns,
  prot: number,
): number => {
  const perPage = granulesPerPage(domain);
  const start = firstFrame(span, domain);
  const total = frameCount(span, domain);
  let skip = pageOffset >> domain.granuleLg2;
  let mapped = 0;
  let batched = 0;
  let pairs = 0;
  const flush = (): number => {
    const rc = pairs === 0 ? 0 : domain.mapRuns(start + mapped, smallPairs, pairs, prot);
    if (rc < 0 && mapped > 0) {
      domain.unmap(start, mapped);
      domain.sync();
    }
    mapped += batched;
    batched = 0;
    pairs = 0;
    return rc;
  };
  for (let i = 0; i < frames.count; i++) {
    const end = (frames.pairs[2 * i] as number) + (frames.pairs[2 * i + 1] as number);
    for (let pfn = frames.pairs[2 * i] as number; pfn < end; pfn++) {
      const count = Math.min(perPage - skip, total - mapped - batched);
      smallPairs[2 * pairs] = pfn * perPage + skip;
      smallPairs[2 * pairs + 1] = count;
      pairs++;
      batched += count;
      skip = 0;
      if (pairs < SMALL_BATCH) continue;
      const rc = flush();
      if (rc < 0) return rc;
    }
  }
  return flush();
};
