import { encode } from '@iommukit/bits';
import { addressHi, addressLo, type HostMemory } from '@iommukit/core';
import { DTE, DTE_BYTES } from '../spec/device-table-entry.ts';
import { DEV_TAB_BASE } from '../spec/registers.ts';
import type { RegisterFile } from './register-file.ts';

const DEVICES = 0x1_0000;
const TABLE_PAGES = (DEVICES * DTE_BYTES) / 4096;

/** V=1, TV=0: every request faults. A zero entry would let DMA pass untranslated. */
export const BLOCKED_ENTRY = encode(DTE, { V: 1 });

/**
 * The device table: one entry for each of the 65536 RIDs, in one segment.
 *
 * @spec AMD IOMMU 2.2.2
 */
export class DeviceTable {
  readonly #memory: HostMemory;
  readonly #base: number;
  readonly #half = new Uint8Array(16);
  readonly #halfWords = new Uint32Array(this.#half.buffer);

  /** @throws {IommuError} ENOMEM */
  constructor(memory: HostMemory) {
    this.#memory = memory;
    this.#base = memory.alloc(TABLE_PAGES, 'bring-up', 'the device table');
    const [lo = 0, hi = 0] = BLOCKED_ENTRY;
    for (let rid = 0; rid < DEVICES; rid++) memory.store64(this.entryPa(rid), lo, hi);
  }

  /** Physical address of a device's entry. */
  entryPa(rid: number): number {
    return this.#base + rid * DTE_BYTES;
  }

  /** Tell the unit where the table is. */
  program(registers: RegisterFile): void {
    const size = TABLE_PAGES - 1;
    registers.writeReg64(
      DEV_TAB_BASE.offset,
      (addressLo(this.#base) | size) >>> 0,
      addressHi(this.#base),
    );
  }

  /**
   * Write an entry by two 128-bit stores, the widest that hardware sees whole. Everything about
   * host tables stands in the lower half, so a valid entry changes in one store: no request meets
   * a mixture. The upper half comes first only where the entry was not valid. The caller
   * invalidates.
   *
   * @linux drivers/iommu/amd/iommu.c (update_dte256)
   * @param words eight u32 words
   */
  write(rid: number, words: Uint32Array): void {
    const pa = this.entryPa(rid);
    const wasValid = (this.#memory.load32(pa) & DTE.fields.V.mask) !== 0;
    if (wasValid) {
      this.#store(pa, words, 0);
      this.#store(pa + 16, words, 4);
    } else {
      this.#store(pa + 16, words, 4);
      this.#store(pa, words, 0);
    }
  }

  #store(pa: number, words: Uint32Array, at: number): void {
    this.#halfWords.set(words.subarray(at, at + 4));
    this.#memory.memory.copyIn(pa, this.#half);
  }
}
