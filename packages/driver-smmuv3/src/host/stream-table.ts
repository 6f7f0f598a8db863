import { encode } from '@iommukit/bits';
import { addressHi, addressLo, type HostMemory, refuse } from '@iommukit/core';
import { STRTAB_BASE, STRTAB_BASE_CFG, STRTAB_FMT } from '../spec/registers.ts';
import { L1STD, L1STD_BYTES, STE_BYTES } from '../spec/stream-table-entry.ts';
import type { Capabilities } from './capabilities.ts';
import { STE_RULES } from './entry-rules.ts';
import { type EntryPort, writeEntry } from './entry-writer.ts';
import type { Invalidate } from './invalidate.ts';
import type { RegisterFile } from './register-file.ts';
import { ABORT_ENTRY } from './stream-entries.ts';

const SPLIT = 8;
const LEAF_STREAMS = 2 ** SPLIT;
const LEAF_PAGES = (LEAF_STREAMS * STE_BYTES) / 4096;
const RA = STRTAB_BASE.fields.RA.masks[1] as number;

/** Where a stream table is. */
export interface StreamTablePlace {
  readonly basePa: number;
  readonly leaves: readonly { readonly bus: number; readonly pa: number }[];
}

/**
 * The stream table: two levels where the unit has them (a leaf of 256 streams per PCI bus, made
 * when a device appears), else linear.
 *
 * @spec SMMUv3 3.3.2
 */
export class StreamTable {
  readonly #memory: HostMemory;
  readonly #caps: Capabilities;
  #base: number;
  readonly #leaves = new Map<number, number>();

  /** @throws {IommuError} ENOMEM; ENODEV when the machine's memory is beyond the unit's output */
  constructor(memory: HostMemory, caps: Capabilities) {
    this.#memory = memory;
    this.#caps = caps;
    const streams = 2 ** caps.sidBits;
    const bytes = caps.streamTwoLevel
      ? (streams / LEAF_STREAMS) * L1STD_BYTES
      : streams * STE_BYTES;
    this.#base = memory.alloc(Math.ceil(bytes / 4096), 'bring-up', 'the stream table');
    checkReach(this.#base + bytes, caps.oaBits);
    if (!caps.streamTwoLevel) this.#fill(this.#base, streams);
  }

  /** Tell the unit where the table is. */
  program(registers: RegisterFile): void {
    const { sidBits, streamTwoLevel } = this.#caps;
    const { FMT } = STRTAB_BASE_CFG.fields;
    const shape = streamTwoLevel
      ? (STRTAB_FMT.TWO_LEVEL << FMT.shift) | (SPLIT << STRTAB_BASE_CFG.fields.SPLIT.shift)
      : 0;
    registers.writeReg32(STRTAB_BASE_CFG.offset, shape | sidBits);
    const hi = (addressHi(this.#base) | RA) >>> 0;
    registers.writeReg64(STRTAB_BASE.offset, addressLo(this.#base), hi);
  }

  /**
   * Make room for a stream: the leaf of its bus.
   *
   * @throws {IommuError} ENOMEM
   */
  reserve(sid: number, invalidate: Invalidate): void {
    const bus = Math.floor(sid / LEAF_STREAMS);
    if (!this.#caps.streamTwoLevel || this.#leaves.has(bus)) return;
    const leaf = this.#memory.alloc(LEAF_PAGES, 'probe', `the streams of bus ${bus}`);
    this.#leaves.set(bus, leaf);
    this.#fill(leaf, LEAF_STREAMS);
    const descriptor = encode(L1STD, { SPAN: SPLIT + 1, L2PTR: leaf });
    this.#memory.storePair(this.#base + bus * L1STD_BYTES, descriptor, 0);
    invalidate.stream(sid, false);
    invalidate.submit();
  }

  /**
   * Change the entry of a reserved stream.
   *
   * @param words 16 u32 words
   * @returns whether no request met anything but the old or the new entry
   */
  write(sid: number, words: Uint32Array, invalidate: Invalidate): boolean {
    return writeEntry(this.#portOf(sid, invalidate), words, STE_RULES);
  }

  /** Where everything is, for a snapshot. */
  save(): StreamTablePlace {
    return { basePa: this.#base, leaves: [...this.#leaves].map(([bus, pa]) => ({ bus, pa })) };
  }

  /** Go on with a table that a snapshot of memory brought. */
  adopt({ basePa, leaves }: StreamTablePlace): void {
    this.#base = basePa;
    this.#leaves.clear();
    for (const { bus, pa } of leaves) this.#leaves.set(bus, pa);
  }

  /** Physical address of the entry of a reserved stream. */
  entryPa(sid: number): number {
    if (!this.#caps.streamTwoLevel) return this.#base + sid * STE_BYTES;
    const leaf = this.#leaves.get(Math.floor(sid / LEAF_STREAMS)) as number;
    return leaf + (sid % LEAF_STREAMS) * STE_BYTES;
  }

  #portOf(sid: number, invalidate: Invalidate): EntryPort {
    const pa = this.entryPa(sid);
    const memory = this.#memory;
    const words = new Uint32Array(STE_BYTES / 4);
    memory.loadWords(pa, words);
    return {
      words,
      store: (qword, lo, hi) => {
        words[2 * qword] = lo;
        words[2 * qword + 1] = hi;
        memory.store64(pa + 8 * qword, lo, hi);
      },
      sync: () => {
        invalidate.stream(sid, true);
        invalidate.submit();
      },
    };
  }

  #fill(base: number, streams: number): void {
    for (let at = 0; at < streams; at++)
      this.#memory.storePair(base + at * STE_BYTES, ABORT_ENTRY, 0);
  }
}

/** Tables that the unit cannot address would be refused much later, and obscurely. */
const checkReach = (end: number, oaBits: number): void => {
  if (end <= 2 ** oaBits) return;
  throw refuse(
    'ENODEV',
    'bring-up',
    'unit-reach',
    `the machine's memory is beyond ${oaBits} bits`,
    {
      value: end,
      accepted: 'a unit with a wider output (IDR5.OAS), or memory further down',
    },
  );
};
