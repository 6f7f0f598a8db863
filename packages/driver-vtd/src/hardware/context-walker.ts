/**
 * From a requester to its context entry: root table and context table, through the context cache.
 *
 * @spec VT-d 3.4.2, 3.4.3 (entries), 9.1 to 9.4
 */
import { type Field, type Layout, maskOf } from '@iommukit/bits';
import { CONTEXT_ENTRY, CONTEXT_TT, SM_CONTEXT_ENTRY } from '../spec/context-entry.ts';
import { FAULT_REASON } from '../spec/fault-reasons.ts';
import { ROOT_ENTRY, SM_ROOT_ENTRY } from '../spec/root-entry.ts';
import type { Features } from './capabilities.ts';
import { CONTEXT, type ContextCache } from './context-cache.ts';
import { type HardwareMemory, readDwords } from './memory.ts';
import { highMaskAbove, joinAddress, joinFrame } from './page-index.ts';
import type { TraceSink } from './trace.ts';

const PAGE = 0xffff_f000 | 0;

/** Reserved bits of an entry that has host pointers in the given high dwords, plus absent features. */
function reservedBits(
  layout: Layout,
  hawBits: number,
  pointerHighWords: readonly number[],
  extra: readonly number[],
): Int32Array {
  const masks = Int32Array.from(layout.reservedMasks);
  for (const word of pointerHighWords)
    masks[word] = (masks[word] as number) | highMaskAbove(hawBits, 63);
  extra.forEach((mask, word) => {
    masks[word] = (masks[word] as number) | mask;
  });
  return masks;
}

/** Whether any of `count` dwords has a reserved bit set. @hot */
export function anyReserved(words: Int32Array, masks: Int32Array, from: number, to: number) {
  for (let i = from; i < to; i++)
    if (((words[i] as number) & (masks[i] as number)) !== 0) return true;
  return false;
}

/** Bits of a domain id field above the supported width, in place. */
export function didReserved(field: Field, didBits: number): number[] {
  const masks = field.masks.map(() => 0);
  for (let bit = field.lo + didBits; bit <= field.hi; bit++)
    masks[bit >> 5] = (masks[bit >> 5] as number) | (1 << (bit & 31));
  return masks;
}

function absentContextFeatures(features: Features): number[] {
  const { DTE, PASIDE, PRE, HPTE, EPTR, RID_PASID, RID_PRIV } = SM_CONTEXT_ENTRY.fields;
  const absent: Field[] = [];
  if (!features.deviceTlb) absent.push(DTE);
  if (!features.pasid) absent.push(PASIDE);
  if (!features.pageRequests) absent.push(PRE);
  if (!features.hostPermission) absent.push(HPTE);
  if (!features.translatedPasid) absent.push(EPTR);
  if (!features.ridPasid) absent.push(RID_PASID);
  if (!features.ridPriv) absent.push(RID_PRIV);
  const masks = new Array<number>(SM_CONTEXT_ENTRY.words).fill(0);
  for (const field of absent)
    for (let word = 0; word < masks.length; word++)
      masks[word] = (masks[word] as number) | (field.masks[word] as number);
  return masks;
}

const [LEGACY_P, LEGACY_FPD, LEGACY_TT] = [
  maskOf(CONTEXT_ENTRY, 'P')[0] as number,
  maskOf(CONTEXT_ENTRY, 'FPD')[0] as number,
  CONTEXT_ENTRY.fields.TT.shift,
];
const SM = SM_CONTEXT_ENTRY.fields;

/** Finds context entries; the result of the last call stands in its fields. */
export class ContextWalker {
  /** Packed fields, see `CONTEXT`; FPD is valid also after a fault. */
  info = 0;
  did = 0;
  ridPasid = 0;
  /** 4 KiB frame of the second-stage table or of the PASID directory. */
  pointer = 0;
  trace: TraceSink | undefined;
  /** Answer from the cache. */
  readCache = true;
  /** Keep what was read in the cache. */
  fillCache = true;

  readonly #memory: HardwareMemory;
  readonly #features: Features;
  readonly #cache: ContextCache;
  readonly #words = new Int32Array(8);
  #lastRid = -1;
  #lastMode = 0;
  #generation = -1;
  readonly #legacyRoot: Int32Array;
  readonly #legacyContext: Int32Array;
  readonly #scalableRoot: Int32Array;
  readonly #scalableContext: Int32Array;

