/**
 * From a host physical address to the permission that the host permission table gives for it.
 *
 * The specification leaves the order of the checks inside an entry open, and whether the reserved
 * bits of an entry are looked at when it decides nothing: this model reads an entry, checks all its
 * reserved bits, and then looks at the pair and at AV. Nothing is prefetched (HPTPFD has no effect).
 *
 * @spec VT-d 4.2.4 (walk), 6.2.6 (cache), 7.1.3 (SPT.9, HPT.1 to HPT.6)
 */
import type { Layout } from '@iommukit/bits';
import { ACCESS } from '@iommukit/core';
import { FAULT_REASON } from '../spec/fault-reasons.ts';
import { HPT_PERMISSION, HPTL1E, HPTL2E, HPTL3E, HPTL4E } from '../spec/host-permission-entry.ts';
import type { Features } from './capabilities.ts';
import { anyReserved } from './context-walker.ts';
import {
  type HostPermissionCache,
  HPT_COVERED_LG2,
  HPT_WORDS,
  type HptCacheEntry,
  hptTag,
} from './host-permission-cache.ts';
import { type HardwareMemory, readDwords } from './memory.ts';
import { highMaskAbove, joinFrame } from './page-index.ts';
import type { TraceSink } from './trace.ts';

/** Layouts by level; level 0 is none. */
const LAYOUTS = [undefined, HPTL1E, HPTL2E, HPTL3E, HPTL4E].map(
  (layout) => layout as unknown as Layout,
);
/** lg2 of the 4 KiB frames that one pair of a level stands for; level 4 has no pairs. */
const PAIR_LG2 = [0, 0, 9, 18] as const;
const TOP_LEVEL = 4;
const ENTRY_BYTES = 16;
const TABLE_ENTRIES = 256;
/** Address bits of the highest dword: [115:96] are [51:32], the rest is ignored. */
const ADDRESS_HIGH = 0xf_ffff;
const AV = 1;
const { R, W } = HPT_PERMISSION;
const { READ, WRITE, ATOMIC, ZERO_LENGTH } = ACCESS;

/** What a translated request is checked against; the fields of its PASID entry. */
export interface HostPermissionTable {
  /** 4 KiB frame of the level 4 table (HPTPTR). */
  readonly root: number;
  /** HPTSZ. */
  readonly size: number;
  /** HPTDID. */
  readonly did: number;
}

function reservedBits(level: number, { hawBits, hostPermission1G }: Features): Int32Array {
  const masks = Int32Array.from((LAYOUTS[level] as Layout).reservedMasks);
  if (level > 1) masks[3] = (masks[3] as number) | (highMaskAbove(hawBits, 63) & ADDRESS_HIGH);
  if (level === 3 && !hostPermission1G) masks[0] = -1;
  return masks;
}

/** The pair of an entry that stands for a frame. */
function pairAt(words: ArrayLike<number>, level: number, pfn: number): number {
  const frames = 2 ** (PAIR_LG2[level] as number);
  const pairs = 2 ** ((HPT_COVERED_LG2[level] as number) - (PAIR_LG2[level] as number));
  const index = Math.floor(pfn / frames) % pairs;
  return ((words[index >> 3] as number) >>> ((index & 7) * 4)) & (R | W);
}

/** Walks host permission tables, through the HPT cache. */
export class HostPermissionWalker {
  trace: TraceSink | undefined;
  /** Answer from the cache. */
  readCache = true;
  /** Keep what was read in the cache. */
  fillCache = true;
  /** The cached entry that decided the last request, if one did. */
  used: HptCacheEntry | undefined;
  /** Told of entries that the cache took. */
  onFill: ((entry: HptCacheEntry) => void) | undefined;

  readonly #memory: HardwareMemory;
  readonly #zeroLengthRead: boolean;
  readonly #cache: HostPermissionCache;
  readonly #words = new Int32Array(HPT_WORDS);
  readonly #reserved: readonly Int32Array[];

