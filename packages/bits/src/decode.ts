/**
 * Words into values.
 * @module
 */
import { checkSpan, scaleOf } from './encode.ts';
import { type Kind, type Kinds, NUMBER_BITS } from './fields.ts';
import type { Field, Layout } from './layout.ts';
import { limbsToBigint, toNumber } from './u64.ts';

/** Type of a decoded value. */
export type Value<T extends Kind> = T extends 'wide' ? bigint : number;

/** Decoded values by field name; `mbz` fields are left out, {@link explain} shows them. */
export type Decoded<K extends Kinds> = {
  [N in keyof K as K[N] extends 'mbz' ? never : N]: Value<K[N]>;
};

/** u32 limb `i` of bits `[hi:lo]`, counted from bit `lo`. */
function limb(words: ArrayLike<number>, from: number, hi: number, lo: number, i: number): number {
  const start = lo + i * 32;
  const word = from + (start >> 5);
  const shift = start & 31;
  const bits = Math.min(hi - start + 1, 32);
  const low = (words[word] as number) >>> shift;
  const high = shift + bits > 32 ? (words[word + 1] as number) << (32 - shift) : 0;
  return ((low | high) & (0xffff_ffff >>> (32 - bits))) >>> 0;
}

/** Bits `[hi:lo]` of the entry at u32 index `from`: `number` up to 53 bits, else `bigint`. */
export function readBits(
  words: ArrayLike<number>,
  from: number,
  hi: number,
  lo: number,
): number | bigint {
  const width = hi - lo + 1;
  if (width <= 32) return limb(words, from, hi, lo, 0);
  if (width <= NUMBER_BITS)
    return toNumber(limb(words, from, hi, lo, 0), limb(words, from, hi, lo, 1));
  const limbs = Array.from({ length: Math.ceil(width / 32) }, (_, i) =>
    limb(words, from, hi, lo, i),
  );
  return limbsToBigint(limbs);
}

/** One field's value: an address in bytes, otherwise the plain bits. */
export function readField(field: Field, words: ArrayLike<number>, from: number): number | bigint {
  const value = readBits(words, from, field.hi, field.lo);
  const scale = scaleOf(field);
  if (scale === 0) return value;
  return typeof value === 'bigint' ? value << BigInt(scale) : value * 2 ** scale;
}

/**
 * Every field's value, by name. Reserved bits are not looked at.
 * @param words u32 words, signed or unsigned, lowest first
 * @param at index of the entry's first u32 in `words`
 * @throws {RangeError} when the entry does not lie inside `words`
 */
export function decode<K extends Kinds>(
  layout: Layout<K>,
  words: ArrayLike<number>,
  at = 0,
): Decoded<K> {
  checkSpan(layout as unknown as Layout, words, at);
  const values: Record<string, number | bigint> = {};
  for (const field of layout.list)
    if (field.kind !== 'mbz') values[field.name] = readField(field, words, at);
  return values as Decoded<K>;
}
