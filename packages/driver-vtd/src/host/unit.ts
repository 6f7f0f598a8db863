/**
 * One remapping unit as core sees it.
 *
 * @linux drivers/iommu/intel/iommu.c (intel_iommu_ops)
 */
import { encode } from '@iommukit/bits';
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
} from '@iommukit/core';
import type { PageTablePool } from '@iommukit/pgtable-fast';
import { SM_CONTEXT_ENTRY } from '../spec/context-entry.ts';
import { allocPaging, defaultGeometry } from './alloc-paging.ts';
import { attach, detach } from './attach.ts';
import type { UnitParts } from './bring-up.ts';
import type { Capabilities } from './capabilities.ts';
import type { DeviceState } from './device-state.ts';
import type { EntryStore } from './entry-store.ts';
import { hwCapabilities, hwInfo } from './hw-info.ts';
import { LegacyEntries } from './legacy-entries.ts';
import { allocNested } from './nesting.ts';
import { createPasidDirectory, freePasidTables } from './pasid-table.ts';
import { type ReservedMemory, reservedRegions } from './reserved-regions.ts';
import { ScalableEntries } from './scalable-entries.ts';
import { type HostSnapshot, restoreHost, saveHost } from './snapshot.ts';
import { VtdIdentityDomain } from './translating-domain.ts';
import type { UnitContext } from './unit-context.ts';

/** Choices of the host half. */
export interface HostOptions {
  /** Paging domains without flags use first-stage tables, as Linux prefers; default true. */
  readonly firstStageByDefault: boolean;
  /** Refuse reserved bytes and unknown flags that Linux 7.3 ignores. */
  readonly strictReserved: boolean;
  /** Act as on silicon with erratum 772415: nest parents map no page read-only. */
  readonly erratum772415: boolean;
  readonly rmrrs: readonly ReservedMemory[];
}

