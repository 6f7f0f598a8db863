import { decode, encode } from '@iommukit/bits';
import { FS_PTE, FS_TABLE_ENTRY, SS_PTE, SS_TABLE_ENTRY } from '@iommukit/driver-vtd';
import { type Platform, readWords, writeWords } from './platform.ts';

const LEVELS = 4;

/** How the entries of a stage look: present means that any of these bits is set. */
const STAGES = {
  first: {
    table: (ADDR: number) => encode(FS_TABLE_ENTRY, { P: 1, RW: 1, US: 1, ADDR }),
    leaf: (ADDR: number) => encode(FS_PTE, { P: 1, RW: 1, US: 1, ADDR }),
    present: 1,
  },
  second: {
    table: (ADDR: number) => encode(SS_TABLE_ENTRY, { R: 1, W: 1, ADDR }),
    leaf: (ADDR: number) => encode(SS_PTE, { R: 1, W: 1, ADDR }),
    present: 3,
  },
} as const;

/** A page table of four levels in RAM, 48 bits, pages of 4 KiB. */
export class PageTable {
  /** Physical address of the top table. */
  readonly root: number;
  readonly #platform: Platform;
  readonly #stage: (typeof STAGES)[keyof typeof STAGES];

  constructor(platform: Platform, stage: keyof typeof STAGES) {
    this.#platform = platform;
    this.#stage = STAGES[stage];
    this.root = platform.allocPages(1);
  }

  /** Let the page at `iova` lead to the page at `address`, both multiples of 4096. */
  map(iova: number, address: number): void {
    writeWords(this.#platform, this.#leafAddress(iova), this.#stage.leaf(address));
  }

  /** Let the page at `iova` lead nowhere. */
  unmap(iova: number): void {
    writeWords(this.#platform, this.#leafAddress(iova), new Uint32Array(2));
  }

  /** Where the entry of the last level is, tables made on the way. */
  #leafAddress(iova: number): number {
    let table = this.root;
    for (let level = LEVELS - 1; level > 0; level--) {
      const at = entryAddress(table, iova, level);
      const words = readWords(this.#platform, at, 2);
      if (((words[0] as number) & this.#stage.present) === 0) {
        const next = this.#platform.allocPages(1);
        writeWords(this.#platform, at, this.#stage.table(next));
        table = next;
      } else {
        table = decode(FS_TABLE_ENTRY, words).ADDR;
      }
    }
    return entryAddress(table, iova, 0);
  }
}

const entryAddress = (table: number, iova: number, level: number): number =>
  table + (Math.floor(iova / 2 ** (12 + 9 * level)) % 512) * 8;
