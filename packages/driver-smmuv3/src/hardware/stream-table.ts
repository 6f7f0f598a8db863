/**
 * Fetches stream table entries and context descriptors.
 *
 * @spec SMMUv3 3.3.2 (stream table), 3.3.3 (context descriptors)
 */
import { CD_BYTES, L1CD, L1CD_BYTES } from '../spec/context-descriptor.ts';
import { EVENT, EVENT_CLASS } from '../spec/events.ts';
import { L1STD, L1STD_BYTES, S1_FMT, STE_BYTES } from '../spec/stream-table-entry.ts';
import type { Features } from './capabilities.ts';
import type { Stage1Config, StreamConfig } from './configuration.ts';
import { resolveContextDescriptor } from './context-descriptor-check.ts';
import { type Fault, setFault, TERMS } from './faults.ts';
import { type HardwareMemory, joinAddress, readDwords } from './memory.ts';
import { RIGHT, type Stage2Walker } from './stage2-walker.ts';
import { resolveStreamEntry } from './stream-entry-check.ts';
import type { UnitState } from './unit-state.ts';

const SPAN = L1STD.fields.SPAN.mask;
const L2PTR_LO = L1STD.fields.L2PTR.masks[0] as number;
const L2PTR_HI = L1STD.fields.L2PTR.masks[1] as number;
const L1CD_V = L1CD.fields.V.mask;
const CD_PTR_LO = L1CD.fields.L2PTR.masks[0] as number;
const MAX_SPAN = 11;
const FRAME_BYTES = 4096;
const LEAF_CDS_LG2_4K = 6;
const LEAF_CDS_LG2_64K = 10;

/** Reads structures for the translator; on failure the fault says why. */
export class StreamTable {
  readonly #memory: HardwareMemory;
  readonly #state: UnitState;
  readonly #features: Features;
  readonly #fault: Fault;
  readonly #stage2: Stage2Walker;
  readonly #words = new Uint32Array(16);

  constructor(
    memory: HardwareMemory,
    state: UnitState,
    features: Features,
    fault: Fault,
    stage2: Stage2Walker,
  ) {
    this.#memory = memory;
    this.#state = state;
    this.#features = features;
    this.#fault = fault;
    this.#stage2 = stage2;
  }

  /** Read and check the STE of a stream; undefined when there is none to read. */
  fetchStream(sid: number): StreamConfig | undefined {
    const address = this.#streamAddress(sid);
    if (address < 0) return undefined;
    if (!this.#readEntry(address, STE_BYTES / 4)) {
      setFault(this.#fault, EVENT.F_STE_FETCH, false, 0, address, TERMS.RECORD);
      return undefined;
    }
    return resolveStreamEntry(this.#words, this.#features);
  }

  /** Byte address of an STE; -1 with the fault set. */
  #streamAddress(sid: number): number {
    const { streamTable, streamCount, streamTwoLevel, streamSplit } = this.#state;
    if (sid >= streamCount) return this.#noStream();
    if (!streamTwoLevel) return streamTable + sid * STE_BYTES;
    const entries = 2 ** streamSplit;
    const descriptor = streamTable + Math.floor(sid / entries) * L1STD_BYTES;
    if (!this.#readEntry(descriptor, L1STD_BYTES / 4)) {
      setFault(this.#fault, EVENT.F_STE_FETCH, false, 0, descriptor, TERMS.RECORD);
      return -1;
    }
    const [lo = 0, hi = 0] = this.#words;
    const span = lo & SPAN;
    if (span === 0 || span > MAX_SPAN || span > streamSplit + 1) return this.#noStream();
    const index = sid % entries;
    if (index >= 2 ** (span - 1)) return this.#noStream();
    const pointer = joinAddress(lo & L2PTR_LO, hi & L2PTR_HI);
    return pointer - (pointer % (STE_BYTES * 2 ** (span - 1))) + index * STE_BYTES;
  }

  /** Read dwords of the stream table; beyond the output size there is none. */
  #readEntry(address: number, count: number): boolean {
    if (address >= 2 ** this.#features.oaBits) return false;
    return readDwords(this.#memory, address, this.#words, count);
  }

  #noStream(): -1 {
    const { recordInvalidStreams } = this.#state;
    const terms = recordInvalidStreams ? TERMS.RECORD : 0;
    setFault(this.#fault, EVENT.C_BAD_STREAMID, false, 0, 0, terms);
    return -1;
  }

  /** Read and check a CD; undefined when there is none to read. */
  fetchContext(stream: StreamConfig, index: number): Stage1Config | undefined {
    const address = this.#contextAddress(stream, index);
    if (address < 0 || !this.#readContextWords(stream, address, CD_BYTES / 4)) return undefined;
    return resolveContextDescriptor(this.#words, this.#features, stream, this.#state.e2h);
  }

  /** Address of a CD, an IPA when the stream has a stage 2; -1 with the fault set. */
  #contextAddress(stream: StreamConfig, index: number): number {
    const { cdTable, cdMax, cdFormat } = stream;
    if (cdMax === 0 || cdFormat === S1_FMT.LINEAR) {
      return cdTable - (cdTable % (CD_BYTES * 2 ** cdMax)) + index * CD_BYTES;
    }
    const small = cdFormat === S1_FMT.TWO_LEVEL_4K;
    const leafLg2 = small ? LEAF_CDS_LG2_4K : LEAF_CDS_LG2_64K;
    const descriptor = cdTable + Math.floor(index / 2 ** leafLg2) * L1CD_BYTES;
    if (!this.#readContextWords(stream, descriptor, L1CD_BYTES / 4)) return -1;
    const [lo = 0, hi = 0] = this.#words;
    const pointer = joinAddress(lo & CD_PTR_LO, hi & L2PTR_HI);
    if ((lo & L1CD_V) === 0 || pointer >= 2 ** this.#features.oaBits) {
      setFault(this.#fault, EVENT.C_BAD_SUBSTREAMID, false, 0, 0, TERMS.RECORD);
      return -1;
    }
    const leafBytes = CD_BYTES * 2 ** leafLg2;
    return pointer - (pointer % leafBytes) + (index % 2 ** leafLg2) * CD_BYTES;
  }

  /** Read dwords of a CD or its level-1 descriptor, through stage 2 when there is one. */
  #readContextWords(stream: StreamConfig, address: number, count: number): boolean {
    let pa = address;
    if (stream.stage2 !== undefined) {
      const frame = Math.floor(address / FRAME_BYTES);
      if (this.#stage2.walk(stream.stage2, frame, RIGHT.READ, EVENT_CLASS.CD)) return false;
      pa = this.#stage2.pfn * FRAME_BYTES + (address % FRAME_BYTES);
    }
    if (readDwords(this.#memory, pa, this.#words, count)) return true;
    setFault(this.#fault, EVENT.F_CD_FETCH, false, 0, pa, TERMS.RECORD);
    return false;
  }
}
