/**
 * What the sanitizer reports.
 */

/** A structure as it was when a cache entry was made of it. */
export interface SeenStructure {
  readonly structure: string;
  /** Byte address. */
  readonly address: number;
  readonly words: readonly number[];
  /** Its part in the walk: `'configuration'`, `'stage 1, level 3'`. */
  readonly what: string;
}

/** The change that made a cache entry stale. */
export interface StructureChange {
  readonly structure: string;
  readonly address: number;
  readonly oldWords: readonly number[];
  readonly newWords: readonly number[];
  readonly what: string;
}

/** One missing invalidation. */
export interface SanitizerFinding {
  readonly kind:
    | 'stale-translation'
    | 'stale-dirty'
    | 'stale-stream'
    | 'stale-context'
    /** A device used a translation of its own cache (ATC) that no longer holds. */
    | 'stale-device-tlb'
    /** Leaf=1 where a table descriptor changed: walk caches may keep it. */
    | 'wrong-leaf';
  /** `late`: the due command came after the stale entry had been found. */
  verdict: 'missing' | 'partial' | 'late';
  readonly found: 'use' | 'audit' | 'command';
  /** StreamID of the request that made the entry. */
  readonly rid: number;
  /** SubstreamID of that request, -1 = none. */
  readonly pasid: number;
  /** First 4 KiB frame of the cached page; -1 for configuration. */
  readonly iovaPfn: number;
  /** VMID and ASID of the entry; -1 = none. */
  readonly vmid: number;
  readonly asid: number;
  /** What the cache says, and what a fresh walk says. */
  readonly cached: string;
  readonly fresh: string;
  /** Undefined when no structure that led to the entry differs (the stream table moved). */
  readonly change: StructureChange | undefined;
  /** The commands that were due. */
  readonly due: readonly string[];
  /** Commands about the same stream or tag since the entry was made, newest last. */
  readonly seen: readonly string[];
  /** One sentence. */
  readonly text: string;
}

/** What a command was, for the log. */
export interface LoggedCommand {
  readonly text: string;
  readonly about: 'configuration' | 'translations' | 'device';
  /** The stream or VMID that it is about, -1 = all. */
  readonly target: number;
  /** Leaf=1: only last-level entries changed. */
  readonly leafOnly: boolean;
}

/** The structures that led to a cache entry, as they were then. */
export interface Provenance {
  readonly structures: readonly SeenStructure[];
  /** Commands seen before. */
  readonly ordinal: number;
  readonly sid: number;
  /** SubstreamID, -1 = none. */
  readonly ssid: number;
}
