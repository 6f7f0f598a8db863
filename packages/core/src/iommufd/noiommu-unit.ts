/**
 * What stands in for an IOMMU where a device has none: page tables that nobody walks, so that
 * mappings are pinned and their physical addresses can be asked for.
 *
 * @linux drivers/iommu/iommufd/hwpt_noiommu.c
 * @module
 */
import type { IommuDriver, IommuUnit } from '../driver/contract.ts';
import { DRIVER_API_VERSION } from '../driver/contract.ts';
import { defineDriver } from '../driver/define-driver.ts';
import type { BlockingDomain, PagingDomain } from '../driver/domains.ts';
import { refuse } from '../errors.ts';

const GRANULE_LG2 = 12;
const LAST_FRAME = 2 ** 52 - 1;

const unsupported = (op: string, message: string) =>
  refuse('EOPNOTSUPP', op, 'noiommu', message, { accepted: 'a device behind an IOMMU' });

const driver: IommuDriver = defineDriver({
  apiVersion: DRIVER_API_VERSION,
  name: 'noiommu',
  hwInfoType: 0,
  create: () => {
    throw unsupported('addUnit', 'devices without IOMMU need no unit');
  },
});

const makeDomain = (): PagingDomain => ({
  kind: 'paging',
  unit: NOIOMMU_UNIT,
  granuleLg2: GRANULE_LG2,
  pageSizesLg2: [GRANULE_LG2],
  apertureStartFrame: 0,
  apertureLastFrame: LAST_FRAME,
  nestParent: false,
  pasidCompatible: false,
  enforcesCacheCoherency: false,
  free: () => {},
  mapRuns: () => 0,
  unmap: (_iovaFrame, count) => count,
  sync: () => {},
  iovaToFrame: () => -1,
  readRuns: () => 0,
});

const blocking: BlockingDomain = {
  kind: 'blocking',
  get unit() {
    return NOIOMMU_UNIT;
  },
  free: () => {},
};

/** The stand-in. It blocks nothing: such a device reaches all memory. */
export const NOIOMMU_UNIT: IommuUnit = {
  name: 'noiommu',
  driver,
  caps: {
    pageSizesLg2: [GRANULE_LG2],
    iovaBits: 64,
    oaBits: 52,
    pasidBits: 0,
    enforcesCacheCoherency: false,
    cacheCoherent: true,
    guestStage: 0,
    ats: false,
    pri: false,
    stall: false,
  },
  agent: { translatePage: (_rid, _pasid, iovaPfn) => iovaPfn },
  blocking,
  probeDevice: () => {},
  releaseDevice: () => {},
  reservedRegions: () => [],
  hwInfo: () => {
    throw unsupported('IOMMU_GET_HW_INFO', 'there is no IOMMU to describe');
  },
  hwCapabilities: () => 0,
  allocPaging: (_device, { flags, userData }) => {
    if (flags === 0 && !userData) return makeDomain();
    throw unsupported('IOMMU_HWPT_ALLOC', 'nothing here can do more than plain mappings');
  },
  attach: () => {},
};
