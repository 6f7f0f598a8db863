/**
 * The mock IOMMU: a unit without registers or tables, for tests of everything above a driver.
 *
 * @linux drivers/iommu/iommufd/selftest.c
 * @module
 */
import { hex } from '@iommukit/bits';
import {
  BLOCKED,
  type BlockingDomain,
  type Domain,
  HW_CAP,
  HWPT_ALLOC,
  type HwInfo,
  type IommuDriver,
  type IommuUnit,
  type MigrationOps,
  type NestedDomain,
  type NestingOps,
  type PageRequest,
  type PagingDomain,
  type PagingRequest,
  PRG_RESPONSE,
  type PriOps,
  type ReservedRegion,
  refuse,
  type TranslationAgent,
  type UnitCaps,
  type UnitDevice,
  type UnitHost,
  type UserBlob,
  type ViommuOps,
} from '@iommukit/core';
import {
  MOCK_APERTURE,
  MOCK_DEVICE_CACHE_DEFAULT,
  MOCK_DEVICE_CACHE_ENTRIES,
  MOCK_DEVICE_FLAG,
  MOCK_FAILING_PASID,
  MOCK_GRANULE_LG2,
  MOCK_HUGE_GRANULE_LG2,
  MOCK_HUGE_PAGE_SIZES_LG2,
  MOCK_HW_INFO_REGISTER,
  MOCK_PAGE_SIZES_LG2,
  MOCK_PAGE_TABLE,
  MOCK_PASID_BITS,
  MOCK_TYPE,
} from './constants.ts';
import { MockMigration } from './migration.ts';
import { MockNestedDomain } from './nested-domain.ts';
import { MockPagingDomain } from './paging-domain.ts';
import { MockViommu } from './viommu.ts';

const HWPT_DATA_BYTES = 8;
const HWPT_DATA_MIN_BYTES = 4;
const PAGING_FLAGS = HWPT_ALLOC.NEST_PARENT | HWPT_ALLOC.DIRTY_TRACKING | HWPT_ALLOC.PASID;

/** What the mock keeps per device. */
export interface MockDeviceState {
  /** Sum of `MOCK_DEVICE_FLAG` bits. */
  readonly flags: number;
  /** The device's cache, which vIOMMU invalidations clear. */
  readonly cache: Uint32Array;
  /** Domains by PASID, -1 = without. */
  readonly domains: Map<number, Domain>;
  /** The vIOMMU behind the attached nested domain, and what its guest calls the device. */
  viommu: MockViommu | undefined;
  virtId: bigint;
  /** The next attach of {@link MOCK_FAILING_PASID} fails. */
  failsNext: boolean;
  /** Page request groups answered, newest last: group and code. */
  readonly responses: { readonly grpid: number; readonly pasid: number; readonly code: number }[];
}

/** The mock IOMMU unit. */
export class MockUnit implements IommuUnit {
  readonly name = 'mock';
  readonly driver: IommuDriver;
  readonly host: UnitHost;
  readonly caps: UnitCaps = {
    pageSizesLg2: MOCK_PAGE_SIZES_LG2,
    iovaBits: 56,
    oaBits: 51,
    pasidBits: MOCK_PASID_BITS,
    enforcesCacheCoherency: false,
    cacheCoherent: true,
    guestStage: 1,
    ats: false,
    pri: true,
    stall: false,
  };
  readonly blocking: BlockingDomain;
  readonly agent: TranslationAgent;
  readonly nesting: NestingOps;
  readonly viommu: ViommuOps;
  readonly pri: PriOps;
  readonly migration: MigrationOps;
  /** Flags for devices that will be probed, by RID. */
  readonly flagsByRid = new Map<number, number>();
  readonly #devices = new Map<number, MockDeviceState>();

  constructor(driver: IommuDriver, host: UnitHost) {
    this.driver = driver;
    this.host = host;
    this.blocking = { kind: 'blocking', unit: this, free: () => {} };
    this.agent = {
      translatePage: (rid, pasid, pfn, access) => this.#page(rid, pasid, pfn, access),
      pageRequest: (request) => this.#pageRequest(request),
    };
    this.migration = new MockMigration(this);
    this.nesting = {
      allocNested: (device, parent, flags, userData) =>
        this.makeNested(device, parent, undefined, flags, userData),
    };
    this.viommu = {
      supports: (_device, type) => type === MOCK_TYPE.VIOMMU,
      init: (_device, _type, parent, userData, events) =>
        new MockViommu(this, host.machine, parent, userData, events),
    };
    this.pri = {
      enable: () => {},
      disable: () => {},
      respond: (device, pasid, grpid, code) => {
        this.stateOf(device).responses.push({ grpid, pasid, code });
        host.machine.deliverPageResponse({ rid: device.rid, pasid, prgi: grpid, code });
      },
    };
  }

