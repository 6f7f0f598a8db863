import { encode, type Kinds, type Layout, type Values } from '@iommukit/bits';

/** What a guest's kernel finds: registers of an SMMUv3, and RAM. */
export interface Platform {
  /** A dword register by byte offset, u32. */
  readRegister(offset: number): number;
  writeRegister(offset: number, value: number): void;
  /** A dword of RAM by guest physical byte address, u32. */
  readMemory(address: number): number;
  writeMemory(address: number, value: number): void;
  /** Guest physical address of zeroed pages of 4 KiB, one behind the other. */
  allocPages(count: number): number;
}

/** Write the dwords of a structure. */
export const writeWords = (
  { writeMemory }: Pick<Platform, 'writeMemory'>,
  address: number,
  words: Uint32Array,
): void => {
  words.forEach((word, at) => {
    writeMemory(address + 4 * at, word);
  });
};

/** The dwords of a structure. */
export const readWords = (
  { readMemory }: Pick<Platform, 'readMemory'>,
  address: number,
  count: number,
): Uint32Array => Uint32Array.from({ length: count }, (_, at) => readMemory(address + 4 * at));

/** Write a table entry, its first dword (with the valid bit) last. */
export const writeEntry = <K extends Kinds>(
  platform: Platform,
  address: number,
  layout: Layout<K>,
  values: Values<K>,
): void => {
  const words = encode(layout, values);
  for (let at = words.length - 1; at >= 0; at--) {
    platform.writeMemory(address + 4 * at, words[at] as number);
  }
};
