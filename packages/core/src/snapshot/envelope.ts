/**
 * The bytes of a snapshot: a header of 32 bytes and the state.
 *
 * Offset 0: `iommukit` in ASCII. 8: u32 version. 12: u32 0. 16: u64 bytes of the state. 24: u32 CRC-32
 * of the state. 28: u32 CRC-32 of the header before it. The state is that of {@link SCENARIO}.
 * @module
 */
import { refuse } from '../errors.ts';
import { ByteReader } from './byte-reader.ts';
import { ByteWriter } from './byte-writer.ts';
import type { Codec } from './codec.ts';
import { crc32 } from './crc32.ts';

/** Version of the layout; a snapshot of another is refused. */
export const SNAPSHOT_VERSION = 1;

/** The call, in refusals. */
export const RESTORE_OP = 'restoreSnapshot';

const MAGIC = Uint8Array.from('iommukit', (char) => char.charCodeAt(0));
const HEADER_BYTES = 32;
const SIZE_AT = 16;
const STATE_CRC_AT = 24;
const HEADER_CRC_AT = 28;

/** The bytes of a value. */
export const encodeState = <T>(codec: Codec<T>, value: T): Uint8Array => {
  const out = new ByteWriter();
  codec.write(out, value);
  return out.finish();
};

/**
 * The value of bytes, all of them.
 *
 * @param op the call that is refused when the bytes are bad
 * @throws {IommuError} EINVAL
 */
export const decodeState = <T>(codec: Codec<T>, bytes: Uint8Array, op: string): T => {
  const from = new ByteReader(bytes, op);
  const value = codec.read(from);
  from.check(from.left === 0, 'bytes are left behind the state', from.left);
  return value;
};

/** Put the header in front of a state. */
export const wrap = (state: Uint8Array): Uint8Array => {
  const bytes = new Uint8Array(HEADER_BYTES + state.length);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  view.setUint32(8, SNAPSHOT_VERSION, true);
  view.setUint32(SIZE_AT, state.length % 2 ** 32, true);
  view.setUint32(SIZE_AT + 4, Math.floor(state.length / 2 ** 32), true);
  view.setUint32(STATE_CRC_AT, crc32(state), true);
  view.setUint32(HEADER_CRC_AT, crc32(bytes.subarray(0, HEADER_CRC_AT)), true);
  bytes.set(state, HEADER_BYTES);
  return bytes;
};

const bad = (rule: string, message: string, value: number | string, accepted: string) =>
  refuse('EINVAL', RESTORE_OP, rule, message, { value, accepted });

/**
 * The state behind a header that is right.
 *
 * @throws {IommuError} EINVAL for bytes that are no snapshot, of another version, cut off or changed
 */
export const unwrap = (bytes: Uint8Array): Uint8Array => {
  if (bytes.length < HEADER_BYTES || MAGIC.some((byte, at) => bytes[at] !== byte)) {
    throw bad('snapshot-magic', 'these bytes are no snapshot', bytes.length, 'saveSnapshot bytes');
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint32(8, true);
  if (version !== SNAPSHOT_VERSION) {
    const message = `the snapshot has version ${version}`;
    throw bad('snapshot-version', message, version, `version ${SNAPSHOT_VERSION}`);
  }
  const headerCrc = crc32(bytes.subarray(0, HEADER_CRC_AT));
  if (view.getUint32(HEADER_CRC_AT, true) !== headerCrc || view.getUint32(12, true) !== 0) {
    throw bad('snapshot-checksum', 'the header was changed', headerCrc, 'unchanged bytes');
  }
  const size = view.getUint32(SIZE_AT + 4, true) * 2 ** 32 + view.getUint32(SIZE_AT, true);
  const state = bytes.subarray(HEADER_BYTES);
  if (state.length !== size) {
    const message = `the snapshot has ${state.length} bytes of state, not ${size}`;
    throw bad('snapshot-size', message, state.length, `${size} bytes behind the header`);
  }
  const stateCrc = crc32(state);
  if (view.getUint32(STATE_CRC_AT, true) !== stateCrc) {
    throw bad('snapshot-checksum', 'the state was changed', stateCrc, 'unchanged bytes');
  }
  return state;
};
