/**
 * Little-endian numbers of 1, 2, 4 or 8 bytes in a buffer, and hexadecimal text.
 * @module
 */

/** Store the low `width` bytes of a value; bytes outside the buffer are dropped. */
export const storeLe = (bytes: Uint8Array, at: number, width: number, value: bigint): void => {
  for (let i = 0, rest = value; i < width; i++, rest >>= 8n) {
    if (at + i < bytes.length) bytes[at + i] = Number(rest & 0xffn);
  }
};

/** Read `width` bytes; missing ones are 0. */
export const loadLe = (bytes: Uint8Array, at: number, width: number): bigint => {
  let value = 0n;
  for (let i = width - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[at + i] ?? 0);
  return value;
};

/** `'00ff…'`. */
export const toHex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

/** The bytes of `'00ff…'`. */
export const fromHex = (text: string): Uint8Array =>
  Uint8Array.from({ length: text.length / 2 }, (_unused, index) =>
    Number.parseInt(text.slice(2 * index, 2 * index + 2), 16),
  );