  constructor(memory: HardwareMemory, features: Features, cache: HostPermissionCache) {
    this.#memory = memory;
    this.#zeroLengthRead = features.zeroLengthRead;
    this.#cache = cache;
    this.#reserved = LAYOUTS.map((layout, level) =>
      layout === undefined ? new Int32Array(0) : reservedBits(level, features),
    );
  }

  /**
   * Whether a translated request may go on.
   * @param source requester and PASID, see `sourceOf`
   * @param access sum of `ACCESS` bits
   * @returns 0, or a fault reason
   */
  check(source: number, pfn: number, access: number, table: HostPermissionTable): number {
    this.used = undefined;
    if (pfn >= 2 ** (49 + table.size - 12)) return FAULT_REASON.HPT_ADDRESS_BEYOND;
    const pair = this.#pairFor(source, pfn, table);
    return pair < 0 ? -pair : this.#refusal(pair, access);
  }

  /** The pair that governs a frame, 0 when the walk ends without one; `-reason` of a fault. */
  #pairFor(source: number, pfn: number, table: HostPermissionTable): number {
    for (let level = 1; this.readCache && level <= TOP_LEVEL; level++) {
      const entry = this.#cache.find(source, level, pfn);
      if (entry === undefined) continue;
      const { words, did } = entry;
      const pair = level === TOP_LEVEL ? 0 : pairAt(words, level, pfn);
      const decides = level === 1 || pair !== 0 || ((words[2] as number) & AV) === 0;
      if (!decides && did !== table.did) continue;
      this.trace?.cache('HPT cache', true, `level ${level} of domain ${did}`);
      this.used = entry;
      return decides ? pair : this.#descend(level - 1, nextTable(words), source, pfn, table.did);
    }
    if (this.readCache) this.trace?.cache('HPT cache', false, '');
    return this.#descend(TOP_LEVEL, table.root, source, pfn, table.did);
  }

  /** Read entries from `level` down. @param frame 4 KiB frame of that level's table */
  #descend(level: number, frame: number, source: number, pfn: number, did: number): number {
    let table = frame;
    for (let at = level; ; at--) {
      const reason = this.#read(at, table, pfn);
      if (reason !== 0) return -reason;
      const words = this.#words;
      const pair = at === TOP_LEVEL ? 0 : pairAt(words, at, pfn);
      this.#keep(at, source, pfn, did);
      if (at === 1 || pair !== 0 || ((words[2] as number) & AV) === 0) return pair;
      table = nextTable(words);
    }
  }

  /** One entry into `#words`: 0, or a fault reason. */
  #read(level: number, table: number, pfn: number): number {
    const layout = LAYOUTS[level] as Layout;
    const index = hptTag(pfn, level);
    // The level 4 table has 1 to 8 pages: address bits 51:49 choose one.
    const entries = level === TOP_LEVEL ? 8 * TABLE_ENTRIES : TABLE_ENTRIES;
    const address = table * 4096 + (index % entries) * ENTRY_BYTES;
    if (!readDwords(this.#memory, address, this.#words, HPT_WORDS)) {
      this.trace?.busError(layout, address);
      return level === TOP_LEVEL ? FAULT_REASON.HPT_ROOT_ACCESS : FAULT_REASON.HPT_ACCESS;
    }
    if (this.trace !== undefined)
      this.trace.read(layout, address, Array.from(this.#words), 'host permission table entry');
    const bad = anyReserved(this.#words, this.#reserved[level] as Int32Array, 0, HPT_WORDS);
    return bad ? FAULT_REASON.HPT_RESERVED : 0;
  }

  /** Only entries that say something are kept: a pair that is not zero, or AV. */
  #keep(level: number, source: number, pfn: number, did: number): void {
    if (!this.fillCache) return;
    const words = Array.from(this.#words, (word) => word >>> 0);
    const [w0, w1, w2, w3] = words as [number, number, number, number];
    const says = level === 1 ? w0 | w1 | w2 | w3 : w0 | w1 | (w2 & AV);
    if (says === 0) return;
    const entry = { source, level, tag: hptTag(pfn, level), did, words };
    this.#cache.insert(entry);
    this.onFill?.(entry);
  }

  /** Table 12 of the specification: what a kind of request needs. */
  #refusal(pair: number, access: number): number {
    const writes = (access & (WRITE | ATOMIC)) !== 0;
    if (this.#zeroLengthRead && (access & ZERO_LENGTH) !== 0 && !writes)
      return pair === 0 ? FAULT_REASON.HPT_ZLR : 0;
    if (writes && (pair & W) === 0) return FAULT_REASON.HPT_WRITE;
    const reads = !writes || (access & (READ | ATOMIC)) !== 0;
    return reads && (pair & R) === 0 ? FAULT_REASON.HPT_READ : 0;
  }

  /**
   * The dwords of the entry of a level as the tables have it now; undefined when none is reached.
   * Changes no cache.
   */
  entryNow(level: number, pfn: number, table: HostPermissionTable): number[] | undefined {
    let frame = table.root;
    for (let at = TOP_LEVEL; ; at--) {
      if (this.#read(at, frame, pfn) !== 0) return undefined;
      if (at === level) return Array.from(this.#words, (word) => word >>> 0);
      if (((this.#words[2] as number) & AV) === 0) return undefined;
      frame = nextTable(this.#words);
    }
  }
}

/** 4 KiB frame of the table that an entry with AV=1 points to. */
function nextTable(words: ArrayLike<number>): number {
  return joinFrame(words[2] as number, (words[3] as number) & ADDRESS_HIGH);
}
