import { encode } from '@iommukit/bits';
import type { HostMemory } from '@iommukit/core';
import { CD_BYTES, L1CD, L1CD_BYTES } from '../spec/context-descriptor.ts';
import { S1_FMT } from '../spec/stream-table-entry.ts';
import { CD_RULES } from './entry-rules.ts';
import { writeEntry } from './entry-writer.ts';
import type { Invalidate } from './invalidate.ts';

/** Context descriptors of a 64 KiB leaf, lg2; a table of no more is linear. */
const LEAF_LG2 = 10;
const LEAF_CDS = 2 ** LEAF_LG2;
const LEAF_PAGES = (LEAF_CDS * CD_BYTES) / 4096;
const WORDS = CD_BYTES / 4;

const pagesFor = (bytes: number): number => Math.ceil(bytes / 4096);

/** Where the context descriptors of a device are. */
export interface CdTablePlace {
  readonly pa: number;
  readonly leaves: readonly { readonly index: number; readonly pa: number }[];
}

/**
 * The context descriptors of one device: one for each SubstreamID, that of 0 also for requests
 * without. Linear up to 1024 of them, else leaves of 64 KiB that are made when one is needed.
 *
 * @spec SMMUv3 3.3.3, 5.3
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_alloc_cd_ptr)
 */
export class CdTable {
  /** Physical address for STE.S1ContextPtr. */
  readonly pa: number;
  /** STE.S1Fmt. */
  readonly format: number;
  /** lg2 of the descriptors it has room for, STE.S1CDMax; 0 = one, and no substreams. */
  readonly ssidBits: number;
  readonly #sid: number;
  readonly #memory: HostMemory;
  readonly #invalidate: Invalidate;
  readonly #leaves = new Map<number, number>();

  /**
   * @param adopted a table that a snapshot of memory brought; default: a new one
   * @throws {IommuError} ENOMEM
   */
  constructor(
    memory: HostMemory,
    invalidate: Invalidate,
    sid: number,
    ssidBits: number,
    adopted?: CdTablePlace,
  ) {
    this.#memory = memory;
    this.#invalidate = invalidate;
    this.#sid = sid;
    this.ssidBits = ssidBits;
    const isLinear = ssidBits <= LEAF_LG2;
    this.format = isLinear ? S1_FMT.LINEAR : S1_FMT.TWO_LEVEL_64K;
    const bytes = isLinear ? CD_BYTES * 2 ** ssidBits : L1CD_BYTES * 2 ** (ssidBits - LEAF_LG2);
    const what = `the context descriptors of stream ${sid}`;
    this.pa = adopted?.pa ?? memory.alloc(pagesFor(bytes), 'attach', what);
    for (const { index, pa } of adopted?.leaves ?? []) this.#leaves.set(index, pa);
  }

  /** Where it is, for a snapshot. */
  save(): CdTablePlace {
    const { pa } = this;
    return { pa, leaves: [...this.#leaves].map(([index, leaf]) => ({ index, pa: leaf })) };
  }

  /**
   * Make room for a substream.
   *
   * @throws {IommuError} ENOMEM
   */
  reserve(ssid: number): void {
    const index = Math.floor(ssid / LEAF_CDS);
    if (this.format === S1_FMT.LINEAR || this.#leaves.has(index)) return;
    const what = `context descriptors ${index * LEAF_CDS} on of stream ${this.#sid}`;
    const leaf = this.#memory.alloc(LEAF_PAGES, 'attach', what);
    this.#leaves.set(index, leaf);
    const descriptor = encode(L1CD, { V: 1, L2PTR: leaf });
    this.#memory.storePair(this.pa + index * L1CD_BYTES, descriptor, 0);
    this.#sync(ssid, false);
  }

  /**
   * Change the descriptor of a reserved substream.
   *
   * @param words 16 u32 words
   * @returns whether no request met anything but the old or the new one
   */
  write(ssid: number, words: Uint32Array): boolean {
    const pa = this.#descriptorPa(ssid);
    const memory = this.#memory;
    const current = new Uint32Array(WORDS);
    memory.loadWords(pa, current);
    const port = {
      words: current,
      store: (qword: number, lo: number, hi: number) => {
        current[2 * qword] = lo;
        current[2 * qword + 1] = hi;
        memory.store64(pa + 8 * qword, lo, hi);
      },
      sync: () => this.#sync(ssid, true),
    };
    return writeEntry(port, words, CD_RULES);
  }

  /** Give the memory back; no entry points to it, and nothing of it is cached any more. */
  free(): void {
    for (const leaf of this.#leaves.values()) this.#memory.free(leaf);
    this.#memory.free(this.pa);
  }

  #descriptorPa(ssid: number): number {
    if (this.format === S1_FMT.LINEAR) return this.pa + ssid * CD_BYTES;
    const leaf = this.#leaves.get(Math.floor(ssid / LEAF_CDS)) as number;
    return leaf + (ssid % LEAF_CDS) * CD_BYTES;
  }

  #sync(ssid: number, leafOnly: boolean): void {
    this.#invalidate.context(this.#sid, ssid, leafOnly);
    this.#invalidate.submit();
  }
}
