/**
 * What a cache invalidation of the posted interface may say, and what a VT-d unit made of it.
 *
 * @spec mail of 25 September 2020, 1601051567-54787-6 (IOMMU user API v12, 5/6)
 * @module
 */
import { hex, type VfioCall } from '../call.ts';
import type { ValuesOf } from '../uapi/struct.ts';
import { CACHE, GRANULARITY, INV_FLAG, type LIU_STRUCTS } from './liu-layouts.ts';

/** A decoded `iommu_cache_invalidate_info`. */
export type InvalidateInfo = ValuesOf<(typeof LIU_STRUCTS)['cache_invalidate_info']['fields']>;

const CACHES = [
  { bit: CACHE.IOTLB, name: 'IOTLB' },
  { bit: CACHE.DEV_IOTLB, name: 'DEV_IOTLB' },
  { bit: CACHE.PASID, name: 'PASID' },
] as const;
const ALL_CACHES = CACHE.IOTLB | CACHE.DEV_IOTLB | CACHE.PASID;
const VERSION = 1;
const PAGE_LG2 = 12;
/** `npages` that means everything (`struct iommu_hwpt_vtd_s1_invalidate`). */
const ALL_PAGES = (1n << 64n) - 1n;

/** Bytes of the info that each granularity reads. */
export const infoBytes = (granularity: number): number =>
  granularity === GRANULARITY.ADDR ? 56 : granularity === GRANULARITY.PASID ? 32 : 16;

/** (cache, granularity) pairs that make no sense on any IOMMU. */
const isImpossible = (bit: number, granularity: number): boolean =>
  (bit === CACHE.DEV_IOTLB && granularity === GRANULARITY.DOMAIN) ||
  (bit === CACHE.PASID && granularity === GRANULARITY.ADDR);

/**
 * The checks that every IOMMU shares.
 *
 * @throws {IommuError} EINVAL
 */
export const checkInfo = (call: VfioCall, info: InvalidateInfo): void => {
  const { version, cache, granularity, argsz } = info;
  const bad = (rule: string, message: string, value: number, accepted: string) =>
    call.refuse('EINVAL', rule, message, { value, accepted });
  if (version !== VERSION) throw bad('version', `version ${version}`, version, `${VERSION}`);
  if (cache & ~ALL_CACHES) throw bad('cache', `unknown caches in ${hex(cache)}`, cache, '1, 2, 4');
  if (granularity > GRANULARITY.ADDR) {
    throw bad('granularity', `no granularity ${granularity}`, granularity, '0 to 2');
  }
  if (info.padding0 !== 0 || info.padding1 !== 0) {
    throw bad('padding', 'the padding is not zero', 1, 'zeros');
  }
  call.checkArgsz(argsz, infoBytes(granularity));
  for (const { bit, name } of CACHES) {
    if ((cache & bit) === 0 || !isImpossible(bit, granularity)) continue;
    throw bad(
      'cache-granularity',
      `${name} has no granularity ${granularity}`,
      granularity,
      'another',
    );
  }
};

/** One invalidation of a first stage, as iommufd takes it. */
export interface FirstStageInvalidation {
  readonly pasid: number;
  readonly addr: bigint;
  /** Pages of 4096 bytes; 2^64 - 1 = everything. */
  readonly npages: bigint;
  readonly leaf: boolean;
}

/**
 * What a VT-d unit does for it: the caches in the order of their bits, up to the first one that has
 * no command for the granularity. The posted driver stopped there without an error.
 *
 * @returns the invalidations, and the cache without command, if any
 * @throws {IommuError} ERANGE for an address that is not aligned to the size of its range
 */
export const vtdInvalidations = (
  call: VfioCall,
  info: InvalidateInfo,
): { readonly list: readonly FirstStageInvalidation[]; readonly unsupported?: string } => {
  const list: FirstStageInvalidation[] = [];
  for (const { bit, name } of CACHES) {
    if ((info.cache & bit) === 0) continue;
    const all = bit === CACHE.IOTLB && info.granularity === GRANULARITY.PASID;
    const range = bit !== CACHE.PASID && info.granularity === GRANULARITY.ADDR;
    if (!all && !range) return { list, unsupported: name };
    const pasid = info.flags & INV_FLAG.PASID ? Number(info.pasid) : 0;
    const leaf = (info.flags & INV_FLAG.LEAF) !== 0;
    list.push({
      pasid,
      leaf,
      ...(all ? { addr: 0n, npages: ALL_PAGES } : addressRange(call, info)),
    });
  }
  return { list };
};

/** A range as VT-d names it: a power of two of pages, aligned to its size. */
const addressRange = (call: VfioCall, { addr, granuleSize, nbGranules }: InvalidateInfo) => {
  const lg2 = Math.max(0, ceilLg2(granuleSize) - PAGE_LG2) + ceilLg2(nbGranules);
  const npages = 1n << BigInt(Math.min(lg2, 52));
  if (addr % (npages << BigInt(PAGE_LG2)) === 0n) return { addr, npages };
  throw call.refuse('ERANGE', 'invalidate-alignment', `${hex(addr)} is not aligned to its range`, {
    value: addr,
    accepted: `a multiple of ${hex(npages << BigInt(PAGE_LG2))}`,
  });
};

/** Smallest n with 2^n at or above the value; 0 for 0. */
const ceilLg2 = (value: bigint): number => (value <= 1n ? 0 : (value - 1n).toString(2).length);
