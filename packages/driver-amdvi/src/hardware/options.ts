/**
 * What a unit is made of, and what it counts.
 */
import type { BusPort } from '@iommukit/core';
import type { CacheOptions, CachesSnapshot } from './caches.ts';
import type { AmdviCapabilities } from './capabilities.ts';
import type { HardwareMemory } from './memory.ts';
import type { SanitizerSnapshot } from './sanitizer-findings.ts';

/** What a unit is built on. */
export interface AmdviHardwareOptions {
  readonly memory: HardwareMemory;
  readonly capabilities?: AmdviCapabilities;
  readonly caches?: CacheOptions;
  /**
   * Where interrupt messages, page responses and invalidations of device TLBs go; what is missing
   * is lost, and a device TLB that is missing counts as empty.
   */
  readonly bus?: Partial<BusPort>;
  /** Look for missing invalidations; costs a fresh walk per cache hit. Default off. */
  readonly sanitize?: boolean;
}

/** Counters of a unit. */
export interface AmdviStats {
  /** Requests answered from the IOTLB, and look-ups that found nothing. */
  readonly iotlbHits: number;
  readonly iotlbMisses: number;
  readonly bypassed: number;
  readonly refused: number;
  readonly translationRequests: number;
  readonly translatedRequests: number;
  readonly pageRequests: number;
  readonly pageRequestsLost: number;
  readonly events: number;
  readonly eventsLost: number;
  readonly commands: number;
  readonly superfluousInvalidations: number;
  readonly entriesInvalidated: number;
  readonly pageResponses: number;
}

/** State of a unit; memory is not part of it. */
export interface AmdviSnapshot {
  /** Dwords of all registers, in the order of the unit's own list. */
  readonly registers: Uint32Array;
  readonly caches: CachesSnapshot;
  /** The command at the head waits for an answer that never comes. */
  readonly hung: boolean;
  /** Where cache entries came from; only of a unit that has a sanitizer. */
  readonly sanitizer?: SanitizerSnapshot;
}
