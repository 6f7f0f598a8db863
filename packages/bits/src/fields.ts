/**
 * Field kinds: what a declaration says about a run of bits. A layout gives them names.
 * @module
 */

/** Run-time kind of a field, as stored in {@link FieldSpec.kind}. */
export type FieldKind = 'flag' | 'uint' | 'addr' | 'enumeration' | 'mbz' | 'ignored';

/** Type of an enumeration field in a layout's type: the union of its symbol names. */
export interface Symbols<S extends string> {
  readonly symbols: S;
}

/**
 * What a layout's type keeps of a field. `'wide'` stands for any field of more than 53 bits, whose
 * values are `bigint`; every other value is a `number`.
 */
export type Kind = 'flag' | 'uint' | 'wide' | 'addr' | 'mbz' | 'ignored' | Symbols<string>;

/** Field names and kinds: the one type parameter of a layout. */
export type Kinds = { readonly [name: string]: Kind };

declare const KIND: unique symbol;

/** An unnamed field: the result of {@link flag}, {@link uint} and the other field functions. */
export interface FieldSpec<K extends Kind = Kind> {
  readonly kind: FieldKind;
  /** Highest bit, inclusive, counted over the whole entry. */
  readonly hi: number;
  /** Lowest bit, inclusive, counted over the whole entry. */
  readonly lo: number;
  /** Meaning in one line; empty when none was given. */
  readonly doc: string;
  /** Symbol names and their codes; enumerations only. */
  readonly symbols?: Readonly<Record<string, number>>;
  /** Only a type, never present at run time. */
  readonly [KIND]?: K;
}

/** Widest field, in bits, whose every value a `number` holds exactly. */
export const NUMBER_BITS = 53;

interface DigitTuples {
  '0': [];
  '1': [0];
  '2': [0, 0];
  '3': [0, 0, 0];
  '4': [0, 0, 0, 0];
  '5': [0, 0, 0, 0, 0];
  '6': [0, 0, 0, 0, 0, 0];
  '7': [0, 0, 0, 0, 0, 0, 0];
  '8': [0, 0, 0, 0, 0, 0, 0, 0];
  '9': [0, 0, 0, 0, 0, 0, 0, 0, 0];
}
type TenTimes<T extends 0[]> = [...T, ...T, ...T, ...T, ...T, ...T, ...T, ...T, ...T, ...T];
type TupleOf<N extends string, T extends 0[] = []> = N extends `${infer D extends
  keyof DigitTuples}${infer Rest}`
  ? TupleOf<Rest, [...TenTimes<T>, ...DigitTuples[D]]>
  : T;

/**
 * `K`, or `'wide'` when `[hi:lo]` has more than 53 bits; both when the bit numbers are not literals.
 * Tuples are built digit by digit, so that a bit number costs the compiler three steps at most.
 */
export type Sized<Hi extends number, Lo extends number, K extends Kind> = number extends Hi | Lo
  ? K | 'wide'
  : TupleOf<`${Hi}`> extends [...TupleOf<`${Lo}`>, ...TupleOf<'53'>, ...0[]]
    ? 'wide'
    : K;

/**
 * One bit.
 * @param bit bit number in the whole entry
 */
export function flag(bit: number, doc = ''): FieldSpec<'flag'> {
  return { kind: 'flag', hi: bit, lo: bit, doc };
}

/**
 * An unsigned integer in bits `[hi:lo]`, both inclusive.
 * Values are `number`, or `bigint` when the field is wider than 53 bits.
 */
export function uint<Hi extends number, Lo extends number>(
  hi: Hi,
  lo: Lo,
  doc = '',
): FieldSpec<Sized<Hi, Lo, 'uint'>> {
  return { kind: 'uint', hi, lo, doc };
}

/**
 * An address whose bits `[hi%64:lo%64]` stand at the same places of the 64-bit word that holds them.
 * Values are byte addresses with the bits below `lo%64` zero: `number` (exact also above 2^53,
 * because those low bits are zero), or `bigint` when the field is wider than 53 bits.
 */
export function addr<Hi extends number, Lo extends number>(
  hi: Hi,
  lo: Lo,
  doc = '',
): FieldSpec<Sized<Hi, Lo, 'addr'>> {
  return { kind: 'addr', hi, lo, doc };
}

/**
 * A code in bits `[hi:lo]` with a name for each value the specification defines.
 * Any value that fits can be encoded by number, only the named ones by symbol.
 */
export function enumeration<const S extends string>(
  hi: number,
  lo: number,
  symbols: Readonly<Record<S, number>>,
  doc = '',
): FieldSpec<Symbols<S>> {
  return { kind: 'enumeration', hi, lo, doc, symbols };
}

/**
 * Reserved bits `[hi:lo]` that the specification names: must be zero.
 * Bits that no field declares are reserved too, so this only adds a name and a doc line.
 */
export function mbz(hi: number, lo: number, doc = ''): FieldSpec<'mbz'> {
  return { kind: 'mbz', hi, lo, doc };
}

/** Bits `[hi:lo]` that hardware ignores: software may keep anything there, so they are not reserved. */
export function ignored<Hi extends number, Lo extends number>(
  hi: Hi,
  lo: Lo,
  doc = '',
): FieldSpec<Sized<Hi, Lo, 'ignored'>> {
  return { kind: 'ignored', hi, lo, doc };
}
