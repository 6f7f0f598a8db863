import { encode, type Kinds, type Layout, type Values } from '@iommukit/bits';

/** What a guest kernel finds: a page of registers, RAM, and a way to be interrupted. */
export interface Platform {
  /** A dword register of the unit by byte offset, u32. */
  readRegister(offset: number): number;
  writeRegister(offset: number, value: number): void;
  /** A dword of RAM by physical byte address, u32. */
  readMemory(address: number): number;
  writeMemory(address: number, value: number): void;
  /** Physical byte address of zeroed pages of 4 KiB, one behind the other. */
  allocPages(count: number): number;
  /** Address to program into the unit, so that its messages call `handler` with their data. */
  routeInterrupt(handler: (data: number) => void): number;
}

/** Most times a status bit is read before the unit counts as dead. */
const MAX_POLLS = 1000;

/** Write the dwords of a structure at a physical address. */
export const writeWords = (platform: Platform, address: number, words: Uint32Array): void => {
  words.forEach((word, index) => {
    platform.writeMemory(address + 4 * index, word);
  });
};

/**
 * Write a table entry so that its present bit, in the first dword, comes last: hardware never sees
 * half an entry.
 */
export const writeEntry = <K extends Kinds>(
  platform: Platform,
  address: number,
  layout: Layout<K>,
  values: Values<K>,
): void => {
  const words = encode(layout, values);
  for (let index = words.length - 1; index >= 0; index--) {
    platform.writeMemory(address + 4 * index, words[index] as number);
  }
};

/** The dwords of a structure in RAM. */
export const readWords = (platform: Platform, address: number, count: number): Uint32Array =>
  Uint32Array.from({ length: count }, (_, index) => platform.readMemory(address + 4 * index));

/** The two dwords of a 64-bit register. */
export const readRegister64 = (platform: Platform, offset: number): Uint32Array =>
  Uint32Array.of(platform.readRegister(offset), platform.readRegister(offset + 4));

/** Write a 64-bit register, its upper half last. */
export const writeRegister64 = (platform: Platform, offset: number, words: Uint32Array): void => {
  platform.writeRegister(offset, words[0] as number);
  platform.writeRegister(offset + 4, words[1] as number);
};

/**
 * Read until `done`.
 *
 * @throws {Error} when it never is
 */
export const poll = (what: string, done: () => boolean): void => {
  for (let polls = 0; polls < MAX_POLLS; polls++) if (done()) return;
  throw new Error(`the unit does not answer: ${what}`);
};
