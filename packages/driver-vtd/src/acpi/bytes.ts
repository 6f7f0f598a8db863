/**
 * Bytes of a table as u32 words and as text, one character per byte.
 */

/** `count` little-endian u32 words from byte `offset`, which need not be aligned. */
export const wordsAt = (bytes: Uint8Array, offset: number, count: number): Uint32Array => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Uint32Array.from({ length: count }, (_, i) => view.getUint32(offset + 4 * i, true));
};

/** The little-endian bytes of u32 words. */
export const wordsToBytes = (words: Uint32Array): Uint8Array => {
  const bytes = new Uint8Array(words.length * 4);
  const view = new DataView(bytes.buffer);
  words.forEach((word, i) => {
    view.setUint32(4 * i, word, true);
  });
  return bytes;
};

/** Text of bytes, one character each. */
export const latin1 = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => String.fromCharCode(byte)).join('');

/**
 * Bytes of a text.
 *
 * @param name of the field, for the message
 * @param maxBytes room there is
 * @throws {RangeError} when it is longer than the room, or has characters above U+00FF
 */
export const latin1Bytes = (name: string, text: string, maxBytes: number): Uint8Array => {
  const codes = Array.from(text, (character) => character.codePointAt(0) ?? 0);
  if (codes.length > maxBytes || codes.some((code) => code > 0xff)) {
    throw new RangeError(
      `${name}: '${text}' does not fit, expected at most ${maxBytes} characters of one byte each`,
    );
  }
  return Uint8Array.from(codes);
};

/** Sum of all bytes modulo 256; 0 for a table with the right checksum. */
export const byteSum = (bytes: Uint8Array): number => {
  let sum = 0;
  for (const byte of bytes) sum = (sum + byte) & 0xff;
  return sum;
};
