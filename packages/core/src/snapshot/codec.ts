/**
 * Layouts of saved state, declared once: the same declaration writes, reads and types it.
 *
 * Everything is little endian and unaligned. A list is a u32 count and its elements; an optional
 * value a byte 0 or 1 and the value; a choice a byte with the position of its name in the
 * declaration and the value; text is UTF-8 behind a u32 count of bytes.
 * @module
 */
import type { ByteReader } from './byte-reader.ts';
import type { ByteWriter } from './byte-writer.ts';

// Every platform has them, but a package without types of any platform must say so.
declare const TextEncoder: new () => { encode(text: string): Uint8Array };
declare const TextDecoder: new (
  encoding: string,
  options: { readonly fatal: boolean },
) => { decode(bytes: Uint8Array): string };

/** How one kind of value stands in a snapshot. */
export interface Codec<T> {
  /** The least bytes that a value takes. */
  readonly minBytes: number;
  write(out: ByteWriter, value: T): void;
  /** @throws {IommuError} EINVAL for bytes that are no such value */
  read(from: ByteReader): T;
}

/** The type of the values of a codec. */
export type Stored<C> = C extends Codec<infer T> ? T : never;

const number = (
  minBytes: number,
  write: (out: ByteWriter, value: number) => void,
  read: (from: ByteReader) => number,
): Codec<number> => ({ minBytes, write, read });

/** One byte. */
export const u8 = number(
  1,
  (out, value) => out.u8(value),
  (from) => from.u8(),
);
/** Two bytes. */
export const u16 = number(
  2,
  (out, value) => out.u16(value),
  (from) => from.u16(),
);
/** Four bytes. */
export const u32 = number(
  4,
  (out, value) => out.u32(value),
  (from) => from.u32(),
);
/** A safe integer, 8 bytes. */
export const int = number(
  8,
  (out, value) => out.int(value),
  (from) => from.int(),
);
/** A double; for limits, which may be infinite. */
export const f64 = number(
  8,
  (out, value) => out.f64(value),
  (from) => from.f64(),
);
/** A safe integer from 0 up, 8 bytes. */
export const nat = number(
  8,
  (out, value) => out.int(value),
  (from) => {
    const value = from.int();
    from.check(value >= 0, 'a count or address below 0', value);
    return value;
  },
);

/** 64 bits, unsigned. */
export const u64: Codec<bigint> = {
  minBytes: 8,
  write: (out, value) => out.u64(value),
  read: (from) => from.u64(),
};

/** A byte 0 or 1. */
export const bool: Codec<boolean> = {
  minBytes: 1,
  write: (out, value) => out.u8(value ? 1 : 0),
  read: (from) => {
    const value = from.u8();
    from.check(value <= 1, 'neither yes (1) nor no (0)', value);
    return value === 1;
  },
};

/** Bytes behind their count. */
export const blob: Codec<Uint8Array> = {
  minBytes: 4,
  write: (out, value) => {
    out.u32(value.length);
    out.raw(value);
  },
  read: (from) => from.raw(from.count(1)),
};

/** UTF-8 behind its count of bytes. */
export const text: Codec<string> = {
  minBytes: 4,
  write: (out, value) => blob.write(out, new TextEncoder().encode(value)),
  read: (from) => {
    const bytes = blob.read(from);
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    } catch {
      from.check(false, 'text that is no UTF-8');
      return '';
    }
  },
};

/** A typed array: count and elements. */
const array = <A extends { readonly length: number; [index: number]: number }>(
  make: (count: number) => A,
  element: Codec<number>,
): Codec<A> => ({
  minBytes: 4,
  write: (out, value) => {
    out.u32(value.length);
    for (let i = 0; i < value.length; i++) element.write(out, value[i] as number);
  },
  read: (from) => {
    const value = make(from.count(element.minBytes));
    for (let i = 0; i < value.length; i++) value[i] = element.read(from);
    return value;
  },
});

/** Words of 32 bits behind their count. */
export const u32s: Codec<Uint32Array> = array((count) => new Uint32Array(count), u32);
/** The same, signed. */
export const i32s: Codec<Int32Array> = array((count) => new Int32Array(count), u32);
/** Doubles behind their count. */
export const f64s: Codec<Float64Array> = array((count) => new Float64Array(count), f64);

/** Any number of values, in order. */
export const list = <T>(element: Codec<T>): Codec<T[]> => ({
  minBytes: 4,
  write: (out, values) => {
    out.u32(values.length);
    for (const value of values) element.write(out, value);
  },
  read: (from) => {
    const count = from.count(element.minBytes);
    const values: T[] = [];
    for (let i = 0; i < count; i++) values.push(element.read(from));
    return values;
  },
});

/** A value, or undefined. */
export const optional = <T>(inner: Codec<T>): Codec<T | undefined> => ({
  minBytes: 1,
  write: (out, value) => {
    bool.write(out, value !== undefined);
    if (value !== undefined) inner.write(out, value);
  },
  read: (from) => (bool.read(from) ? inner.read(from) : undefined),
});

/** Named fields, in the order of their declaration. */
export const struct = <F extends Record<string, unknown>>(
  fields: {
    readonly [Name in keyof F]: Codec<F[Name]>;
  },
): Codec<F> => {
  const entries = Object.entries(fields) as [string, Codec<unknown>][];
  return {
    minBytes: entries.reduce((sum, [, codec]) => sum + codec.minBytes, 0),
    write: (out, value) => {
      for (const [name, codec] of entries) codec.write(out, value[name]);
    },
    read: (from) => {
      const value: Record<string, unknown> = {};
      for (const [name, codec] of entries) value[name] = codec.read(from);
      return value as F;
    },
  };
};

type Choice<C> = { [Kind in keyof C]: { readonly kind: Kind } & Stored<C[Kind]> }[keyof C];

/** One of several structs; `kind` says which. */
export const oneOf = <C extends Readonly<Record<string, Codec<object>>>>(
  cases: C,
): Codec<Choice<C>> => {
  const kinds = Object.keys(cases);
  const codecs = Object.values(cases);
  return {
    minBytes: 1 + Math.min(...codecs.map(({ minBytes }) => minBytes)),
    write: (out, value) => {
      const at = kinds.indexOf(value.kind as string);
      out.u8(at);
      (codecs[at] as Codec<object>).write(out, value);
    },
    read: (from) => {
      const at = from.u8();
      from.check(at < kinds.length, `no choice of ${kinds.join(', ')}`, at);
      return { kind: kinds[at], ...(codecs[at] as Codec<object>).read(from) } as Choice<C>;
    },
  };
};

/** A struct without fields. */
export const nothing: Codec<object> = { minBytes: 0, write: () => {}, read: () => ({}) };