  /** What the mock keeps of a device. */
  stateOf(device: UnitDevice): MockDeviceState {
    return this.#devices.get(device.rid) as MockDeviceState;
  }

  /** What it keeps of every device, by RID. */
  get devices(): Map<number, MockDeviceState> {
    return this.#devices;
  }

  probeDevice(device: UnitDevice): void {
    this.#devices.set(device.rid, {
      flags: this.flagsByRid.get(device.rid) ?? 0,
      cache: new Uint32Array(MOCK_DEVICE_CACHE_ENTRIES).fill(MOCK_DEVICE_CACHE_DEFAULT),
      domains: new Map(),
      viommu: undefined,
      virtId: 0n,
      failsNext: false,
      responses: [],
    });
  }

  releaseDevice(device: UnitDevice): void {
    this.#devices.delete(device.rid);
    this.flagsByRid.delete(device.rid);
  }

  reservedRegions(): readonly ReservedRegion[] {
    return [];
  }

  hwInfo(_device: UnitDevice, type: number): HwInfo {
    if (type !== 0 && type !== MOCK_TYPE.HW_INFO) {
      throw refuse('EOPNOTSUPP', 'IOMMU_GET_HW_INFO', 'hw-info-type', 'not the type of the mock', {
        value: type,
        accepted: `0 or ${hex(MOCK_TYPE.HW_INFO)}`,
      });
    }
    const data = new Uint8Array(8);
    new DataView(data.buffer).setUint32(4, MOCK_HW_INFO_REGISTER, true);
    return { type: MOCK_TYPE.HW_INFO, data };
  }

  hwCapabilities(device: UnitDevice): number {
    return this.#tracksDirty(device) ? HW_CAP.DIRTY_TRACKING : 0;
  }

  allocPaging(device: UnitDevice, { flags, userData }: PagingRequest): PagingDomain {
    const table = userData ? pageTableType(userData) : MOCK_PAGE_TABLE.DEFAULT;
    const dirtyTracking = (flags & HWPT_ALLOC.DIRTY_TRACKING) !== 0;
    if (flags & ~PAGING_FLAGS || (dirtyTracking && !this.#tracksDirty(device))) {
      throw refuse('EOPNOTSUPP', 'IOMMU_HWPT_ALLOC', 'mock-flags', 'not offered by this device', {
        value: flags,
        accepted: `bits of ${PAGING_FLAGS}`,
      });
    }
    return this.makePaging(table === MOCK_PAGE_TABLE.HUGE, flags);
  }

  /** A paging domain with one of the two tables. */
  makePaging(huge: boolean, flags: number): MockPagingDomain {
    return new MockPagingDomain(this, {
      granuleLg2: huge ? MOCK_HUGE_GRANULE_LG2 : MOCK_GRANULE_LG2,
      pageSizesLg2: huge ? MOCK_HUGE_PAGE_SIZES_LG2 : MOCK_PAGE_SIZES_LG2,
      aperture: huge ? MOCK_APERTURE.HUGE : MOCK_APERTURE.DEFAULT,
      nestParent: (flags & HWPT_ALLOC.NEST_PARENT) !== 0,
      pasidCompatible: (flags & HWPT_ALLOC.PASID) !== 0,
      dirtyTracking: (flags & HWPT_ALLOC.DIRTY_TRACKING) !== 0,
      memory: this.host.machine.memory,
    });
  }

  /** A nested domain, over a parent or through a vIOMMU. */
  makeNested(
    _device: UnitDevice,
    parent: PagingDomain,
    viommu: MockViommu | undefined,
    flags: number,
    userData: UserBlob,
  ): NestedDomain {
    const op = 'IOMMU_HWPT_ALLOC';
    if (flags & ~HWPT_ALLOC.PASID) {
      throw refuse('EOPNOTSUPP', op, 'mock-flags', 'not for nested domains', { value: flags });
    }
    const data = hwptData(userData);
    const iotlb = new DataView(data.buffer).getUint32(0, true);
    const pasid = (flags & HWPT_ALLOC.PASID) !== 0;
    return new MockNestedDomain(this, parent, viommu, pasid, iotlb);
  }

  attach(device: UnitDevice, pasid: number, domain: Domain): void {
    const state = this.stateOf(device);
    const isDirty = domain.kind === 'paging' && domain.dirty !== undefined;
    if (pasid < 0 && isDirty && !this.#tracksDirty(device)) {
      throw refuse('EINVAL', 'attach', 'mock-dirty', `${device.name} tracks no dirty pages`, {
        accepted: 'a domain without dirty tracking',
      });
    }
    if (pasid === MOCK_FAILING_PASID) failEverySecond(state, domain);
    if (pasid < 0) this.#followViommu(device, state, domain);
    if (domain.kind === 'blocking') state.domains.delete(pasid);
    else state.domains.set(pasid, domain);
  }

  #pageRequest(request: PageRequest): void {
    const { rid, pasid, prgi, read, write, exec, priv, last, addressPfn } = request;
    const device = this.host.machine.endpoint(rid);
    if (!device) return;
    const perm = Number(read) | (Number(write) << 1) | (Number(exec) << 2) | (Number(priv) << 3);
    const fault = { pasid, grpid: prgi, perm, addressPfn, last };
    const taken = this.host.reportPageFault(device, fault);
    if (!taken && last) this.pri.respond(device, pasid, prgi, PRG_RESPONSE.INVALID_REQUEST);
  }

  #tracksDirty(device: UnitDevice): boolean {
    return (this.stateOf(device).flags & MOCK_DEVICE_FLAG.NO_DIRTY) === 0;
  }

  /**
   * A nested domain of a vIOMMU needs to know what the guest calls the device; the answer is kept
   * until another vIOMMU's domain comes.
   */
  #followViommu(device: UnitDevice, state: MockDeviceState, domain: Domain): void {
    const viommu = domain instanceof MockNestedDomain ? domain.viommu : undefined;
    const virtId = viommu?.virtIds.get(device);
    if (viommu && virtId === undefined) {
      throw refuse('ENOENT', 'attach', 'mock-vdevice', `${device.name} has no vDEVICE`, {
        accepted: 'IOMMU_VDEVICE_ALLOC before the attach',
      });
    }
    if (viommu === state.viommu) return;
    state.viommu = viommu;
    state.virtId = virtId ?? 0n;
  }

  #page(rid: number, pasid: number, iovaPfn: number, access: number): number {
    const domain = this.#devices.get(rid)?.domains.get(pasid);
    const paging = domain?.kind === 'nested' ? domain.parent : domain;
    if (!(paging instanceof MockPagingDomain)) return BLOCKED;
    const perPage = 2 ** (12 - paging.granuleLg2);
    const frame = paging.iovaToFrame(iovaPfn * perPage);
    const wanted = access & 3;
    if (frame < 0 || (paging.rightsAt(iovaPfn * perPage) & wanted) !== wanted) return BLOCKED;
    if (access & 2) paging.setDirty(iovaPfn * perPage);
    return Math.floor(frame / perPage);
  }
}

