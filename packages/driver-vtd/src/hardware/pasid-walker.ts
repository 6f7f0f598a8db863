/**
 * From a requester and a PASID to the PASID table entry: directory and table, through the PASID
 * cache.
 *
 * @spec VT-d 3.4.3, 9.5, 9.6
 */
import { type Field, type Layout, maskOf } from '@iommukit/bits';
import { FAULT_REASON } from '../spec/fault-reasons.ts';
import { PASID_DIR_ENTRY, PASID_ENTRY, PGTT } from '../spec/pasid-entry.ts';
import type { Features } from './capabilities.ts';
import { anyReserved, didReserved } from './context-walker.ts';
import { type HardwareMemory, readDwords } from './memory.ts';
import { highMaskAbove, joinAddress, joinFrame } from './page-index.ts';
import { HPT_SIZE_SHIFT, PASID_INFO, type PasidCache } from './pasid-cache.ts';
import type { TraceSink } from './trace.ts';

const PAGE = 0xffff_f000 | 0;
const WORDS = PASID_ENTRY.words;
const E = PASID_ENTRY.fields;
const FPD = maskOf(PASID_DIR_ENTRY, 'FPD')[0] as number;

/** Fields that are reserved because the unit lacks what they control. */
function absentFields(features: Features): Field[] {
  const absent: Field[] = [];
  const need = (has: boolean, ...fields: Field[]) => {
    if (!has) absent.push(...fields);
  };
  need(features.ssAccessedDirty, E.SSADE);
  need(features.scalableCoherent, E.PWSNP);
  need(features.snoopControl, E.PGSNP);
  need(features.memoryTypes, E.CD, E.EMTE, E.PAT);
  need(features.supervisor, E.SRE);
  need(features.firstStage, E.FSPM);
  need(features.extendedAccessed, E.EAFE);
  need(features.hostPermission, E.HPTSZ, E.HPTPFD, E.HPTPTR, E.HPTDID);
  return absent;
}

/** Fields of a stage that the unit lacks. */
function stageFields({ firstStage, secondStage }: Features): Field[] {
  return [...(firstStage ? [] : [E.WPE, E.FSPTPTR]), ...(secondStage ? [] : [E.SSPTPTR])];
}

/** Fields that a translation type does not look at. */
function ignoredFields(pgtt: number): Field[] {
  const second: Field[] = [E.AW, E.SSADE, E.SSPTPTR];
  const first: Field[] = [E.WPE, E.FSPTPTR];
  if (pgtt === PGTT.FIRST_STAGE) return second;
  if (pgtt === PGTT.SECOND_STAGE) return first;
  return pgtt === PGTT.PASS_THROUGH ? [...second, ...first] : [];
}

function setMasks(masks: Int32Array, field: Field, on: boolean): void {
  for (let word = 0; word < WORDS; word++) {
    const mask = field.masks[word] as number;
    masks[word] = on ? (masks[word] as number) | mask : (masks[word] as number) & ~mask;
  }
}

/** Reserved bits for one translation type. */
function reservedFor(features: Features, pgtt: number): Int32Array {
  const masks = Int32Array.from(PASID_ENTRY.reservedMasks);
  const above = highMaskAbove(features.hawBits, 63);
  for (const word of [1, 5, 9]) masks[word] = (masks[word] as number) | above;
  for (const field of [E.DID, E.HPTDID])
    didReserved(field, features.didBits).forEach((mask, word) => {
      masks[word] = (masks[word] as number) | mask;
    });
  const absent = absentFields(features);
  for (const field of absent) setMasks(masks, field, true);
  // Ignored only where the unit has it. Types that use these are refused as a whole (SPT.4.2).
  const unusable = [...absent, ...stageFields(features)];
  for (const field of ignoredFields(pgtt)) setMasks(masks, field, unusable.includes(field));
  return masks;
}

/** Finds PASID entries; the result of the last call stands in its fields. */
export class PasidWalker {
  /** Packed fields, see `PASID_INFO`; FPD is valid also after a fault. */
  info = 0;
  did = 0;
  /** 4 KiB frames of the tables. */
  ssRoot = 0;
  fsRoot = 0;
  /** Host permission table, as the cache keeps it. */
  hptRoot = 0;
  hptTag = 0;
  trace: TraceSink | undefined;
  /** Answer from the cache. */
  readCache = true;
  /** Keep what was read in the cache. */
  fillCache = true;

