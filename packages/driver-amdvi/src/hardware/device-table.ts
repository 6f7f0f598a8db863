/**
 * Finds the device table entry of a requester: in the cache, else in memory.
 *
 * @spec AMD IOMMU 2.2.2 (device table)
 */
import { hex } from '@iommukit/bits';
import { NO_PASID } from '@iommukit/pgtable-fast';
import { DTE } from '../spec/device-table-entry.ts';
import { type Caches, DEVICE } from './caches.ts';
import type { Features } from './capabilities.ts';
import { deviceInfo, judgeDeviceEntry } from './device-entry.ts';
import { type HardwareMemory, readDwords } from './memory.ts';
import type { TraceSink } from './trace.ts';
import type { UnitState } from './unit-state.ts';

/** How a look-up ends. */
export const FOUND = { ENTRY: 0, OUT_OF_RANGE: 1, ABORT: 2 } as const;

const DTE_WORDS = 8;
const DOMAIN_MASK = 0xffff;

/** One per translator; the entry found last stands at `words[at]`. */
export class DeviceTable {
  /** Dwords as {@link DEVICE} lays them out: the cache's, or a copy of memory. */
  words: Int32Array;
  at = 0;
  /** Byte address of the entry, when it was read or could not be. */
  address = 0;
  /** Answer from the cache, and keep in it what was read. */
  readCache = true;
  fillCache = true;
  trace: TraceSink | undefined;

  readonly #memory: HardwareMemory;
  readonly #state: UnitState;
  readonly #features: Features;
  readonly #caches: Caches;
  readonly #fetched = new Int32Array(DEVICE.SIZE);

  constructor(memory: HardwareMemory, state: UnitState, features: Features, caches: Caches) {
    this.#memory = memory;
    this.#state = state;
    this.#features = features;
    this.#caches = caches;
    this.words = this.#fetched;
  }

  /** DomainID of the entry found last. */
  get domain(): number {
    return (this.words[this.at + 2] as number) & DOMAIN_MASK;
  }

  /** Find an entry. @returns one of {@link FOUND} @hot */
  find(rid: number): number {
    const { devices } = this.#caches;
    const cached = this.readCache ? devices.lookup(rid, NO_PASID) : -1;
    if (this.trace !== undefined && this.readCache) {
      this.trace.cache('device table cache', cached >= 0, `DeviceID ${hex(rid)}`);
    }
    if (cached < 0) return this.#fetch(rid);
    this.words = devices.words;
    this.at = cached;
    return FOUND.ENTRY;
  }

  #fetch(rid: number): number {
    const words = this.#fetched;
    this.words = words;
    this.at = 0;
    words.fill(0);
    this.address = this.#state.dteAddress(rid);
    if (this.address < 0) return FOUND.OUT_OF_RANGE;
    if (!readDwords(this.#memory, this.address, words, DTE_WORDS)) {
      this.trace?.busError(DTE, this.address);
      return FOUND.ABORT;
    }
    this.trace?.read(DTE, this.address, words.subarray(0, DTE_WORDS), 'device table entry');
    const { guestTables } = this.#state;
    const verdict = judgeDeviceEntry(words, this.#features, guestTables);
    words[DEVICE.VERDICT] = verdict;
    words[DEVICE.INFO] = deviceInfo(words, verdict, guestTables);
    if (this.fillCache) this.#keep(rid);
    return FOUND.ENTRY;
  }

  #keep(rid: number): void {
    const { devices } = this.#caches;
    const at = devices.insert(rid, NO_PASID, this.domain, NO_PASID);
    devices.words.set(this.#fetched, at);
    this.words = devices.words;
    this.at = at;
  }
}
