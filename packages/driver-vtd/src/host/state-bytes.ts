/**
 * Plain state as bytes and back: JSON, with the contents of typed arrays appended as they are.
 * @module
 */
import { refuse } from '@iommukit/core';

const ARRAYS = {
  Uint8Array,
  Int8Array,
  Uint16Array,
  Int16Array,
  Uint32Array,
  Int32Array,
  Float64Array,
} as const;

type ArrayName = keyof typeof ARRAYS;

interface ArrayPlace {
  readonly $array: ArrayName;
  readonly at: number;
  readonly length: number;
}

/** Version 1 of the format; two u32: this and the bytes of JSON, padded to 8. */
const MAGIC = 0x7664_7401;
const HEADER_BYTES = 8;

const roundUp8 = (bytes: number): number => Math.ceil(bytes / 8) * 8;

const nameOf = (value: object): ArrayName | undefined =>
  (Object.keys(ARRAYS) as ArrayName[]).find((name) => value instanceof ARRAYS[name]);

/** Bytes of a tree of plain objects, arrays, numbers, strings, booleans and typed arrays. */
export const stateToBytes = (state: unknown): Uint8Array => {
  const chunks: Uint8Array[] = [];
  let at = 0;
  const json = JSON.stringify(state, (_key, value: unknown) => {
    const name = typeof value === 'object' && value !== null ? nameOf(value) : undefined;
    if (!name) return value;
    const array = value as Uint8Array;
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    const place: ArrayPlace = { $array: name, at, length: array.length };
    chunks.push(bytes);
    at += roundUp8(bytes.length);
    return place;
  });
  const text = encodeText(json);
  const start = HEADER_BYTES + roundUp8(text.length);
  const out = new Uint8Array(start + at);
  new DataView(out.buffer).setUint32(0, MAGIC, true);
  new DataView(out.buffer).setUint32(4, text.length, true);
  out.set(text, HEADER_BYTES);
  let to = start;
  for (const chunk of chunks) {
    out.set(chunk, to);
    to += roundUp8(chunk.length);
  }
  return out;
};

/**
 * The reverse of {@link stateToBytes}. Typed arrays are copies.
 *
 * @throws {IommuError} EINVAL when the bytes are no state, or are cut off
 */
export const stateFromBytes = (bytes: Uint8Array): unknown => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = bytes.length >= HEADER_BYTES ? view.getUint32(4, true) : 0;
  const start = HEADER_BYTES + roundUp8(length);
  if (length === 0 || view.getUint32(0, true) !== MAGIC || start > bytes.length) throw notState();
  try {
    return JSON.parse(
      decodeText(bytes.subarray(HEADER_BYTES, HEADER_BYTES + length)),
      (_key, value: unknown) => (isPlace(value) ? arrayAt(bytes, start, value) : value),
    );
  } catch {
    throw notState();
  }
};

const isPlace = (value: unknown): value is ArrayPlace =>
  typeof value === 'object' && value !== null && '$array' in value;

const arrayAt = (bytes: Uint8Array, start: number, { $array, at, length }: ArrayPlace) => {
  const kind = ARRAYS[$array];
  const from = start + at;
  const end = from + length * kind.BYTES_PER_ELEMENT;
  if (!(from >= start && end <= bytes.length)) throw new RangeError('array beyond the end');
  return new kind(bytes.slice(from, end).buffer);
};

const notState = () =>
  refuse('EINVAL', 'restore', 'snapshot-format', 'these bytes are no snapshot of a VT-d unit', {
    accepted: 'what snapshot() of such a unit returned, whole',
  });

/** The JSON above is ASCII but for names that users chose; those are escaped. */
const encodeText = (json: string): Uint8Array => {
  const ascii = json.replace(
    /[^\x20-\x7e]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return Uint8Array.from(ascii, (char) => char.charCodeAt(0));
};

const decodeText = (bytes: Uint8Array): string => {
  let text = '';
  for (let at = 0; at < bytes.length; at += 8192) {
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return text;
};
