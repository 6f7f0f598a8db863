import { hex, u64 } from '@iommukit/bits';
import { latin1, wordsAt } from './bytes.ts';
import { readScopes } from './device-scope.ts';
import type { Report } from './problems.ts';
import type { StructureCodec, StructureTail } from './structure-codec.ts';
import {
  codecOfType,
  type DmarStructure,
  fixedBytes,
  type RawStructure,
  STRUCTURE_HEAD_BYTES,
} from './structures.ts';

/** High half of the first address that has more than 52 bits. */
const TOO_WIDE_HI = 2 ** 20;
const ADDRESS_BITS = 64;

/**
 * Read one remapping structure; its `length` bytes from `at` are known to be there.
 *
 * @param report told of reserved bits, unusable lengths, and addresses of more than 52 bits
 */
export const readStructure = (
  bytes: Uint8Array,
  at: number,
  length: number,
  report: Report,
): DmarStructure => {
  const type = (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
  const codec = codecOfType(type);
  if (!codec) return rawStructure(bytes, at, length, type);
  const fixed = fixedBytes(codec);
  if (length < fixed) {
    report(at + 2, {
      severity: 'error',
      rule: 'structure-length',
      value: length,
      message: `a ${codec.kind} of ${length} bytes is too short, its fixed fields have ${fixed}`,
    });
    return rawStructure(bytes, at, length, type);
  }
  const words = wordsAt(bytes, at, codec.layout.words);
  reportReserved(codec.layout.reservedMasks, words, at, report);
  reportWideAddresses(codec, words, at, report);
  return codec.read(words, readTail(codec, bytes, at + fixed, at + length, report));
};

const rawStructure = (
  bytes: Uint8Array,
  at: number,
  length: number,
  type: number,
): RawStructure => ({
  kind: 'raw',
  type,
  payload: bytes.slice(at + STRUCTURE_HEAD_BYTES, at + length),
});

/** Report reserved bits that are set, one finding per dword. */
export const reportReserved = (
  masks: readonly number[],
  words: Uint32Array,
  at: number,
  report: Report,
): void => {
  masks.forEach((mask, index) => {
    const set = ((words[index] as number) & mask) >>> 0;
    if (set === 0) return;
    report(at + 4 * index, {
      severity: 'warning',
      rule: 'reserved',
      value: set,
      message: `reserved bits ${hex(set)} of this dword are set, expected 0`,
    });
  });
};

const reportWideAddresses = (
  { layout }: StructureCodec<DmarStructure>,
  words: Uint32Array,
  at: number,
  report: Report,
): void => {
  for (const { name, width, word } of layout.list) {
    if (width !== ADDRESS_BITS) continue;
    const lo = words[word] as number;
    const hi = words[word + 1] as number;
    if (hi < TOO_WIDE_HI) continue;
    report(at + 4 * word, {
      severity: 'error',
      rule: 'address-width',
      value: u64(lo, hi),
      message: `${name} is ${hex(u64(lo, hi))}, an address has at most 52 bits`,
    });
  }
};

const NO_TAIL: StructureTail = { scopes: [], text: '', paddingBytes: 0 };

const readTail = (
  codec: StructureCodec<DmarStructure>,
  bytes: Uint8Array,
  at: number,
  end: number,
  report: Report,
): StructureTail => {
  if (codec.tail === 'scopes') return { ...NO_TAIL, scopes: readScopes(bytes, at, end, report) };
  if (codec.tail === 'text') return { ...NO_TAIL, ...readText(bytes, at, end, report) };
  if (at < end) {
    report(at, {
      severity: 'warning',
      rule: 'structure-length',
      value: end - at,
      message: `${end - at} bytes stand behind the last field of the ${codec.kind}`,
    });
  }
  return NO_TAIL;
};

const readText = (
  bytes: Uint8Array,
  at: number,
  end: number,
  report: Report,
): Pick<StructureTail, 'text' | 'paddingBytes'> => {
  const tail = bytes.subarray(at, end);
  const nul = tail.indexOf(0);
  if (nul < 0) return { text: latin1(tail), paddingBytes: 0 };
  const stray = tail.findIndex((byte, index) => index > nul && byte !== 0);
  if (stray >= 0) {
    const value = tail[stray] as number;
    report(at + stray, {
      severity: 'warning',
      rule: 'name-padding',
      value,
      message: `the byte ${hex(value)} stands behind the NUL that ends the name, expected 0`,
    });
  }
  return { text: latin1(tail.subarray(0, nul)), paddingBytes: tail.length - nul };
};
