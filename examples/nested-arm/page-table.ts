import type { Platform } from './platform.ts';

const LEVELS = [39, 30, 21, 12] as const;
const TABLE = 3;
/** Page, AttrIndx 0, EL0 access, inner shareable, AF, nG. */
const LEAF = 0xf43;

/** A table of four levels with 4 KiB pages, for 48-bit addresses. */
export class PageTable {
  /** Guest physical address of the first table. */
  readonly root: number;
  readonly #platform: Platform;

  constructor(platform: Platform) {
    this.#platform = platform;
    this.root = platform.allocPages(1);
  }

  map(va: number, gpa: number): void {
    let table = this.root;
    for (const shift of LEVELS.slice(0, -1)) table = this.#below(table, va, shift);
    this.#platform.writeMemory(slotOf(table, va, 12), gpa + LEAF);
  }

  #below(table: number, va: number, shift: number): number {
    const slot = slotOf(table, va, shift);
    const entry = this.#platform.readMemory(slot);
    if (entry !== 0) return entry - TABLE;
    const next = this.#platform.allocPages(1);
    this.#platform.writeMemory(slot, next + TABLE);
    return next;
  }
}

const slotOf = (table: number, va: number, shift: number): number =>
  table + 8 * (Math.floor(va / 2 ** shift) % 512);
