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
  type NestingOps,
  type PagingDomain,
  type PagingRequest,
  type PriOps,
  type ReservedRegion,
  refuse,
  type TranslationAgent,
  type UnitCaps,
  type UnitDevice,
  type ViommuOps,
} from '@iommukit/core';
import type { PageTablePool } from '@iommukit/pgtable-fast';
import { allocPaging } from './alloc-paging.ts';
import { attach } from './attach.ts';
import type { UnitParts } from './bring-up.ts';
import { stallIsForced, stallIsOptional } from './capabilities.ts';
import { HW_INFO_TYPE_TEGRA241_CMDQV } from './cmdqv.ts';
import { type DeviceState, NO_SSID } from './device-state.ts';
import { defaultShape, formatOf } from './geometry.ts';
import { hwCapabilities, hwInfo } from './hw-info.ts';
import { type GuestOptions, guestOps, type NestingPolicy } from './nesting.ts';
import { type ReservedMemory, reservedRegions, usesReservedMemory } from './reserved-regions.ts';
import { SmmuIdentityDomain } from './translating-domain.ts';
import type { UnitContext } from './unit-context.ts';

/** Choices of the host half. */
export interface HostOptions extends NestingPolicy {
  /** StreamIDs of devices that wait when they are stalled (IORT, named components). */
  readonly stallSids: ReadonlySet<number>;
  readonly rmrs: readonly ReservedMemory[];
}

/** The host half of one unit. */
export class SmmuUnit implements IommuUnit {
  readonly name: string;
  readonly driver: IommuDriver;
  readonly caps: UnitCaps;
  readonly agent: TranslationAgent;
  readonly blocking: BlockingDomain;
  readonly identity: IdentityDomain;
  readonly nesting?: NestingOps;
  readonly viommu: ViommuOps;
  readonly pri: PriOps;
  /** How guests are served. */
  readonly guestOptions: GuestOptions;
  readonly #parts: UnitParts;
  readonly #context: UnitContext;
  readonly #pool: PageTablePool;
  readonly #options: HostOptions;

  /** @param agent what the bus calls; the host half only passes it on */
  constructor(
    driver: IommuDriver,
    agent: TranslationAgent,
    parts: UnitParts,
    pool: PageTablePool,
    options: HostOptions,
  ) {
    const { context } = parts;
    this.name = context.name;
    this.driver = driver;
    this.agent = agent;
    this.#parts = parts;
    this.#context = context;
    this.#pool = pool;
    this.#options = options;
    const guests = guestOps(this, context, options);
    this.guestOptions = guests.options;
    this.viommu = guests.viommu;
    if (guests.nesting) this.nesting = guests.nesting;
    this.pri = parts.pageFaults;
    this.caps = unitCaps(context, guests.nests);
    this.blocking = { kind: 'blocking', unit: this, free: () => {} };
    this.identity = new SmmuIdentityDomain(this, context);
  }

  /** @throws {IommuError} ENODEV beyond the unit's StreamIDs; EBUSY; ENOMEM */
  probeDevice(device: UnitDevice): void {
    const { devices, caps, table, invalidate } = this.#context;
    const { rmrs } = this.#options;
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
    const state: DeviceState = {
      device,
      sid,
      ssidBits: Math.min(device.pasidBits, caps.ssidBits),
      ats: device.ats && caps.ats,
      pri: device.ats && device.pri && caps.pri,
      stall: stallIsForced(caps) || (stallIsOptional(caps) && this.#options.stallSids.has(sid)),
      cdTable: undefined,
      atsEnabled: false,
      domain: undefined,
      pasids: new Map(),
    };
    devices.set(sid, state);
    // What firmware left running goes on until a driver takes over.
    if (usesReservedMemory(rmrs, sid)) attach(this.#context, state, NO_SSID, this.identity);
  }

  releaseDevice(device: UnitDevice): void {
    const state = this.#context.devices.get(device.rid);
    if (!state) return;
    for (const pasid of [...state.pasids.keys()]) {
      attach(this.#context, state, pasid, this.blocking);
    }
    attach(this.#context, state, NO_SSID, this.blocking);
    state.cdTable?.free();
    this.#parts.pageFaults.forget(state);
    this.#parts.pageRequests?.forget(state);
    this.#context.devices.delete(device.rid);
  }

  reservedRegions(device: UnitDevice): readonly ReservedRegion[] {
    return reservedRegions(this.#options.rmrs, device.rid);
  }

  hwInfo(_device: UnitDevice, type: number): HwInfo {
    const { cmdqv } = this.#options;
    if (cmdqv && type === HW_INFO_TYPE_TEGRA241_CMDQV) return cmdqv.info;
    return hwInfo(this.#context.caps, type);
  }

  hwCapabilities(device: UnitDevice): number {
    return hwCapabilities(this.#context.caps, this.#stateOf(device));
  }

  allocPaging(_device: UnitDevice, request: PagingRequest): PagingDomain {
    return allocPaging(this, this.#context, this.#pool, request);
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

const unitCaps = ({ caps, canWbs }: UnitContext, nests: boolean): UnitCaps => {
  const { pageSizesLg2, iovaBits, oaBits } = formatOf(caps, defaultShape(caps));
  return {
    pageSizesLg2,
    iovaBits,
    oaBits,
    pasidBits: caps.ssidBits,
    enforcesCacheCoherency: canWbs,
    cacheCoherent: caps.coherent,
    guestStage: nests ? 1 : 0,
    ats: caps.ats,
    pri: caps.pri,
    stall: stallIsForced(caps) || stallIsOptional(caps),
  };
};
