/**
 * Values into words.
 * @module
 */
import { type Kind, type Kinds, NUMBER_BITS, type Symbols } from './fields.ts';
import { bitRange, type Field, fieldOf, type Layout } from './layout.ts';
import { bigintToLimbs, hex, splitHi, splitLo } from './u64.ts';

/** What a field of this kind takes: a number or bigint; for an enumeration also a symbol name. */
export type Settable<T extends Kind> = number | bigint | (T extends Symbols<infer S> ? S : never);

/** Values by field name, all optional; `mbz` fields take none. */
export type Values<K extends Kinds> = {
  readonly [N in keyof K as K[N] extends 'mbz' ? never : N]?: Settable<K[N]>;
};

/** Places by which a value stands left of its field: an address keeps its low zero bits. */
export function scaleOf(field: Field): number {
  return field.kind === 'addr' ? field.lo % 64 : 0;
}

function where(layout: Layout, field: Field): string {
  return `${layout.name}.${field.name} [${bitRange(field.hi, field.lo)}]`;
}

function rangeText(field: Field): string {
  const scale = BigInt(scaleOf(field));
  const max = hex(((1n << BigInt(field.width)) - 1n) << scale);
  return scale === 0n ? `0 to ${max}` : `a multiple of ${hex(1n << scale)} up to ${max}`;
}

function refuse(layout: Layout, field: Field, value: unknown): never {
  const shown = typeof value === 'number' || typeof value === 'bigint' ? hex(value) : String(value);
  throw new RangeError(
    `${where(layout, field)}: ${shown} does not fit, expected ${rangeText(field)}`,
  );
}

function codeOf(layout: Layout, field: Field, symbol: string): number {
  const symbols: Readonly<Record<string, number>> = field.symbols ?? {};
  const code = Object.hasOwn(symbols, symbol) ? symbols[symbol] : undefined;
  if (code !== undefined) return code;
  const known = Object.keys(symbols);
  throw new RangeError(
    known.length === 0
      ? `${where(layout, field)}: '${symbol}' is a string, expected ${rangeText(field)}`
      : `${where(layout, field)}: no symbol '${symbol}', expected ${known.join(', ')} or ${rangeText(field)}`,
  );
}

function numberLimbs(layout: Layout, field: Field, value: number): readonly number[] {
  const scaled = value / 2 ** scaleOf(field);
  if (!Number.isSafeInteger(scaled) || scaled < 0) refuse(layout, field, value);
  if (field.width < NUMBER_BITS && scaled >= 2 ** field.width) refuse(layout, field, value);
  return [splitLo(scaled), splitHi(scaled)];
}

function bigintLimbs(layout: Layout, field: Field, value: bigint): ArrayLike<number> {
  const scale = BigInt(scaleOf(field));
  const scaled = value >> scale;
  if (value < 0n || scaled << scale !== value || scaled >> BigInt(field.width) !== 0n)
    refuse(layout, field, value);
  return bigintToLimbs(scaled, Math.ceil(field.width / 32));
}

/** The value as u32 limbs counted from the field's own bit 0, checked against the field's range. */
function limbsOf(layout: Layout, field: Field, value: unknown): ArrayLike<number> {
  if (field.kind === 'mbz')
    throw new RangeError(`${where(layout, field)} is reserved and must stay zero; leave it out`);
  if (typeof value === 'number') return numberLimbs(layout, field, value);
  if (typeof value === 'bigint') return bigintLimbs(layout, field, value);
  if (typeof value === 'string') return numberLimbs(layout, field, codeOf(layout, field, value));
  return refuse(layout, field, value);
}

/** Store limbs into the field's bits and leave the others: one step per u32 the field touches. */
function insert(
  field: Field,
  limbs: ArrayLike<number>,
  words: Uint32Array | Int32Array,
  from: number,
): void {
  for (let i = 0, word = field.word; word <= field.hi >> 5; i++, word++) {
    const here = (limbs[i] ?? 0) << field.shift;
    const carried = field.shift === 0 || i === 0 ? 0 : (limbs[i - 1] ?? 0) >>> (32 - field.shift);
    const mask = field.masks[word] as number;
    words[from + word] = ((words[from + word] as number) & ~mask) | ((here | carried) & mask);
  }
}

/** Refuse an entry that does not lie wholly inside `words`. */
export function checkSpan(layout: Layout, words: ArrayLike<number>, at: number): void {
  if (!Number.isInteger(at) || at < 0 || at + layout.words > words.length)
    throw new RangeError(
      `${layout.name}: ${layout.words} words at index ${at} do not lie inside the ${words.length} given`,
    );
}

/**
 * Replace the named fields of an entry in place and leave every other bit. All values are checked
 * before the first word changes.
 * @param at index of the entry's first u32 in `words`
 * @throws {RangeError} as {@link encode}, and when the entry does not lie inside `words`
 */
export function update<K extends Kinds>(
  layout: Layout<K>,
  words: Uint32Array | Int32Array,
  values: NoInfer<Values<K>>,
  at = 0,
): void {
  const plain = layout as unknown as Layout;
  checkSpan(plain, words, at);
  const changes = Object.entries(values).map(([name, value]) => {
    const field = fieldOf(plain, name);
    return { field, limbs: limbsOf(plain, field, value) };
  });
  for (const { field, limbs } of changes) insert(field, limbs, words, at);
}

/**
 * A fresh entry with the named fields set and every other bit zero.
 * @returns u32 words, lowest first
 * @throws {RangeError} when a name is not a field's, or a value does not fit: not an integer, out of
 * range, an address with bits outside the field, an unknown symbol, any value for an `mbz` field
 */
export function encode<K extends Kinds>(
  layout: Layout<K>,
  values: NoInfer<Values<K>>,
): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(layout.words);
  update<K>(layout, words, values);
  return words;
}
