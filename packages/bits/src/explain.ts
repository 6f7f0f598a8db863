/**
 * An entry in words for people: one row per field and per gap.
 * @module
 */
import { readBits, readField } from './decode.ts';
import { checkSpan } from './encode.ts';
import { bitRange, type Field, type Layout } from './layout.ts';
import { hex } from './u64.ts';

/** One row of {@link explain}. */
export interface ExplainRow {
  /** `hi:lo`, or the one bit number. */
  readonly bits: string;
  /** Field name; `reserved` for bits that no field declares. */
  readonly name: string;
  /** As {@link decode} gives it. */
  readonly value: number | bigint;
  /** The value in hexadecimal. */
  readonly text: string;
  /** Name of an enumeration's code; absent when the specification defines none for the value. */
  readonly symbol?: string;
  /** Meaning in one line. */
  readonly doc: string;
  /** Only on reserved bits (undeclared or `mbz`): whether any of them is set. */
  readonly reservedBitsSet?: boolean;
}

/** A run of bits that is one cell of a diagram or one row of an explanation. */
export interface Span {
  readonly hi: number;
  readonly lo: number;
  /** Absent: no field declares these bits. */
  readonly field?: Field;
}

/** The whole entry from its highest bit down, as specifications print it: fields and gaps. */
export function spansOf(layout: Layout): Span[] {
  const spans: Span[] = [];
  let top = layout.bits - 1;
  for (const field of [...layout.list].sort((a, b) => b.lo - a.lo)) {
    if (field.hi < top) spans.push({ hi: top, lo: field.hi + 1 });
    spans.push({ hi: field.hi, lo: field.lo, field });
    top = field.lo - 1;
  }
  if (top >= 0) spans.push({ hi: top, lo: 0 });
  return spans;
}

function symbolOf(field: Field, value: number | bigint): string | undefined {
  return Object.entries(field.symbols ?? {}).find(([, code]) => code === value)?.[0];
}

function explainSpan({ hi, lo, field }: Span, words: ArrayLike<number>, at: number): ExplainRow {
  const value = field ? readField(field, words, at) : readBits(words, at, hi, lo);
  const symbol = field && symbolOf(field, value);
  const reserved = field === undefined || field.kind === 'mbz';
  return {
    bits: bitRange(hi, lo),
    name: field?.name ?? 'reserved',
    value,
    text: hex(value),
    ...(symbol !== undefined && { symbol }),
    doc: field?.doc || (reserved ? 'reserved, must be zero' : ''),
    ...(reserved && { reservedBitsSet: value !== 0 && value !== 0n }),
  };
}

/**
 * The entry as rows, highest bits first: every field, and every run of undeclared bits.
 * @param words u32 words, signed or unsigned, lowest first
 * @param at index of the entry's first u32 in `words`
 * @throws {RangeError} when the entry does not lie inside `words`
 */
export function explain(layout: Layout, words: ArrayLike<number>, at = 0): ExplainRow[] {
  checkSpan(layout, words, at);
  return spansOf(layout).map((span) => explainSpan(span, words, at));
}
