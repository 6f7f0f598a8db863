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
}

const FIELDS = new WeakMap<StructSpec, readonly CodecField[]>();

/** The fields of a struct with their camelCase keys; computed once per struct. */
export const fieldsOf = (spec: StructSpec): readonly CodecField[] => {
  let fields = FIELDS.get(spec);
  if (!fields) {
    fields = Object.entries(spec.fields).map(([name, field]) => ({
      ...field,
      key: camelCase(name),
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
    default:
      return joinU64(view.getUint32(at, true), view.getUint32(at + 4, true));
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
      view.setUint32(at, lo32(BigInt(value)), true);
      view.setUint32(at + 4, hi32(BigInt(value)), true);
  }
};

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Decode a whole struct; `bytes` has at least `spec.size` bytes. */
export const decodeStruct = (spec: StructSpec, bytes: Uint8Array): AnyCommand => {
  const view = viewOf(bytes);
  const command: AnyCommand = {};
  for (const field of fieldsOf(spec)) command[field.key] = readField(view, field);
  return command;
};

/** Write every field of a command into `bytes` (program-held bytes in pointer fields stay out). */
export const encodeStruct = (spec: StructSpec, command: AnyCommand, bytes: Uint8Array): void => {
  const view = viewOf(bytes);
  for (const field of fieldsOf(spec)) {
    const value = command[field.key];
    if (value !== undefined && !(value instanceof Uint8Array)) writeField(view, field, value);
  }
};

/** First value above a field's range, or undefined for 64 bits and pointers. */
const limitOf = (field: FieldSpec): number => 2 ** (8 * widthOf(field.kind));

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
  for (const field of fieldsOf(spec)) command[field.key] = normalise(field, input[field.key]);
  for (const key of Object.keys(input)) {
    if (!(key in command)) {
      throw new RangeError(`no field '${key}'; the struct has ${Object.keys(command).join(', ')}`);
    }
  }
  return command;
};

const normalise = (field: CodecField, value: unknown): number | bigint | Uint8Array => {
  const wide = field.kind === 'u64' || field.kind === 'pointer';
  if (value === undefined) return wide ? 0n : 0;
  if (field.kind === 'pointer' && value instanceof Uint8Array) return value;
  const whole =
    typeof value === 'bigint' || (typeof value === 'number' && Number.isSafeInteger(value));
  const lowest = field.kind === 's32' ? -(2 ** 31) : 0;
  if (!whole || value < lowest || (wide ? value >= 1n << 64n : value >= limitOf(field))) {
    throw new RangeError(
      `${field.key} is ${String(value)}: expected an integer of ${8 * widthOf(field.kind)} bits` +
        (wide ? ', as bigint from 2^53 on' : ''),
    );
  }
  return wide ? BigInt(value as number | bigint) : Number(value);
};

/** The answer of a typed call: the fields that the kernel writes. */
export const answerOf = (spec: StructSpec, command: AnyCommand): AnyCommand => {
  const answer: AnyCommand = {};
  for (const { key, role } of fieldsOf(spec)) {
    if (role === 'out' || role === 'inout') answer[key] = command[key] as number | bigint;
  }
  return answer;
};