  constructor(memory: HardwareMemory, features: Features, cache: ContextCache) {
    const { hawBits } = features;
    this.#memory = memory;
    this.#features = features;
    this.#cache = cache;
    this.#legacyRoot = reservedBits(ROOT_ENTRY, hawBits, [1], []);
    this.#legacyContext = reservedBits(
      CONTEXT_ENTRY,
      hawBits,
      [1],
      didReserved(CONTEXT_ENTRY.fields.DID, features.didBits),
    );
    this.#scalableRoot = reservedBits(SM_ROOT_ENTRY, hawBits, [1, 3], []);
    this.#scalableContext = reservedBits(
      SM_CONTEXT_ENTRY,
      hawBits,
      [1],
      absentContextFeatures(features),
    );
  }

  /**
   * Look up or read the entry of a requester. @hot
   * @param rootTable byte address of the root table
   * @returns 0, or a fault reason
   */
  find(rid: number, rootTable: number, scalable: boolean): number {
    const cache = this.#cache;
    const mode = scalable ? CONTEXT.SCALABLE : 0;
    if (rid === this.#lastRid && mode === this.#lastMode && cache.generation === this.#generation)
      return this.info >>> CONTEXT.REASON_SHIFT;
    const place = this.readCache ? cache.find(rid) : -1;
    if (place >= 0) {
      const info = cache.info[place] as number;
      if ((info & CONTEXT.VALID) !== 0 && (info & CONTEXT.SCALABLE) === mode) {
        this.info = info;
        this.did = cache.did[place] as number;
        this.ridPasid = cache.ridPasid[place] as number;
        this.pointer = cache.pointer[place] as number;
        this.trace?.cache('context cache', true, `requester ${rid.toString(16)}h`);
        this.#remember(rid, mode);
        return info >>> CONTEXT.REASON_SHIFT;
      }
    }
    this.#lastRid = -1;
    if (this.readCache) this.trace?.cache('context cache', false, `requester ${rid.toString(16)}h`);
    this.info = 0;
    this.did = 0;
    this.ridPasid = 0;
    this.pointer = 0;
    const reason = scalable ? this.#readScalable(rid, rootTable) : this.#readLegacy(rid, rootTable);
    if (reason === 0) this.info |= CONTEXT.VALID | mode;
    else if (!this.#features.keepsFaults) return reason;
    if (this.fillCache) this.#keep(rid, mode, reason);
    return reason;
  }

  /** The fields answer the next request of the same requester, unless the cache changes. */
  #remember(rid: number, mode: number): void {
    this.#lastRid = this.trace === undefined ? rid : -1;
    this.#lastMode = mode;
    this.#generation = this.#cache.generation;
  }

  #keep(rid: number, mode: number, reason: number): void {
    const cache = this.#cache;
    const place = cache.placeFor(rid);
    cache.info[place] = this.info | CONTEXT.VALID | mode | (reason << CONTEXT.REASON_SHIFT);
    cache.did[place] = reason === 0 ? this.did : 0;
    cache.ridPasid[place] = this.ridPasid;
    cache.pointer[place] = this.pointer;
  }

  #read(layout: Layout, address: number, count: number, doc: string): boolean {
    if (!readDwords(this.#memory, address, this.#words, count)) {
      this.trace?.busError(layout, address);
      return false;
    }
    if (this.trace !== undefined)
      this.trace.read(layout, address, Array.from(this.#words.subarray(0, count)), doc);
    return true;
  }

  #readLegacy(rid: number, rootTable: number): number {
    const words = this.#words;
    if (!this.#read(ROOT_ENTRY, rootTable + (rid >> 8) * 16, 4, 'root entry'))
      return FAULT_REASON.LEGACY_ROOT_ACCESS;
    if (((words[0] as number) & 1) === 0) return FAULT_REASON.LEGACY_ROOT_NOT_PRESENT;
    if (anyReserved(words, this.#legacyRoot, 0, 4)) return FAULT_REASON.LEGACY_ROOT_RESERVED;
    const table = joinAddress((words[0] as number) & PAGE, words[1] as number);
    if (!this.#read(CONTEXT_ENTRY, table + (rid & 0xff) * 16, 4, 'context entry'))
      return FAULT_REASON.LEGACY_CONTEXT_ACCESS;
    return this.#decodeLegacy(words);
  }

  #decodeLegacy(words: Int32Array): number {
    const lo = words[0] as number;
    if ((lo & LEGACY_FPD) !== 0) this.info |= CONTEXT.FPD;
    if ((lo & LEGACY_P) === 0) return FAULT_REASON.LEGACY_CONTEXT_NOT_PRESENT;
    if (anyReserved(words, this.#legacyContext, 0, 4)) return FAULT_REASON.LEGACY_CONTEXT_RESERVED;
    const tt = (lo >>> LEGACY_TT) & 3;
    const aw = (words[2] as number) & 7;
    if (!this.#legacySupported(tt, aw)) return FAULT_REASON.LEGACY_CONTEXT_INVALID;
    this.info |= (tt << CONTEXT.TT_SHIFT) | (aw << CONTEXT.AW_SHIFT);
    this.did = ((words[2] as number) >>> 8) & 0xffff;
    this.pointer = joinFrame(lo, words[1] as number);
    return 0;
  }

  #legacySupported(tt: number, aw: number): boolean {
    const { deviceTlb, passThrough, sagaw, largestAw } = this.#features;
    if (tt === CONTEXT_TT.PASS_THROUGH) return passThrough && aw === largestAw;
    if (tt === CONTEXT_TT.ATS && !deviceTlb) return false;
    return tt <= CONTEXT_TT.ATS && aw >= 1 && aw <= 3 && ((sagaw >> aw) & 1) === 1;
  }

  #readScalable(rid: number, rootTable: number): number {
    const words = this.#words;
    const half = ((rid >> 7) & 1) * 2;
    if (!this.#read(SM_ROOT_ENTRY, rootTable + (rid >> 8) * 16, 4, 'scalable root entry'))
      return FAULT_REASON.SM_ROOT_ACCESS;
    if (((words[half] as number) & 1) === 0) return FAULT_REASON.SM_ROOT_NOT_PRESENT;
    if (anyReserved(words, this.#scalableRoot, half, half + 2))
      return FAULT_REASON.SM_ROOT_RESERVED;
    const table = joinAddress((words[half] as number) & PAGE, words[half + 1] as number);
    if (!this.#read(SM_CONTEXT_ENTRY, table + (rid & 0x7f) * 32, 8, 'scalable context entry'))
      return FAULT_REASON.SM_CONTEXT_ACCESS;
    return this.#decodeScalable(words);
  }

  #decodeScalable(words: Int32Array): number {
    const lo = words[0] as number;
    if ((lo & SM.FPD.mask) !== 0) this.info |= CONTEXT.FPD;
    if ((lo & SM.P.mask) === 0) return FAULT_REASON.SM_CONTEXT_NOT_PRESENT;
    if (anyReserved(words, this.#scalableContext, 0, 8)) return FAULT_REASON.SM_CONTEXT_RESERVED;
    const pdts = (lo >>> SM.PDTS.shift) & 7;
    this.ridPasid = (words[2] as number) & SM.RID_PASID.mask;
    this.pointer = joinFrame(lo, words[1] as number);
    if ((lo & SM.PRE.mask) !== 0 && (lo & SM.DTE.mask) === 0)
      return FAULT_REASON.SM_CONTEXT_INVALID;
    if (this.ridPasid >= 2 ** (pdts + 13)) return FAULT_REASON.SM_CONTEXT_INVALID;
    if ((lo & SM.DTE.mask) !== 0) this.info |= CONTEXT.DTE;
    if ((lo & SM.PASIDE.mask) !== 0) this.info |= CONTEXT.PASIDE;
    if ((lo & SM.PRE.mask) !== 0) this.info |= CONTEXT.PRE;
    if ((lo & SM.HPTE.mask) !== 0) this.info |= CONTEXT.HPTE;
    if ((lo & SM.EPTR.mask) !== 0) this.info |= CONTEXT.EPTR;
    if (((words[2] as number) & SM.RID_PRIV.mask) !== 0) this.info |= CONTEXT.RID_PRIV;
    this.info |= pdts << CONTEXT.PDTS_SHIFT;
    return 0;
  }
}
