/**
 * One SMMUv3 as core sees it.
 *
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_ops)
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
import { armStage2, type PageTablePool } from '@iommukit/pgtable-fast';
import { attach } from './attach.ts';
import type { UnitParts } from './bring-up.ts';
import type { Capabilities } from './capabilities.ts';
import { SmmuPagingDomain } from './domain.ts';
import { ATS_NOT_SUPPORTED, hwInfo } from './hw-info.ts';
import { SmmuIdentityDomain } from './translating-domain.ts';
import type { DeviceState, UnitContext } from './unit-context.ts';

/** Where an owner may put its interrupt controller's page. */
const SW_MSI_WINDOW: ReservedRegion = { start: 0x800_0000, last: 0x80f_ffff, kind: 'sw-msi' };

/** The host half of one unit. */
export class SmmuUnit implements IommuUnit {
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
    this.identity = new SmmuIdentityDomain(this, context);
  }

  /** @throws {IommuError} ENODEV beyond the unit's StreamIDs; EBUSY; ENOMEM */
  probeDevice(device: UnitDevice): void {
    const { devices, caps, table, invalidate } = this.#context;
    const sid = device.rid;
    if (sid >= 2 ** caps.sidBits) {
      throw refuse('ENODEV', 'probe', 'stream-range', `${device.name} has no StreamID here`, {
        value: sid,
        accepted: `StreamIDs of ${caps.sidBits} bits (IDR1.SIDSIZE)`,
      });
    }
    if (devices.has(sid)) {
      throw refuse(
        'EBUSY',
        'probe',
        'device-probed',
        `${device.name} is under ${this.name} already`,
      );
    }
    table.reserve(sid, invalidate);
    devices.set(sid, { device, sid, domain: undefined });
  }

  releaseDevice(device: UnitDevice): void {
    const state = this.#context.devices.get(device.rid);
    if (!state) return;
    attach(this.#context, state, -1, this.blocking);
    this.#context.devices.delete(device.rid);
  }

  reservedRegions(_device: UnitDevice): readonly ReservedRegion[] {
    return [SW_MSI_WINDOW];
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
    try {
      return new SmmuPagingDomain(this, this.#context, this.#pool, smallPagesOnly ?? false);
    } catch (cause) {
      throw refuse('ENOMEM', 'IOMMU_HWPT_ALLOC', 'table-pool', `no table: ${String(cause)}`, {
        accepted: 'a pool with room for one more table',
      });
    }
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
}

const unitCaps = ({ ipaBits, oaBits }: Capabilities): UnitCaps => ({
  pageSizesLg2: armStage2({ iovaBits: ipaBits, oaBits }).pageSizesLg2,
  iovaBits: ipaBits,
  oaBits,
  pasidBits: 0,
  enforcesCacheCoherency: false,
  cacheCoherent: true,
  guestStage: 0,
  ats: false,
  pri: false,
  stall: false,
});
