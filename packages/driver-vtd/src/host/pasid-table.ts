/**
 * PASID directory and PASID tables of a device.
 *
 * @spec VT-d 3.4.4, 9.5, 9.6
 * @linux drivers/iommu/intel/pasid.c
 */
import { encode } from '@iommukit/bits';
import type { HostMemory } from '@iommukit/core';
import { PASID_DIR_ENTRY } from '../spec/pasid-entry.ts';
import type { DeviceState } from './device-state.ts';

const PAGE_BYTES = 4096;
const DIR_ENTRY_BYTES = 8;
const PASID_ENTRY_BYTES = 64;
const ENTRIES_PER_TABLE_LG2 = 6;
const FIRST_PDTS_LG2 = 7;
/** Words of a PASID entry. */
export const PASID_ENTRY_WORDS = 16;

/** A directory and its size. */
export interface PasidDirectory {
  readonly pa: number;
  readonly entries: number;
  /** Field PDTS: lg2 of the entries, less 7. */
  readonly pdts: number;
}

/**
 * Make the directory of a device: at least a page, larger when its PASIDs need more.
 *
 * @param pasidBits width of the PASIDs in use; 0 = only the entry for requests without PASID
 * @throws {IommuError} ENOMEM
 */
export const createPasidDirectory = (memory: HostMemory, pasidBits: number): PasidDirectory => {
  const needed = 2 ** Math.max(0, pasidBits - ENTRIES_PER_TABLE_LG2) * DIR_ENTRY_BYTES;
  const bytes = Math.max(PAGE_BYTES, needed);
  const entries = bytes / DIR_ENTRY_BYTES;
  const pa = memory.alloc(bytes / PAGE_BYTES, 'probe', 'a PASID directory');
  return { pa, entries, pdts: Math.log2(entries) - FIRST_PDTS_LG2 };
};

/**
 * Address of the entry of a PASID, making its table when it is the first one in there.
 *
 * @throws {IommuError} ENOMEM
 */
export const pasidEntryPa = (memory: HostMemory, device: DeviceState, pasid: number): number => {
  const index = pasid >>> ENTRIES_PER_TABLE_LG2;
  let table = device.pasidTables.get(index);
  if (table === undefined) {
    table = memory.alloc(1, 'attach', 'a PASID table');
    device.pasidTables.set(index, table);
    const words = encode(PASID_DIR_ENTRY, { P: 1, SMPTBLPTR: table });
    const pa = device.directoryPa + index * DIR_ENTRY_BYTES;
    memory.store64(pa, words[0] as number, words[1] as number);
  }
  return table + (pasid & (2 ** ENTRIES_PER_TABLE_LG2 - 1)) * PASID_ENTRY_BYTES;
};

/** Give the directory and all tables back; the context entry must be gone from the caches. */
export const freePasidTables = (memory: HostMemory, device: DeviceState): void => {
  for (const table of device.pasidTables.values()) memory.free(table);
  device.pasidTables.clear();
  memory.free(device.directoryPa);
};

/**
 * Store an entry that was absent: everything else first, the 64 bits with P last.
 *
 * @spec VT-d 6.2.2.1, 9.6
 */
export const storePasidEntry = (memory: HostMemory, pa: number, words: Uint32Array): void => {
  for (let at = PASID_ENTRY_WORDS - 2; at >= 0; at -= 2) {
    memory.store64(pa + at * 4, words[at] as number, words[at + 1] as number);
  }
};

/** Make an entry absent and keep its other bits, which hardware may still be reading. */
export const clearPasidPresent = (memory: HostMemory, pa: number, words: Uint32Array): void =>
  memory.store64(pa, ((words[0] as number) & ~1) >>> 0, words[1] as number);

/** Zero an absent entry, once no cache holds it. */
export const wipePasidEntry = (memory: HostMemory, pa: number): void => {
  for (let at = 0; at < PASID_ENTRY_WORDS; at += 2) memory.store64(pa + at * 4, 0, 0);
};
