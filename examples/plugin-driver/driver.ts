/** The driver: what `machine.addUnit(flatIommu())` brings up. */
// #region driver
import {
  type BlockingDomain,
  type Domain,
  DRIVER_API_VERSION,
  defineDriver,
  HostMemory,
  type IommuDriver,
  type IommuUnit,
  refuse,
  type UnitCaps,
  type UnitHost,
} from '@iommukit/core';
import { FlatDomain } from './domain.ts';
import { FlatIommu } from './hardware.ts';

/** A number of our own in `enum iommu_hw_info_type`. */
const HW_INFO_TYPE = 0x5eed;

const CAPS: UnitCaps = {
  pageSizesLg2: [12],
  iovaBits: 26,
  oaBits: 52,
  pasidBits: 0,
  enforcesCacheCoherency: false,
  cacheCoherent: true,
  guestStage: 0,
  ats: false,
  pri: false,
  stall: false,
};

const notOffered = (op: string, rule: string) =>
  refuse('EOPNOTSUPP', op, rule, 'the flat IOMMU does not offer that', { accepted: '0' });

const createUnit = (driver: IommuDriver, { machine }: UnitHost): IommuUnit => {
  const hardware = new FlatIommu(machine.memory);
  const memory = new HostMemory(machine.memory);
  const unit: IommuUnit = {
    name: driver.name,
    driver,
    caps: CAPS,
    agent: hardware,
    get blocking(): BlockingDomain {
      return { kind: 'blocking', unit, free: () => {} };
    },
    probeDevice: () => {},
    releaseDevice: ({ rid }) => hardware.writeTableRegister(rid, 0),
    reservedRegions: () => [],
    hwInfo: (_device, type) => {
      if (type !== 0 && type !== HW_INFO_TYPE) throw notOffered('IOMMU_GET_HW_INFO', 'type');
      return { type: HW_INFO_TYPE, data: new Uint8Array(4) };
    },
    hwCapabilities: () => 0,
    allocPaging: (_device, { flags, userData }) => {
      if (flags !== 0 || userData) throw notOffered('IOMMU_HWPT_ALLOC', 'flags');
      return new FlatDomain(unit, memory);
    },
    attach: ({ rid }, _pasid, domain: Domain) =>
      hardware.writeTableRegister(rid, domain instanceof FlatDomain ? domain.tablePa : 0),
  };
  return unit;
};

/** An IOMMU with one flat table per domain. */
export const flatIommu = (): IommuDriver => {
  const driver: IommuDriver = defineDriver({
    apiVersion: DRIVER_API_VERSION,
    name: 'flat-iommu',
    hwInfoType: HW_INFO_TYPE,
    create: (host) => createUnit(driver, host),
  });
  return driver;
};
// #endregion