/** The host half of one unit. */
export class VtdUnit implements IommuUnit {
  readonly name: string;
  readonly driver: IommuDriver;
  readonly caps: UnitCaps;
  readonly agent: TranslationAgent;
  readonly blocking: BlockingDomain;
  readonly identity?: IdentityDomain;
  /**
   * There on every unit, as Linux's ops are: a unit that cannot nest refuses inside, after the
   * checks of the parent. `caps.guestStage` says what it can do.
   */
  readonly nesting: NestingOps;
  readonly pri?: PriOps;
  readonly #parts: UnitParts;
  readonly #context: UnitContext;
  readonly #entries: EntryStore;
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
    this.#parts = parts;
    this.#context = context;
    this.#pool = pool;
    this.#options = options;
    this.#entries = context.caps.scalable
      ? new ScalableEntries(context, pageRequests)
      : new LegacyEntries(context);
    this.caps = unitCaps(context.caps, options.firstStageByDefault);
    this.blocking = { kind: 'blocking', unit: this, free: () => {} };
    if (context.caps.ecap.PT === 1) this.identity = new VtdIdentityDomain(this, context);
    this.nesting = this.#nestingOps();
    if (pageRequests) this.pri = pageRequests;
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
    devices.set(
      device.rid,
      this.#context.caps.scalable ? this.#probe(device) : this.#probeLegacy(device),
    );
  }

  releaseDevice(device: UnitDevice): void {
    const state = this.#context.devices.get(device.rid);
    if (!state) return;
    for (const attachment of state.attachments.values()) {
      detach(this.#context, this.#entries, attachment);
    }
    if (this.#context.caps.scalable) this.#releaseContext(state);
    this.#parts.pageRequests?.forget(state);
    this.#context.devices.delete(device.rid);
  }

  reservedRegions(device: UnitDevice): readonly ReservedRegion[] {
    return reservedRegions(this.#options.rmrrs, device.rid);
  }

  hwInfo(_device: UnitDevice, type: number): HwInfo {
    return hwInfo(this.#context.caps, type, this.#options.erratum772415);
  }

  hwCapabilities(device: UnitDevice): number {
    return hwCapabilities(this.#context.caps, this.#stateOf(device));
  }

  allocPaging(_device: UnitDevice, request: PagingRequest): PagingDomain {
    return allocPaging(this, this.#context, this.#pool, request, this.#options);
  }

  attach(device: UnitDevice, pasid: number, domain: Domain): void {
    attach(this.#context, this.#entries, this.#stateOf(device), pasid, domain);
  }

  #stateOf(device: UnitDevice): DeviceState {
    const state = this.#context.devices.get(device.rid);
    if (state) return state;
    throw refuse('ENODEV', 'attach', 'device-scope', `${device.name} is not under ${this.name}`, {
      owner: this.name,
    });
  }

  #nestingOps(): NestingOps {
    return {
      allocNested: (_device, parent, flags, userData) =>
        allocNested(this, this.#context, parent, flags, userData, this.#options.strictReserved),
    };
  }

  #probeLegacy(device: UnitDevice): DeviceState {
    return {
      device,
      rid: device.rid,
      ats: device.ats && this.#context.caps.ecap.DT === 1,
      pri: false,
      pasidBits: 0,
      contextPa: this.#parts.tables.entryPa(device.rid),
      directoryPa: 0,
      pasidTables: new Map(),
      attachments: new Map(),
      pageRequestUsers: 0,
    };
  }

  /** State of the host half as plain data; see {@link saveHost}. */
  protected saveHost(): HostSnapshot {
    return saveHost(this.#parts, this.#pool);
  }

  /** See {@link restoreHost}. */
  protected restoreHost(state: HostSnapshot): void {
    restoreHost(this.#parts, this.#pool, state);
  }

  /** The context entry is written once; attaching only touches PASID entries. */
  #probe(device: UnitDevice): DeviceState {
    const { caps, memory } = this.#context;
    const contextPa = this.#parts.tables.entryPa(device.rid);
    const pasidBits = Math.min(device.pasidBits, caps.pasidBits);
    const directory = createPasidDirectory(memory, pasidBits);
    const ats = device.ats && caps.ecap.DT === 1;
    const pri = ats && device.pri && caps.ecap.PRS === 1;
    const words = encode(SM_CONTEXT_ENTRY, {
      P: 1,
      DTE: ats ? 1 : 0,
      PASIDE: pasidBits > 0 ? 1 : 0,
      PRE: pri ? 1 : 0,
      EPTR: ats && pasidBits > 0 && caps.ecap.PTRS === 1 ? 1 : 0,
      PDTS: directory.pdts,
      PASIDDIRPTR: directory.pa,
    });
    for (let at = words.length - 2; at >= 0; at -= 2) {
      memory.store64(contextPa + at * 4, words[at] as number, words[at + 1] as number);
    }
    this.#announceContext(device.rid);
    return {
      device,
      rid: device.rid,
      ats,
      pri,
      pasidBits,
      contextPa,
      directoryPa: directory.pa,
      pasidTables: new Map(),
      attachments: new Map(),
      pageRequestUsers: 0,
    };
  }

  /** Caching mode may hold the entry as absent, tagged with DID 0. */
  #announceContext(rid: number): void {
    const { caps, invalidate, commands } = this.#context;
    if (caps.cap.CM === 1) {
      invalidate.contextDevice(0, rid);
      invalidate.queue.submit();
    } else if (caps.cap.RWBF === 1) commands.flushWriteBuffer();
  }

  /**
   * All PASID entries are absent and flushed already: only the context cache holds anything, and
   * under caching mode the absence of PASIDs.
   */
  #releaseContext(state: DeviceState): void {
    const { memory, invalidate, caps } = this.#context;
    const { contextPa, rid } = state;
    memory.store64(contextPa, 0, 0);
    invalidate.contextDevice(0, rid);
    if (caps.cap.CM === 1) invalidate.pasidGlobal();
    invalidate.queue.submit();
    freePasidTables(memory, state);
  }
}

const unitCaps = (caps: Capabilities, firstStage: boolean): UnitCaps => {
  const geometry = defaultGeometry(caps, firstStage);
  const ats = caps.ecap.DT === 1;
  return {
    pageSizesLg2: geometry?.pageSizesLg2 ?? [],
    iovaBits: geometry?.iovaBits ?? 0,
    oaBits: caps.hostAddressBits,
    pasidBits: caps.pasidBits,
    enforcesCacheCoherency: caps.ecap.SC === 1,
    cacheCoherent: true,
    guestStage: caps.nesting ? 1 : 0,
    ats,
    pri: ats && caps.scalable && caps.ecap.PRS === 1,
    stall: false,
  };
};