  readonly #memory: HardwareMemory;
  readonly #features: Features;
  readonly #cache: PasidCache;
  readonly #words = new Int32Array(WORDS);
  #lastRid = -1;
  #lastPasid = -1;
  #generation = -1;
  readonly #reserved: readonly Int32Array[];
  readonly #directoryReserved: Int32Array;

  constructor(memory: HardwareMemory, features: Features, cache: PasidCache) {
    this.#memory = memory;
    this.#features = features;
    this.#cache = cache;
    this.#reserved = Array.from({ length: 8 }, (_, pgtt) => reservedFor(features, pgtt));
    this.#directoryReserved = Int32Array.from(PASID_DIR_ENTRY.reservedMasks);
    this.#directoryReserved[1] =
      (this.#directoryReserved[1] as number) | highMaskAbove(features.hawBits, 63);
  }

  /**
   * Look up or read the entry of a requester's PASID. @hot
   * @param directory 4 KiB frame of the PASID directory
   * @returns 0, or a fault reason
   */
  find(rid: number, pasid: number, directory: number): number {
    const cache = this.#cache;
    if (rid === this.#lastRid && pasid === this.#lastPasid && cache.generation === this.#generation)
      return this.info >>> PASID_INFO.REASON_SHIFT;
    const place = this.readCache ? cache.find(rid, pasid) : -1;
    if (place >= 0 && cache.info[place] !== 0) {
      const info = cache.info[place] as number;
      this.info = info;
      this.did = cache.did[place] as number;
      this.ssRoot = cache.ssRoot[place] as number;
      this.fsRoot = cache.fsRoot[place] as number;
      if (this.#features.hostPermission) this.#takePermissionTable(place);
      this.trace?.cache('PASID cache', true, `PASID ${pasid.toString(16)}h`);
      this.#remember(rid, pasid);
      return info >>> PASID_INFO.REASON_SHIFT;
    }
    this.#lastRid = -1;
    if (this.readCache) this.trace?.cache('PASID cache', false, `PASID ${pasid.toString(16)}h`);
    this.info = 0;
    this.did = 0;
    const reason = this.#read(pasid, directory);
    if (reason === 0) this.info |= PASID_INFO.VALID;
    else if (!this.#features.keepsFaults) return reason;
    if (this.fillCache) this.#keep(rid, pasid, reason);
    return reason;
  }

  #takePermissionTable(place: number): void {
    this.hptRoot = this.#cache.hptRoot[place] as number;
    this.hptTag = this.#cache.hptTag[place] as number;
  }

  /** The fields answer the next request of the same PASID, unless the cache changes. */
  #remember(rid: number, pasid: number): void {
    this.#lastRid = this.trace === undefined ? rid : -1;
    this.#lastPasid = pasid;
    this.#generation = this.#cache.generation;
  }

  #keep(rid: number, pasid: number, reason: number): void {
    const cache = this.#cache;
    const place = cache.placeFor(rid, pasid);
    const info = this.info | PASID_INFO.VALID | (reason << PASID_INFO.REASON_SHIFT);
    cache.keep(place, info, reason === 0 ? this.did : 0, this.ssRoot, this.fsRoot);
    cache.hptRoot[place] = this.hptRoot;
    cache.hptTag[place] = this.hptTag;
  }

  #load(layout: Layout, address: number, count: number, doc: string): boolean {
    if (!readDwords(this.#memory, address, this.#words, count)) {
      this.trace?.busError(layout, address);
      return false;
    }
    if (this.trace !== undefined)
      this.trace.read(layout, address, Array.from(this.#words.subarray(0, count)), doc);
    return true;
  }

  #read(pasid: number, directory: number): number {
    const words = this.#words;
    if (
      !this.#load(PASID_DIR_ENTRY, directory * 4096 + (pasid >>> 6) * 8, 2, 'PASID directory entry')
    )
      return FAULT_REASON.PASID_DIR_ACCESS;
    const lo = words[0] as number;
    if ((lo & FPD) !== 0) this.info |= PASID_INFO.FPD;
    if ((lo & 1) === 0) return FAULT_REASON.PASID_DIR_NOT_PRESENT;
    if (anyReserved(words, this.#directoryReserved, 0, 2)) return FAULT_REASON.PASID_DIR_RESERVED;
    const table = joinAddress(lo & PAGE, words[1] as number);
    if (!this.#load(PASID_ENTRY, table + (pasid & 63) * 64, WORDS, 'PASID table entry'))
      return FAULT_REASON.PASID_ACCESS;
    return this.#decode(words);
  }

  #decode(words: Int32Array): number {
    const lo = words[0] as number;
    if ((lo & E.FPD.mask) !== 0) this.info |= PASID_INFO.FPD;
    if ((lo & E.P.mask) === 0) return FAULT_REASON.PASID_NOT_PRESENT;
    const pgtt = (lo & E.PGTT.mask) >>> E.PGTT.shift;
    if (anyReserved(words, this.#reserved[pgtt] as Int32Array, 0, WORDS))
      return FAULT_REASON.PASID_RESERVED;
    const aw = (lo & E.AW.mask) >>> E.AW.shift;
    const flags = words[4] as number;
    const fspm = (flags & E.FSPM.mask) >>> E.FSPM.shift;
    this.ssRoot = joinFrame(lo, words[1] as number);
    this.fsRoot = joinFrame(flags, words[5] as number);
    const size = (words[8] as number) & E.HPTSZ.mask;
    this.hptRoot = joinFrame(words[8] as number, words[9] as number);
    this.hptTag = ((words[10] as number) & E.HPTDID.mask) | (size << HPT_SIZE_SHIFT);
    if (!this.#supported(pgtt, aw, fspm)) return FAULT_REASON.PASID_INVALID;
    this.did = (words[2] as number) & E.DID.mask;
    this.info |= (pgtt << PASID_INFO.PGTT_SHIFT) | (aw << PASID_INFO.AW_SHIFT);
    this.#decodeFlags(lo, words[2] as number, flags, fspm);
    return 0;
  }

  #decodeFlags(lo: number, word2: number, flags: number, fspm: number): void {
    let info = 0;
    if (fspm === 1) info |= PASID_INFO.LEVEL5;
    if ((flags & E.SRE.mask) !== 0) info |= PASID_INFO.SRE;
    if ((flags & E.WPE.mask) !== 0) info |= PASID_INFO.WPE;
    if ((flags & E.EAFE.mask) !== 0) info |= PASID_INFO.EAFE;
    if ((lo & E.SSADE.mask) !== 0) info |= PASID_INFO.SSADE;
    if ((word2 & E.PWSNP.mask) !== 0) info |= PASID_INFO.PWSNP;
    if ((word2 & E.PGSNP.mask) !== 0) info |= PASID_INFO.PGSNP;
    this.info |= info;
  }

  /** SPT.4.1 to SPT.4.4: AW, PGTT, FSPM, nested FSPTPTR. */
  #supported(pgtt: number, aw: number, fspm: number): boolean {
    const { firstStage, secondStage, nested, passThrough } = this.#features;
    if (pgtt === PGTT.FIRST_STAGE) return firstStage && this.#firstStageMode(fspm);
    if (pgtt === PGTT.SECOND_STAGE) return secondStage && this.#width(aw);
    if (pgtt === PGTT.PASS_THROUGH) return passThrough;
    if (pgtt !== PGTT.NESTED || !nested) return false;
    const limit = 2 ** (Math.min(this.#features.mgawBits, 30 + 9 * aw) - 12);
    return this.#width(aw) && this.#firstStageMode(fspm) && this.fsRoot < limit;
  }

  #width(aw: number): boolean {
    return aw >= 1 && aw <= 3 && ((this.#features.sagaw >> aw) & 1) === 1;
  }

  #firstStageMode(fspm: number): boolean {
    return fspm === 0 || (fspm === 1 && this.#features.fs5Level);
  }
}
