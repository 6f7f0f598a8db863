/**
 * How a uAPI struct is written down: fields by their C names, with offset, width and role. Types of
 * commands, typed inputs and outputs are derived from the table.
 * @module
 */

/**
 * What a field is for. `in`: the caller must give it; `opt`: input that may be left 0; `out`: the
 * kernel's answer; `inout`: both; `reserved`: must be zero or is ignored.
 */
export type FieldRole = 'in' | 'opt' | 'out' | 'inout' | 'reserved';

/** How the bytes are read. */
export type FieldKind = 'u8' | 'u16' | 'u32' | 's32' | 'u64' | 'pointer';

/** One field: byte offset, kind, role. */
export interface FieldSpec<Kind extends FieldKind = FieldKind, Role extends FieldRole = FieldRole> {
  readonly at: number;
  readonly kind: Kind;
  readonly role: Role;
}

/** Fields by their C names. */
export type FieldTable = Readonly<Record<string, FieldSpec>>;

/** One ioctl's struct. The `size` field at offset 0 is not listed: the codec owns it. */
export interface StructSpec<Fields extends FieldTable = FieldTable> {
  /** Full ioctl number. */
  readonly ioctl: number;
  /** `sizeof` of the kernel's struct, bytes. */
  readonly size: number;
  /** End of the last mandatory field, bytes; a smaller struct is EINVAL. */
  readonly min: number;
  readonly fields: Fields;
}

/**
 * Memory a call names: an address in the caller's process, or bytes held by the program itself,
 * which typed calls may pass instead. `0` and `0n` are NULL.
 */
export type UserPointer = number | bigint | Uint8Array;

/** Makes fields of one kind; without a role they are `in`. */
interface FieldBuilder<Kind extends FieldKind> {
  (at: number): FieldSpec<Kind, 'in'>;
  <Role extends FieldRole>(at: number, role: Role): FieldSpec<Kind, Role>;
}

const field = <Kind extends FieldKind>(kind: Kind): FieldBuilder<Kind> => {
  const build = (at: number, role: FieldRole = 'in') => ({ at, kind, role });
  return build as FieldBuilder<Kind>;
};

/** Field builders: `u32(4)`, `u64(16, 'out')`. The offset is in bytes. */
export const u8 = field('u8');
export const u16 = field('u16');
export const u32 = field('u32');
export const s32 = field('s32');
export const u64 = field('u64');
export const pointer = field('pointer');

/** Bytes of a field. */
export const widthOf = (kind: FieldKind): number =>
  kind === 'u8' ? 1 : kind === 'u16' ? 2 : kind === 'u64' || kind === 'pointer' ? 8 : 4;

/** `'out_ioas_id'` to `'outIoasId'`; leading underscores go (`'__reserved'` to `'reserved'`). */
export type CamelCase<Name extends string> = Name extends `__${infer Rest}`
  ? CamelCase<Rest>
  : Name extends `${infer Head}_${infer Tail}`
    ? `${Head}${Capitalize<CamelCase<Tail>>}`
    : Name;

/** The run-time side of {@link CamelCase}. */
export const camelCase = (name: string): string =>
  name.replace(/^_+/, '').replace(/_([a-z0-9])/g, (_match, letter: string) => letter.toUpperCase());

type Value<Spec extends FieldSpec> = Spec['kind'] extends 'pointer'
  ? UserPointer
  : Spec['kind'] extends 'u64'
    ? number | bigint
    : number;

type Answer<Spec extends FieldSpec> = Spec['kind'] extends 'u64' ? bigint : Value<Spec>;

type NamesWithRole<Fields extends FieldTable, Role extends FieldRole> = {
  [Name in keyof Fields]: Fields[Name]['role'] extends Role ? Name : never;
}[keyof Fields];

/**
 * A decoded struct: every field, names in camelCase. 64-bit values are a `number` where that is
 * exact: bigint arithmetic would cost more than the mapping itself.
 */
export type CommandOf<Fields extends FieldTable> = {
  -readonly [Name in keyof Fields as CamelCase<Name & string>]: Value<Fields[Name]>;
};

/** What a typed call takes. */
export type InputOf<Fields extends FieldTable> = {
  readonly [Name in NamesWithRole<Fields, 'in'> as CamelCase<Name & string>]: Value<Fields[Name]>;
} & {
  readonly [Name in NamesWithRole<Fields, 'opt' | 'inout'> as CamelCase<Name & string>]?: Value<
    Fields[Name]
  >;
};

/** What a typed call answers; 64-bit values as `bigint`. */
export type OutputOf<Fields extends FieldTable> = {
  readonly [Name in NamesWithRole<Fields, 'out' | 'inout'> as CamelCase<Name & string>]: Answer<
    Fields[Name]
  >;
};

/** Declare a struct. */
export const struct = <const Fields extends FieldTable>(
  ioctl: number,
  size: number,
  min: number,
  fields: Fields,
): StructSpec<Fields> => ({ ioctl, size, min, fields });
