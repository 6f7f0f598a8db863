/**
 * One AMD IOMMU as core sees it.
 *
 * @linux drivers/iommu/amd/iommu.c (amd_iommu_ops)
 */
import {
  type BlockingDomain,
  type Domain,
  type HwInfo,
  type IdentityDomain,
  type IommuDriver,
  type IommuUnit,
  type PagingDomain,
  type PagingRequest,
  type ReservedRegion,
  refuse,
  type TranslationAgent,
  type UnitCaps,
  type UnitDevice,
} from '@iommukit/core';
import { amdV1, type PageTablePool } from '@iommukit/pgtable-fast';
import { attach } from './attach.ts';
import type { UnitParts } from './bring-up.ts';
import type { Capabilities } from './capabilities.ts';
import { AmdviPagingDomain } from './domain.ts';
import { ATS_NOT_SUPPORTED, hwInfo } from './hw-info.ts';
import { AmdviIdentityDomain } from './translating-domain.ts';
import type { DeviceState, UnitContext } from './unit-context.ts';

/** Interrupt messages are not translated as memory. */
const MSI_WINDOW: ReservedRegion = { start: 0xfee0_0000, last: 0xfeef_ffff, kind: 'msi' };

/** The host half of one unit. */
export class AmdviUnit implements IommuUnit {
  readonly name: string;
  readonly driver: IommuDriver;
  readonly caps: UnitCaps;
  readonly agent: TranslationAgent;
  readonly blocking: BlockingDomain;
  readonly identity: IdentityDomain;
  readonly #context: UnitContext;
  readonly #pool: PageTablePool;

  /** @param agent what the bus calls; the host half only passes it on */
  constructor(
    driver: IommuDriver,
    agent: TranslationAgent,
    { context }: UnitParts,
    pool: PageTablePool,
  ) {
    this.name = context.name;
    this.driver = driver;
    this.agent = agent;
    this.#context = context;
    this.#pool = pool;
    this.caps = unitCaps(context.caps);
    this.blocking = { kind: 'blocking', unit: this, free: () => {} };
    this.identity = new AmdviIdentityDomain(this, context);
  }

  probeDevice(device: UnitDevice): void {
    const { devices } = this.#context;
    if (devices.has(device.rid)) {
      throw refuse(
        'EBUSY',
        'probe',
        'device-probed',
        `${device.name} is under ${this.name} already`,
      );
    }
    devices.set(device.rid, { device, rid: device.rid, domain: undefined });
  }

  releaseDevice(device: UnitDevice): void {
    const state = this.#context.devices.get(device.rid);
    if (!state) return;
    attach(this.#context, state, -1, this.blocking);
    this.#context.devices.delete(device.rid);
  }

  reservedRegions(_device: UnitDevice): readonly ReservedRegion[] {
    return [MSI_WINDOW];
  }

  hwInfo(_device: UnitDevice, type: number): HwInfo {
    return hwInfo(this.#context.caps, type);
  }

  hwCapabilities(_device: UnitDevice): number {
    return ATS_NOT_SUPPORTED;
  }

  /** @throws {IommuError} EOPNOTSUPP for any flag or vendor data; ENOMEM */
  allocPaging(_device: UnitDevice, request: PagingRequest): PagingDomain {
    const { flags, userData, smallPagesOnly } = request;
    if (flags !== 0 || userData) {
      throw refuse(
        'EOPNOTSUPP',
        'IOMMU_HWPT_ALLOC',
        'hwpt-flags',
        `${this.name} makes plain paging domains only`,
        { value: flags, accepted: 'flags 0 and data_type IOMMU_HWPT_DATA_NONE' },
      );
    }
    return this.#inPool(
      () => new AmdviPagingDomain(this, this.#context, this.#pool, smallPagesOnly ?? false),
    );
  }

  attach(device: UnitDevice, pasid: number, domain: Domain): void {
    attach(this.#context, this.#stateOf(device), pasid, domain);
  }

  #stateOf(device: UnitDevice): DeviceState {
    const state = this.#context.devices.get(device.rid);
    if (state) return state;
    throw refuse('ENODEV', 'attach', 'device-scope', `${device.name} is not under ${this.name}`, {
      owner: this.name,
    });
  }

  #inPool<T>(make: () => T): T {
    try {
      return make();
    } catch (cause) {
      throw refuse('ENOMEM', 'IOMMU_HWPT_ALLOC', 'table-pool', `no table: ${String(cause)}`, {
        accepted: 'a pool with room for one more table',
      });
    }
  }
}

const unitCaps = (caps: Capabilities): UnitCaps => ({
  pageSizesLg2: amdV1({ maxLevels: caps.hostLevels }).pageSizesLg2,
  iovaBits: caps.iovaBits,
  oaBits: caps.hostAddressBits,
  pasidBits: 0,
  enforcesCacheCoherency: false,
  cacheCoherent: true,
  guestStage: 0,
  ats: false,
  pri: false,
  stall: false,
});