const failEverySecond = (state: MockDeviceState, domain: Domain): void => {
  const fails = state.failsNext && domain.kind !== 'blocking';
  state.failsNext = !state.failsNext && domain.kind !== 'blocking';
  if (!fails) return;
  throw refuse('ENOMEM', 'attach', 'mock-failure', 'every second attach of this PASID fails', {
    value: MOCK_FAILING_PASID,
  });
};

const hwptData = (userData: UserBlob): Uint8Array => {
  if (userData.type !== MOCK_TYPE.HWPT_DATA) {
    throw refuse('EOPNOTSUPP', 'IOMMU_HWPT_ALLOC', 'data-type', 'not the data type of the mock', {
      value: userData.type,
      accepted: hex(MOCK_TYPE.HWPT_DATA),
    });
  }
  return userData.copyIn(MOCK_TYPE.HWPT_DATA, HWPT_DATA_MIN_BYTES, HWPT_DATA_BYTES);
};

const pageTableType = (userData: UserBlob): number => {
  const data = hwptData(userData);
  const type = new DataView(data.buffer).getUint32(4, true);
  if (type === MOCK_PAGE_TABLE.DEFAULT || type === MOCK_PAGE_TABLE.HUGE) return type;
  throw refuse('EOPNOTSUPP', 'IOMMU_HWPT_ALLOC', 'page-table-type', 'no such page table type', {
    value: type,
    accepted: '0 (default) or 1 (huge)',
  });
};
