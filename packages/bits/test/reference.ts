/**
 * The slow obvious reference: an entry is one bigint, a field a slice of it.
 */

/** Replace bits `[hi:lo]` of `entry` by `value`. */
export function setBits(entry: bigint, hi: number, lo: number, value: bigint): bigint {
  let result = entry;
  for (let bit = lo; bit <= hi; bit++) {
    const one = 1n << BigInt(bit);
    const wanted = (value >> BigInt(bit - lo)) & 1n;
    result = wanted === 1n ? result | one : result & ~one;
  }
  return result;
}

/** Bits `[hi:lo]` of `entry`. */
export function getBits(entry: bigint, hi: number, lo: number): bigint {
  let result = 0n;
  for (let bit = hi; bit >= lo; bit--) result = result * 2n + ((entry >> BigInt(bit)) & 1n);
  return result;
}

/** u32 words of an entry, lowest first, by way of its hexadecimal digits. */
export function wordsOf(entry: bigint, words: number): number[] {
  const digits = entry.toString(16).padStart(words * 8, '0');
  const all = digits.match(/.{8}/g) ?? [];
  return all.map((eight) => Number.parseInt(eight, 16)).reverse();
}

/** The entry of u32 words, signed or unsigned, by way of hexadecimal digits. */
export function entryOf(words: ArrayLike<number>): bigint {
  const digits = Array.from(words, (word) => (word >>> 0).toString(16).padStart(8, '0'));
  return BigInt(`0x${digits.reverse().join('')}`);
}
