/**
 * What the sanitizer reports.
 */

/** A structure as it was when a cache entry was made of it. */
export interface SeenStructure {
  /** Name of its layout. */
  readonly structure: string;
  /** Byte address. */
  readonly address: number;
  readonly words: readonly number[];
}

/** The change that made a cache entry stale. */
export interface StructureChange {
  readonly structure: string;
  readonly address: number;
  readonly oldWords: readonly number[];
  readonly newWords: readonly number[];
}

/** One missing invalidation. */
export interface SanitizerFinding {
  readonly kind:
    | 'stale-translation'
    | 'stale-dirty'
    | 'stale-device'
    | 'stale-guest'
    /** PDE=0 (only leaves changed) on a range where a table entry did: walk caches may keep it. */
    | 'wrong-hint';
  /** `late`: the due command came after the stale entry had been found. */
  verdict: 'missing' | 'partial' | 'late';
  readonly found: 'use' | 'audit' | 'command';
  readonly rid: number;
  /** PASID under which the entry is cached, -1 = none. */
  readonly pasid: number;
  /** First 4 KiB frame of the cached page; -1 for device and guest entries. */
  readonly iovaPfn: number;
  /** DomainID. */
  readonly domain: number;
  /** What the cache says, and what a fresh walk says. */
  readonly cached: string;
  readonly fresh: string;
  /** Undefined when no structure that led to the entry differs. */
  readonly change: StructureChange | undefined;
  /** The commands that were due. */
  readonly due: readonly string[];
  /** Commands about the same domain or device since the entry was made, newest last. */
  readonly seen: readonly string[];
  /** One sentence. */
  readonly text: string;
}

/** What a command was, for the log. */
export interface LoggedCommand {
  readonly text: string;
  /** DomainID it is about, -1 = all or none. */
  readonly domain: number;
  /** DeviceID it is about, -1 = all or none. */
  readonly rid: number;
  /** INVALIDATE_IOMMU_PAGES with PDE=0. */
  readonly leavesOnly?: boolean;
  /** It takes nothing out of the unit's caches. */
  readonly implicit?: boolean;
}

/** The structures that led to a cache entry, as they were then. */
export interface Provenance {
  /** Who made the unit read them. */
  readonly rid: number;
  readonly structures: readonly SeenStructure[];
  /** Commands seen before. */
  readonly ordinal: number;
}

/** State of a sanitizer; its findings are not part of it. */
export interface SanitizerSnapshot {
  readonly commands: number;
  readonly log: readonly (LoggedCommand & { readonly ordinal: number })[];
  readonly pages: readonly (readonly [string, Provenance])[];
  readonly devices: readonly (readonly [number, Provenance])[];
  readonly guests: readonly (readonly [string, Provenance])[];
}
