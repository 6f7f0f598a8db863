/**
 * How a VFIO struct is written down, and its way from and to bytes. Fields have their C names; the
 * values a program sees have the same names in camelCase.
 * @module
 */

/** How the bytes of a field are read, little endian. */
export type FieldKind = 'u8' | 'u16' | 'u32' | 's32' | 'u64';

/** One field: byte offset and kind. */
export interface Field<Kind extends FieldKind = FieldKind> {
  readonly at: number;
  readonly kind: Kind;
}

/** Fields by their C names. */
export type Fields = Readonly<Record<string, Field>>;

/** One struct, or the fixed part in front of its array. */
export interface VfioStruct<F extends Fields = Fields> {
  /** `sizeof`, bytes. */
  readonly size: number;
  /** End of the last field that a caller must know of, bytes; a smaller `argsz` is EINVAL. */
  readonly min: number;
  readonly fields: F;
}

type CamelCase<Name extends string> = Name extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : Name;

/** A decoded struct: 64-bit fields are `bigint`. */
export type ValuesOf<F extends Fields> = {
  -readonly [Name in keyof F as CamelCase<Name & string>]: F[Name]['kind'] extends 'u64'
    ? bigint
    : number;
};

/** Field builders; the offset is in bytes. */
export const u8 = (at: number): Field<'u8'> => ({ at, kind: 'u8' });
export const u16 = (at: number): Field<'u16'> => ({ at, kind: 'u16' });
export const u32 = (at: number): Field<'u32'> => ({ at, kind: 'u32' });
export const s32 = (at: number): Field<'s32'> => ({ at, kind: 's32' });
export const u64 = (at: number): Field<'u64'> => ({ at, kind: 'u64' });

/** Declare a struct; without `min` all of it is mandatory. */
export const struct = <const F extends Fields>(
  size: number,
  fields: F,
  min = size,
): VfioStruct<F> => ({ size, min, fields });

const WIDTH_BYTES = { u8: 1, u16: 2, u32: 4, s32: 4, u64: 8 } as const;

/** Width of a field in bytes. */
export const widthOf = ({ kind }: Field): number => WIDTH_BYTES[kind];

const camelCase = (name: string): string =>
  name.replace(/_([a-z])/g, (_match, letter: string) => letter.toUpperCase());

const readField = (view: DataView, { at, kind }: Field): number | bigint => {
  if (kind === 'u64') return view.getBigUint64(at, true);
  if (kind === 'u8') return view.getUint8(at);
  if (kind === 'u16') return view.getUint16(at, true);
  return kind === 's32' ? view.getInt32(at, true) : view.getUint32(at, true);
};

const writeField = (view: DataView, { at, kind }: Field, value: number | bigint): void => {
  if (kind === 'u64') view.setBigUint64(at, BigInt(value), true);
  else if (kind === 'u8') view.setUint8(at, Number(value));
  else if (kind === 'u16') view.setUint16(at, Number(value), true);
  else view.setUint32(at, Number(value), true);
};

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

interface KeyedField extends Field {
  readonly key: string;
}

const KEYED = new WeakMap<VfioStruct, readonly KeyedField[]>();

/** The fields with their camelCase names; computed once per struct. */
const keyedFields = (spec: VfioStruct): readonly KeyedField[] => {
  let fields = KEYED.get(spec);
  if (!fields) {
    fields = Object.entries(spec.fields).map(([name, field]) => ({
      ...field,
      key: camelCase(name),
    }));
    KEYED.set(spec, fields);
  }
  return fields;
};

/** Decode a struct; fields that `bytes` does not reach are 0. */
export const decode = <F extends Fields>(spec: VfioStruct<F>, bytes: Uint8Array): ValuesOf<F> => {
  const view = viewOf(bytes);
  const values: Record<string, number | bigint> = {};
  for (const field of keyedFields(spec)) {
    const isThere = field.at + widthOf(field) <= bytes.length;
    values[field.key] = isThere ? readField(view, field) : field.kind === 'u64' ? 0n : 0;
  }
  return values as ValuesOf<F>;
};

/** Encode a struct into `size` bytes; fields left out are 0. */
export const encode = <F extends Fields>(
  spec: VfioStruct<F>,
  values: Partial<ValuesOf<F>>,
): Uint8Array => {
  const bytes = new Uint8Array(spec.size);
  const view = viewOf(bytes);
  const given = values as Readonly<Record<string, number | bigint | undefined>>;
  for (const field of keyedFields(spec)) {
    const value = given[field.key];
    if (value !== undefined) writeField(view, field, value);
  }
  return bytes;
};
