/**
 * The computers that recordings were made on, as far as iommufd sees them.
 * @module
 */
import {
  addToVfioGroup,
  BLOCKED,
  type BlockingDomain,
  createMachine,
  DRIVER_API_VERSION,
  defineDriver,
  type Endpoint,
  HWPT_ALLOC,
  type IommuDriver,
  type IommufdContext,
  type IommuUnit,
  type Machine,
  type PagingDomain,
  refuse,
  type UnitHost,
  VfioDevice,
  type VfioGroup,
} from '@iommukit/core';
import { MockPagingDomain } from '../mock/paging-domain.ts';

/** Where a sequence was recorded: only the kernel's mock devices, PCI
 * devices without IOMMU, or the same devices behind a VT-d. */
export type GoldenPlatform =
  | 'mock'
  | 'noiommu'
  | 'vtd-legacy'
  | 'vtd-scalable-stage1'
  | 'vtd-scalable-stage2';

/** What differs between the VT-d platforms: the registers, and the width of the tables used. */
interface RecordedVtd {
  /** Capability and extended capability register, as hw_info reports them. */
  readonly cap: bigint;
  readonly ecap: bigint;
  readonly lastIova: number;
}

const VTD: Readonly<Record<Exclude<GoldenPlatform, 'mock' | 'noiommu'>, RecordedVtd>> = {
  'vtd-legacy': { cap: 0x00d2008c222f0686n, ecap: 0xf00f4an, lastIova: 2 ** 48 - 1 },
  'vtd-scalable-stage1': {
    cap: 0x01d2008c222f0686n,
    ecap: 0x8800_00f0_0f4an,
    lastIova: 2 ** 47 - 1,
  },
  'vtd-scalable-stage2': {
    cap: 0x00d2008c222f0686n,
    ecap: 0x4800_80f0_0f4an,
    lastIova: 2 ** 48 - 1,
  },
};

const HW_INFO_INTEL_VTD = 1;
const HW_INFO_ERRATA_772415 = 1;
const MSI_WINDOW = { start: 0xfee0_0000, last: 0xfeef_ffff, kind: 'msi' } as const;
const OP = 'IOMMU_HWPT_ALLOC';

/** Answers as the recorded kernel's VT-d driver did: no nesting, no dirty tracking, no PRI. */
const recordedVtd = (recorded: RecordedVtd): IommuDriver => {
  const driver: IommuDriver = defineDriver({
    apiVersion: DRIVER_API_VERSION,
    name: 'recorded-vtd',
    hwInfoType: HW_INFO_INTEL_VTD,
    create: (host: UnitHost) => makeUnit(driver, host, recorded),
  });
  return driver;
};

const makeUnit = (driver: IommuDriver, _host: UnitHost, recorded: RecordedVtd): IommuUnit => {
  const unit: IommuUnit = {
    name: 'recorded-vtd',
    driver,
    caps: {
      pageSizesLg2: [12, 21, 30],
      iovaBits: 48,
      oaBits: 39,
      pasidBits: 0,
      enforcesCacheCoherency: false,
      cacheCoherent: true,
      guestStage: 0,
      ats: false,
      pri: false,
      stall: false,
    },
    agent: { translatePage: () => BLOCKED },
    get blocking() {
      return blocking;
    },
    probeDevice: () => {},
    releaseDevice: () => {},
    reservedRegions: () => [MSI_WINDOW],
    hwInfo: (_device, type) => hwInfo(recorded, type),
    hwCapabilities: () => 0,
    allocPaging: (_device, { flags, userData }) => {
      if (flags & ~HWPT_ALLOC.PASID || userData) throw unsupported(flags);
      return makeDomain(unit, recorded, flags);
    },
    attach: () => {},
    nesting: {
      allocNested: (_device, _parent, flags) => {
        throw unsupported(flags);
      },
    },
  };
  const blocking: BlockingDomain = { kind: 'blocking', unit, free: () => {} };
  return unit;
};

const unsupported = (flags: number) =>
  refuse('EOPNOTSUPP', OP, 'recorded-vtd', 'the recorded unit offers neither', {
    value: flags,
    accepted: '0 or IOMMU_HWPT_ALLOC_PASID, without data',
  });

const hwInfo = ({ cap, ecap }: RecordedVtd, type: number) => {
  if (type !== 0 && type !== HW_INFO_INTEL_VTD) {
    throw refuse('EOPNOTSUPP', 'IOMMU_GET_HW_INFO', 'hw-info-type', 'not VT-d', { value: type });
  }
  const data = new Uint8Array(24);
  const view = new DataView(data.buffer);
  view.setUint32(0, HW_INFO_ERRATA_772415, true);
  view.setBigUint64(8, cap, true);
  view.setBigUint64(16, ecap, true);
  return { type: HW_INFO_INTEL_VTD, data };
};

const makeDomain = (unit: IommuUnit, { lastIova }: RecordedVtd, flags: number): PagingDomain =>
  new MockPagingDomain(unit, {
    granuleLg2: 12,
    pageSizesLg2: [12, 21, 30],
    aperture: { start: 0, last: lastIova },
    nestParent: false,
    pasidCompatible: (flags & HWPT_ALLOC.PASID) !== 0,
    dirtyTracking: false,
  });

/** A machine with what a recording names. */
export interface ReplayMachine {
  readonly platform: GoldenPlatform;
  readonly machine: Machine;
  /** Devices under VFIO by the end of their path: `cdev_a`. */
  readonly devices: ReadonlyMap<string, VfioDevice>;
  /** Groups by the end of their path: `group_cd`. */
  readonly groups: ReadonlyMap<string, VfioGroup>;
  /** Contexts that were opened. */
  readonly contexts: IommufdContext[];
}

const PCI_DEVICES = [
  { letter: 'a', rid: '00:05.0', group: 'group_a' },
  { letter: 'b', rid: '00:06.0', group: 'group_b' },
  { letter: 'c', rid: '02:01.0', group: 'group_cd' },
  { letter: 'd', rid: '02:02.0', group: 'group_cd' },
] as const;

/** Make the machine of a platform. */
export const createReplayMachine = (platform: GoldenPlatform, ramBytes: number): ReplayMachine => {
  const machine = createMachine({ ramBytes });
  const devices = new Map<string, VfioDevice>();
  const groups = new Map<string, VfioGroup>();
  if (platform !== 'mock') {
    const endpoints = PCI_DEVICES.map(({ rid, group }) =>
      machine.addEndpoint({ rid, group, name: `0000:${rid}` }),
    );
    if (platform !== 'noiommu') machine.addUnit(recordedVtd(VTD[platform]));
    PCI_DEVICES.forEach(({ letter, group }, index) => {
      const device = new VfioDevice(endpoints[index] as Endpoint);
      devices.set(`cdev_${letter}`, device);
      groups.set(group, addToVfioGroup(device));
    });
  }
  return { platform, machine, devices, groups, contexts: [] };
};
