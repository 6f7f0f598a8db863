/**
 * What a unit is made of, counts, and keeps in a snapshot.
 */
import type { BusPort } from '@iommukit/core';
import type { CachesSnapshot } from './caches.ts';
import type { VtdCapabilities } from './capabilities.ts';
import type { InterruptCacheEntry } from './interrupt-cache.ts';
import type { InterruptTable } from './interrupt-remapping.ts';
import type { HardwareMemory } from './memory.ts';
import type { SanitizerSnapshot } from './sanitizer-findings.ts';
import type { PasidAllocator } from './virtual-command.ts';

/** What `createVtdHardware` takes. */
export interface VtdHardwareOptions {
  /** Physical memory: tables, queues, status words. */
  readonly memory: HardwareMemory;
  /** Where device-TLB invalidations, page responses and interrupt messages go. */
  readonly bus: BusPort;
  /** Named fields or raw register values; default `RECOMMENDED`. */
  readonly capabilities?: VtdCapabilities;
  /** Host address width in bits, 32 to 52; default 46, or CAP.MGAW when that is smaller. */
  readonly hostAddressWidthBits?: number;
  /** Where software finds the registers; kept for tools, without effect. */
  readonly registerBase?: number;
  /** lg2 of the IOTLB entries for 4 KiB pages, 4 to 20; default 12. */
  readonly iotlbEntriesLg2?: number;
  /** Who answers virtual commands; default a pool of its own. */
  readonly pasidAllocator?: PasidAllocator;
  /** Look for missing invalidations; costs a fresh walk per cache hit. Default off. */
  readonly sanitize?: boolean;
  /** Where this model follows other implementations instead of the specification's letter. */
  readonly compatibility?: VtdCompatibility;
}

/** Deviations, all off by default. */
export interface VtdCompatibility {
  /** Every walk is coherent: accessed/dirty updates happen whatever PWSNP and SMPWCS say. */
  readonly coherentWalks?: boolean;
  /** FI keeps all 64 address bits; otherwise those above the largest AGAW are zero. */
  readonly fullFaultAddress?: boolean;
  /** Caching mode keeps no faulting entries, as the specification allows. */
  readonly forgetFaults?: boolean;
}

/** Counters of a unit. */
export interface VtdStats {
  readonly translations: number;
  readonly iotlbHits: number;
  readonly iotlbMisses: number;
  readonly bypassed: number;
  readonly translationRequests: number;
  readonly translatedRequests: number;
  readonly pageRequests: number;
  readonly pageRequestsOverflowed: number;
  readonly faults: number;
  readonly faultsDropped: number;
  readonly descriptors: number;
  readonly superfluousInvalidations: number;
  readonly entriesInvalidated: number;
  readonly pageResponses: number;
  readonly interrupts: number;
  readonly interruptsPosted: number;
  readonly interruptsBlocked: number;
}

/** State of a unit; memory is not part of it. */
export interface VtdSnapshot {
  readonly registers: Uint32Array;
  readonly caches: CachesSnapshot;
  readonly rootTable: number;
  readonly ttm: number;
  readonly ssirwe: boolean;
  readonly nextFaultIndex: number;
  readonly timedOutSid: number;
  /** What SIRTP latched. */
  readonly interruptTable: InterruptTable;
  /** Interrupt entry cache. */
  readonly interruptEntries: readonly InterruptCacheEntry[];
  readonly pasids: readonly number[];
  /** Where cache entries came from; only of a unit that has a sanitizer. */
  readonly sanitizer?: SanitizerSnapshot;
}
