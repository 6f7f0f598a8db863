/**
 * The GCR3 table of one device: the root of a guest table by PASID.
 *
 * @spec AMD IOMMU 2.2.6 (guest CR3 table)
 * @linux drivers/iommu/amd/iommu.c (setup_gcr3_table, update_gcr3)
 */
import { addressHi, addressLo, type HostMemory } from '@iommukit/core';

const INDEX_BITS = 9;
const INDEX_MASK = 2 ** INDEX_BITS - 1;
const ENTRY_BYTES = 8;
const VALID = 1;

/** Levels that PASIDs of a width need; at least one, for PASID 0. */
export const gcr3LevelsFor = (pasidBits: number): number =>
  Math.max(1, Math.ceil(pasidBits / INDEX_BITS));

/** A GCR3 table of 1 to 3 levels; lower levels come when the first PASID needs them. */
export class Gcr3Table {
  /** DTE.GLX + 1. */
  readonly levels: number;
  readonly rootPa: number;
  readonly #memory: HostMemory;
  readonly #pages: number[] = [];

  /** @throws {IommuError} ENOMEM */
  constructor(memory: HostMemory, levels: number) {
    this.#memory = memory;
    this.levels = levels;
    this.rootPa = this.#page();
  }

  /**
   * Make room for a PASID. Nothing that hardware could use appears.
   *
   * @throws {IommuError} ENOMEM, with the table as it translates unchanged
   */
  reserve(pasid: number): void {
    let table = this.rootPa;
    for (let level = this.levels - 1; level > 0; level--) {
      const entry = entryPa(table, pasid, level);
      if ((this.#memory.load32(entry) & VALID) === 0) this.#store(entry, this.#page());
      table = this.#target(entry);
    }
  }

  /** Point a reserved PASID to a guest table: one 64-bit store. */
  set(pasid: number, rootPa: number): void {
    this.#store(this.#leaf(pasid), rootPa);
  }

  /** Let a reserved PASID have no table. */
  clear(pasid: number): void {
    this.#memory.store64(this.#leaf(pasid), 0, 0);
  }

  /** Give all memory back; no cache may know of it. */
  free(): void {
    for (const page of this.#pages) this.#memory.free(page);
    this.#pages.length = 0;
  }

  #leaf(pasid: number): number {
    let table = this.rootPa;
    for (let level = this.levels - 1; level > 0; level--) {
      table = this.#target(entryPa(table, pasid, level));
    }
    return entryPa(table, pasid, 0);
  }

  #page(): number {
    const page = this.#memory.alloc(1, 'attach', 'a GCR3 table');
    this.#pages.push(page);
    return page;
  }

  #store(entry: number, pa: number): void {
    this.#memory.store64(entry, (addressLo(pa) | VALID) >>> 0, addressHi(pa));
  }

  #target(entry: number): number {
    const lo = this.#memory.load32(entry);
    return this.#memory.load32(entry + 4) * 2 ** 32 + lo - (lo % 4096);
  }
}

const entryPa = (table: number, pasid: number, level: number): number =>
  table + ((pasid >>> (INDEX_BITS * level)) & INDEX_MASK) * ENTRY_BYTES;
