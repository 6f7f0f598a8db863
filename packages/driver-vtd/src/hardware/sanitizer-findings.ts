/**
 * What the sanitizer reports.
 */

/** A structure as it was when a cache entry was made of it. */
export interface SeenStructure {
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
    | 'stale-context'
    | 'stale-pasid'
    /** An entry of a host permission table. */
    | 'stale-permission'
    /** An entry of the interrupt remapping table. */
    | 'stale-interrupt'
    /** IH=1 (no table entry changed) on a range where one did: walk caches may keep it. */
    | 'wrong-hint';
  /** `late`: the due command came after the stale entry had been found. */
  verdict: 'missing' | 'partial' | 'late';
  readonly found: 'use' | 'audit' | 'command';
  /** Requester; -1 for interrupt entries, which any may use. */
  readonly rid: number;
  /** PASID of the requests, -1 = none. */
  readonly pasid: number;
  /** First 4 KiB frame of the cached page, or that a permission entry covers; -1 for others. */
  readonly iovaPfn: number;
  /** Level of a permission entry, 1 to 4. */
  readonly level?: number;
  readonly interruptIndex?: number;
  /** Domain id (HPTDID of permission entries), -1 for interrupt entries. */
  readonly did: number;
  /** What the cache says, and what a fresh walk says. */
  readonly cached: string;
  readonly fresh: string;
  /** Undefined when no structure that led to the entry differs (the root pointer changed). */
  readonly change: StructureChange | undefined;
  /** The commands that were due. */
  readonly due: readonly string[];
  /** Commands of the same domain since the entry was made, newest last. */
  readonly seen: readonly string[];
  /** One sentence. */
  readonly text: string;
}

/** What a command was, for the log. */
export interface LoggedCommand {
  readonly text: string;
  /** Domain it is about, -1 = all. */
  readonly did: number;
  /** Which caches it is about, if not those of translations. */
  readonly about?: 'permissions' | 'interrupts';
  /** IH=1. */
  readonly hint?: boolean;
  /** A side effect of SRTP or TE, not a command of software. */
  readonly implicit?: boolean;
}

/** The structures that led to a cache entry, as they were then. */
export interface Provenance {
  readonly structures: readonly SeenStructure[];
  /** Commands seen before. */
  readonly ordinal: number;
}

/** State of a sanitizer; its findings are not part of it. */
export interface SanitizerSnapshot {
  readonly commands: number;
  readonly log: readonly (LoggedCommand & { readonly ordinal: number })[];
  readonly pages: readonly (readonly [string, Provenance])[];
  readonly contexts: readonly (readonly [number, Provenance])[];
  readonly pasids: readonly (readonly [string, Provenance])[];
}
