/**
 * Capability chains: what stands behind the fixed part of an info struct.
 *
 * @linux drivers/vfio/vfio_main.c vfio_info_cap_add, vfio_info_cap_shift
 * @module
 */
import { encode } from './struct.ts';
import { VFIO_STRUCTS } from './structs.ts';

/** One capability: its number, version and all of its bytes, room for the header included. */
export interface Capability {
  readonly id: number;
  readonly version: number;
  /** Bytes from the header on; the header's own 8 bytes are filled in by the chain. */
  readonly body: Uint8Array;
}

/** Capabilities start at multiples of this. */
const ALIGNMENT_BYTES = 8;

const aligned = (bytes: number): number => Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;

/** Bytes that a chain takes. */
export const chainBytes = (capabilities: readonly Capability[]): number =>
  capabilities.reduce((sum, { body }) => sum + aligned(body.length), 0);

/**
 * Encode a chain.
 *
 * @param base offset of its first byte in the whole answer: `next` counts from the answer's start
 */
export const encodeChain = (capabilities: readonly Capability[], base: number): Uint8Array => {
  const bytes = new Uint8Array(chainBytes(capabilities));
  let at = 0;
  capabilities.forEach(({ id, version, body }, index) => {
    const end = at + aligned(body.length);
    const next = index === capabilities.length - 1 ? 0 : base + end;
    bytes.set(body, at);
    bytes.set(encode(VFIO_STRUCTS.info_cap_header, { id, version, next }), at);
    at = end;
  });
  return bytes;
};
