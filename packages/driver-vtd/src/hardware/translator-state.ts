/**
 * What a translator consists of, and what stands in its fields after a translation.
 *
 * @spec VT-d 11.4.5 (root table address), 7.1.3 (RTA conditions)
 */
import { FAULT_REASON } from '../spec/fault-reasons.ts';
import { TTM } from '../spec/registers.ts';
import { PendingUpdates } from './accessed-dirty.ts';
import type { Caches } from './caches.ts';
import type { Features } from './capabilities.ts';
import { ContextWalker } from './context-walker.ts';
import { FirstStageWalker } from './first-stage-walker.ts';
import { HostPermissionWalker } from './host-permission-walker.ts';
import type { HardwareMemory } from './memory.ts';
import { PasidWalker } from './pasid-walker.ts';
import { SecondStageWalker } from './second-stage-walker.ts';
import type { TraceSink } from './trace.ts';

const ROOT_TABLE = FAULT_REASON.ROOT_TABLE_ADDRESS;

/** Walkers, latched state and results; the walks themselves are `Translator`'s. */
export abstract class TranslatorState {
  /** Byte address of the root table, as latched by SRTP. */
  rootTable = 0;
  /** Translation table mode, as latched by SRTP. */
  ttm: number = TTM.LEGACY;

  /** 4 KiB frame of the result. */
  pfn = 0;
  rights = 0;
  sizeLg2 = 12;
  did = 0;
  /** PASID whose entry was used: the request's or RID_PASID; 0 in legacy mode. */
  pasidTag = 0;
  /** PGTT code, 0 in legacy mode. */
  pgtt = 0;
  /** The result may be kept in the IOTLB: it came out of a walk. */
  walked = false;
  /** Completions carry N=1. */
  noSnoop = false;
  cleanWrite = true;
  /** How the second stage failed, one of `SS_FAIL`; 0 = it did not. */
  ssFailure = 0;
  /** FPD of the entries that were reached. */
  fpd = false;
  /** Privilege that was applied. */
  priv = false;

  #ssirwe = false;

  readonly pending = new PendingUpdates();
  readonly context: ContextWalker;
  readonly pasid: PasidWalker;
  readonly secondStage: SecondStageWalker;
  readonly firstStage: FirstStageWalker;
  readonly hostPermission: HostPermissionWalker;
  protected readonly memory: HardwareMemory;
  protected readonly features: Features;
  /** Do accessed/dirty updates; off while a request is explained. */
  commitUpdates = true;

  constructor(memory: HardwareMemory, features: Features, caches: Caches) {
    this.memory = memory;
    this.features = features;
    this.context = new ContextWalker(memory, features, caches.context);
    this.pasid = new PasidWalker(memory, features, caches.pasid);
    this.secondStage = new SecondStageWalker(memory, features, this.pending);
    this.firstStage = new FirstStageWalker(memory, features, this.pending, this.secondStage);
    this.hostPermission = new HostPermissionWalker(memory, features, caches.hostPermission);
  }

  /** Listen to every structure read; undefined = stop. */
  set trace(sink: TraceSink | undefined) {
    this.context.trace = sink;
    this.pasid.trace = sink;
    this.secondStage.trace = sink;
    this.firstStage.trace = sink;
    this.hostPermission.trace = sink;
  }

  /**
   * Make this a translator that changes nothing: no accessed/dirty updates, no cache fills.
   * @param readCaches answer from the context and PASID caches
   */
  dry(readCaches: boolean): this {
    this.commitUpdates = false;
    for (const walker of [this.context, this.pasid, this.hostPermission]) {
      walker.fillCache = false;
      walker.readCache = readCaches;
    }
    return this;
  }

  /** RTADDR.SSIRWE, as latched by SRTP. */
  get ssirwe(): boolean {
    return this.#ssirwe;
  }

  set ssirwe(on: boolean) {
    this.#ssirwe = on;
    this.secondStage.ioRights = on;
  }

  /** Take over another translator's latched state. */
  follow(other: TranslatorState): void {
    this.rootTable = other.rootTable;
    this.ttm = other.ttm;
    this.ssirwe = other.ssirwe;
  }

  /** Whether the latched table mode is one this unit has: 0, or a fault reason. */
  modeReason(pasid: number): number {
    if (this.ttm === TTM.SCALABLE) return this.features.scalable ? 0 : ROOT_TABLE;
    if (this.ttm === TTM.ABORT) return this.features.abortDma ? FAULT_REASON.ABORT_DMA : ROOT_TABLE;
    if (this.ttm === TTM.RESERVED) return ROOT_TABLE;
    if (pasid >= 0) return FAULT_REASON.LEGACY_WITH_PASID;
    return this.ssirwe ? ROOT_TABLE : 0;
  }
}
