import { encode } from '@iommukit/bits';
import { addressHi, addressLo, type HostMemory } from '@iommukit/core';
import { DTE, DTE_BYTES } from '../spec/device-table-entry.ts';
import { DEV_TAB_BASE } from '../spec/registers.ts';
import type { Invalidate } from './invalidate.ts';
import type { RegisterFile } from './register-file.ts';

const DEVICES = 0x1_0000;
const TABLE_PAGES = (DEVICES * DTE_BYTES) / 4096;
const ENTRY_WORDS = DTE_BYTES / 4;
const UPPER_HALF = ENTRY_WORDS / 2;

const { V, GV, GUEST_PAGING_MODE } = DTE.fields;

/** V=1, TV=0: every request faults. A zero entry would let DMA pass untranslated. */
export const BLOCKED_ENTRY = encode(DTE, { V: 1 });

/** Hardware makes use of GuestPagingMode. */
const usesGuest = (words: Uint32Array): boolean =>
  ((words[V.word] as number) & V.mask) !== 0 && ((words[GV.word] as number) & GV.mask) !== 0;

const guestMode = (words: Uint32Array): number =>
  (words[GUEST_PAGING_MODE.word] as number) & GUEST_PAGING_MODE.mask;

/**
 * The device table: one entry for each of the 65536 RIDs, in one segment.
 *
 * @spec AMD IOMMU 2.2.2
 */
export class DeviceTable {
  readonly #memory: HostMemory;
  readonly #base: number;
  readonly #old = new Uint32Array(ENTRY_WORDS);

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

  /** Whether a device's entry says something else than `words`. */
  differs(rid: number, words: Uint32Array): boolean {
    this.#memory.loadWords(this.entryPa(rid), this.#old);
    return this.#old.some((word, at) => word !== words[at]);
  }

  /**
   * Write an entry by two 128-bit stores, the widest that hardware sees whole. All that host tables
   * need stands in the lower half, and of guest tables only GuestPagingMode in the upper one: it is
   * written while the lower half does not make use of it. Where both entries do, and differ in it,
   * the device is blocked for the time between, which with V=0 it would not be. The caller
   * invalidates.
   *
   * @param words eight u32 words
   * @param invalidate makes the unit forget the entry of the time between
   * @linux drivers/iommu/amd/iommu.c (update_dte256)
   */
  write(rid: number, words: Uint32Array, invalidate: Invalidate): void {
    const pa = this.entryPa(rid);
    const old = this.#old;
    this.#memory.loadWords(pa, old);
    const usedUpper = usesGuest(old);
    if (usedUpper && usesGuest(words) && guestMode(old) !== guestMode(words)) {
      this.#memory.store128(pa, BLOCKED_ENTRY);
      invalidate.deviceEntry(rid);
      invalidate.submit();
      this.#memory.store128(pa + DTE_BYTES / 2, words, UPPER_HALF);
      this.#memory.store128(pa, words);
    } else if (usedUpper) {
      this.#memory.store128(pa, words);
      this.#memory.store128(pa + DTE_BYTES / 2, words, UPPER_HALF);
    } else {
      this.#memory.store128(pa + DTE_BYTES / 2, words, UPPER_HALF);
      this.#memory.store128(pa, words);
    }
  }
}
