/**
 * Structs in bytes to commands and back, by the table.
 * @module
 */
import { hi32, u64 as joinU64, lo32 } from '@iommukit/bits';
import { camelCase, type FieldSpec, type StructSpec, widthOf } from './struct-table.ts';

/** A decoded struct of any ioctl. */
export type AnyCommand = Record<string, number | bigint | Uint8Array>;

interface CodecField extends FieldSpec {
  readonly key: string;
  /** 64 bits. */
  readonly wide: boolean;
  /** Smallest and first too large value of a narrow field. */
  readonly lowest: number;
  readonly limit: number;
}

const TWO_32 = 2 ** 32;
/** Values with a smaller upper half are exact as a number. */
const EXACT_HI = 2 ** 21;

const FIELDS = new WeakMap<StructSpec, readonly CodecField[]>();

/** The fields of a struct with their camelCase keys; computed once per struct. */
export const fieldsOf = (spec: StructSpec): readonly CodecField[] => {
  let fields = FIELDS.get(spec);
  if (!fields) {
    fields = Object.entries(spec.fields).map(([name, field]) => ({
      ...field,
      key: camelCase(name),
      wide: field.kind === 'u64' || field.kind === 'pointer',
      lowest: field.kind === 's32' ? -(2 ** 31) : 0,
      limit: 2 ** (8 * widthOf(field.kind)),
    }));
    FIELDS.set(spec, fields);
  }
  return fields;
};

const readField = (view: DataView, { at, kind }: FieldSpec): number | bigint => {
  switch (kind) {
    case 'u8':
      return view.getUint8(at);
    case 'u16':
      return view.getUint16(at, true);
    case 'u32':
      return view.getUint32(at, true);
    case 's32':
      return view.getInt32(at, true);
    default: {
      const hi = view.getUint32(at + 4, true);
      const lo = view.getUint32(at, true);
      return hi < EXACT_HI ? hi * TWO_32 + lo : joinU64(lo, hi);
    }
  }
};

const writeField = (view: DataView, { at, kind }: FieldSpec, value: number | bigint): void => {
  switch (kind) {
    case 'u8':
      view.setUint8(at, Number(value));
      break;
    case 'u16':
      view.setUint16(at, Number(value), true);
      break;
    case 'u32':
    case 's32':
      view.setUint32(at, Number(value), true);
      break;
    default:
      view.setUint32(at, typeof value === 'number' ? value : lo32(value), true);
      view.setUint32(at + 4, typeof value === 'number' ? value / TWO_32 : hi32(value), true);
  }
};

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/**
 * Decode a whole struct; `bytes` has at least `spec.size` bytes.
 *
 * @param view of the same bytes, where the caller has one
 */
export const decodeStruct = (
  spec: StructSpec,
  bytes: Uint8Array,
  view = viewOf(bytes),
): AnyCommand => {
  const command: AnyCommand = {};
  for (const field of fieldsOf(spec)) command[field.key] = readField(view, field);
  return command;
};

/**
 * Write every field of a command into `bytes` (program-held bytes in pointer fields stay out).
 *
 * @param view of the same bytes, where the caller has one
 */
export const encodeStruct = (
  spec: StructSpec,
  command: AnyCommand,
  bytes: Uint8Array,
  view = viewOf(bytes),
): void => {
  for (const field of fieldsOf(spec)) {
    const value = command[field.key];
    if (value !== undefined && !(value instanceof Uint8Array)) writeField(view, field, value);
  }
};

/**
 * The command of a typed call: given fields, all others 0.
 *
 * @throws {RangeError} when a value is no integer of the field's width, or no such field exists
 */
export const commandFrom = (
  spec: StructSpec,
  input: Readonly<Record<string, unknown>>,
): AnyCommand => {
  const command: AnyCommand = {};
  let given = 0;
  for (const field of fieldsOf(spec)) {
    const value = input[field.key];
    if (value === undefined) command[field.key] = 0;
    else {
      command[field.key] = checked(field, value);
      given++;
    }
  }
  if (Object.keys(input).length !== given) refuseUnknown(command, input);
  return command;
};

const refuseUnknown = (command: AnyCommand, input: Readonly<Record<string, unknown>>): void => {
  for (const key of Object.keys(input)) {
    if (key in command) continue;
    throw new RangeError(`no field '${key}'; the struct has ${Object.keys(command).join(', ')}`);
  }
};

const U64_END = 1n << 64n;

/** A value as it stands, when it fits into its field. */
const checked = (field: CodecField, value: unknown): number | bigint | Uint8Array => {
  if (typeof value === 'number') {
    const fits = field.wide ? value >= 0 : value >= field.lowest && value < field.limit;
    if (fits && Number.isSafeInteger(value)) return value;
  } else if (typeof value === 'bigint') {
    if (field.wide && value >= 0n && value < U64_END) return value;
    if (value >= field.lowest && value < field.limit) return Number(value);
  } else if (field.kind === 'pointer' && value instanceof Uint8Array) return value;
  throw new RangeError(
    `${field.key} is ${String(value)}: expected an integer of ${8 * widthOf(field.kind)} bits` +
      (field.wide ? ', as bigint from 2^53 on' : ''),
  );
};

/** The answer of a typed call: the fields that the kernel writes. */
export const answerOf = (spec: StructSpec, command: AnyCommand): AnyCommand => {
  const answer: AnyCommand = {};
  for (const { key, role, wide } of fieldsOf(spec)) {
    if (role !== 'out' && role !== 'inout') continue;
    const value = command[key] as number | bigint;
    answer[key] = wide ? BigInt(value) : value;
  }
  return answer;
};
