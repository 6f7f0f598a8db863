import { decode, encode } from '@iommukit/bits';
import { PASID_DIR_ENTRY, SM_ROOT_ENTRY } from '@iommukit/driver-vtd';
import { type Platform, readWords, writeEntry } from './platform.ts';

/** PASIDs of the smallest directory, PDTS=0. */
const MAX_PASID = 2 ** 13 - 1;

/** Root table, context tables, PASID directories and tables: finds entries, makes what lacks. */
export class DeviceTables {
  /** Physical address of the root table. */
  readonly root: number;
  readonly #platform: Platform;
  readonly #contextTables = new Map<number, number>();
  readonly #pasidDirectories = new Map<number, number>();

  constructor(platform: Platform) {
    this.#platform = platform;
    this.root = platform.allocPages(1);
  }

  /** A PASID directory for a device. */
  addDirectory(rid: number): number {
    const directory = this.#platform.allocPages(1);
    this.#pasidDirectories.set(rid, directory);
    return directory;
  }

  /** The device's context entry: bus, half of the bus, then 32 bytes per devfn. */
  contextAddress(rid: number): number {
    const key = rid >> 7;
    let table = this.#contextTables.get(key);
    if (table === undefined) {
      table = this.#platform.allocPages(1);
      this.#contextTables.set(key, table);
      this.#setRootHalf(rid >> 8, key & 1, table);
    }
    return table + (rid & 0x7f) * 32;
  }

  #setRootHalf(bus: number, half: number, table: number): void {
    const entry = half === 0 ? { LP: 1, LCTP: table } : { UP: 1, UCTP: table };
    const words = encode(SM_ROOT_ENTRY, entry).subarray(2 * half, 2 * half + 2);
    const at = this.root + bus * 16 + half * 8;
    this.#platform.writeMemory(at + 4, words[1] as number);
    this.#platform.writeMemory(at, words[0] as number);
  }

  /** The PASID's table entry, its table made when it is the first of 64. */
  pasidAddress(rid: number, pasid: number): number {
    const directory = this.#pasidDirectories.get(rid);
    if (directory === undefined || pasid > MAX_PASID) {
      throw new Error(`no PASID entry for device ${rid}, PASID ${pasid}: at most ${MAX_PASID}`);
    }
    const at = directory + (pasid >> 6) * 8;
    const entry = decode(PASID_DIR_ENTRY, readWords(this.#platform, at, 2));
    let table = entry.SMPTBLPTR;
    if (entry.P === 0) {
      table = this.#platform.allocPages(1);
      writeEntry(this.#platform, at, PASID_DIR_ENTRY, { P: 1, SMPTBLPTR: table });
    }
    return table + (pasid & 63) * 64;
  }
}
