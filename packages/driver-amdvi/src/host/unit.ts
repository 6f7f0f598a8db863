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
  type PriOps,
  type ReservedRegion,
  refuse,
  type TranslationAgent,
  type UnitCaps,
  type UnitDevice,
  type ViommuOps,
} from '@iommukit/core';
import type { PageTablePool } from '@iommukit/pgtable-fast';
import { allocPaging, defaultGeometry } from './alloc-paging.ts';
import { attach } from './attach.ts';
import type { UnitParts } from './bring-up.ts';
import { type Capabilities, hasPasids, nests } from './capabilities.ts';
import type { DeviceState } from './device-state.ts';
import { hwCapabilities, hwInfo } from './hw-info.ts';
import type { PageRequests } from './page-requests.ts';
import { reservedRegions, type UnityMap } from './reserved-regions.ts';
import { AmdviIdentityDomain } from './translating-domain.ts';
import type { UnitContext } from './unit-context.ts';
import { createViommu } from './viommu.ts';

/** Choices of the host half. */
export interface HostOptions {
  /** Paging domains without flags use guest (v2) tables where the unit has them. */
  readonly guestTablesByDefault: boolean;
  /** vIOMMUs offer nothing, as in Linux 7.3: no nested domains, no invalidation. */
  readonly emptyViommus: boolean;
  /** Memory that firmware wants mapped one to one. */
  readonly unityMaps: readonly UnityMap[];
}

/** The host half of one unit. */
export class AmdviUnit implements IommuUnit {
  readonly name: string;
  readonly driver: IommuDriver;
  readonly caps: UnitCaps;
  readonly agent: TranslationAgent;
  readonly blocking: BlockingDomain;
  readonly identity: IdentityDomain;
  readonly viommu: ViommuOps;
  readonly pri?: PriOps;
  readonly #pageRequests: PageRequests | undefined;
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
    const { context, pageRequests } = parts;
    this.name = context.name;
    this.driver = driver;
    this.agent = agent;
    this.#context = context;
    this.#pool = pool;
    this.#options = options;
    this.caps = unitCaps(context.caps, options);
    this.blocking = { kind: 'blocking', unit: this, free: () => {} };
    this.identity = new AmdviIdentityDomain(this, context);
    this.#pageRequests = pageRequests;
    if (pageRequests && this.caps.pri) this.pri = pageRequests;
    this.viommu = {
      supports: () => true,
      init: (_device, _type, parent, _userData, events) => {
        const viommu = createViommu(this, context, parent, events);
        return options.emptyViommus ? { destroy: () => viommu.destroy() } : viommu;
      },
    };
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
    devices.set(device.rid, newDevice(this.#context.caps, device));
  }

  releaseDevice(device: UnitDevice): void {
    const state = this.#context.devices.get(device.rid);
    if (!state) return;
    for (const pasid of [...state.pasids.keys(), -1]) {
      this.attach(device, pasid, this.blocking);
    }
    this.#pageRequests?.forget(state);
    this.#context.devices.delete(device.rid);
  }

  reservedRegions(device: UnitDevice): readonly ReservedRegion[] {
    return reservedRegions(this.#context.caps, this.#options.unityMaps, device.rid);
  }

  hwInfo(_device: UnitDevice, type: number): HwInfo {
    return hwInfo(this.#context.caps, type);
  }

  hwCapabilities(device: UnitDevice): number {
    return hwCapabilities(this.#context.caps, device);
  }

  allocPaging(_device: UnitDevice, request: PagingRequest): PagingDomain {
    const { guestTablesByDefault } = this.#options;
    return allocPaging(this, this.#context, this.#pool, request, guestTablesByDefault);
  }

  attach(device: UnitDevice, pasid: number, domain: Domain): void {
    const state = this.#stateOf(device);
    attach(this.#context, state, pasid, domain);
    if (state.pri) this.#pageRequests?.drained(state, pasid);
  }

  #stateOf(device: UnitDevice): DeviceState {
    const state = this.#context.devices.get(device.rid);
    if (state) return state;
    throw refuse('ENODEV', 'attach', 'device-scope', `${device.name} is not under ${this.name}`, {
      owner: this.name,
    });
  }
}

const newDevice = (caps: Capabilities, device: UnitDevice): DeviceState => {
  const ats = device.ats && caps.iotlbSup;
  return {
    device,
    rid: device.rid,
    ats,
    pri: ats && device.pri && caps.pageRequests,
    pasidBits: hasPasids(caps) ? Math.min(device.pasidBits, caps.pasidBits) : 0,
    rid0: undefined,
    pasids: new Map(),
    guest: undefined,
    pageRequestUsers: 0,
  };
};

const unitCaps = (
  caps: Capabilities,
  { guestTablesByDefault, emptyViommus }: HostOptions,
): UnitCaps => {
  const geometry = defaultGeometry(caps, guestTablesByDefault);
  return {
    pageSizesLg2: geometry?.format.pageSizesLg2 ?? [],
    iovaBits: geometry?.iovaBits ?? 0,
    oaBits: caps.hostAddressBits,
    pasidBits: hasPasids(caps) ? caps.pasidBits : 0,
    enforcesCacheCoherency: true,
    cacheCoherent: true,
    guestStage: nests(caps) && !emptyViommus ? 1 : 0,
    ats: caps.iotlbSup,
    pri: caps.iotlbSup && caps.pageRequests,
    stall: false,
  };
};
