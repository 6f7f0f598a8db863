/**
 * Writing a DMAR table, for an emulator to hand to its guest.
 *
 * @spec VT-d 8
 */
import { refuse } from '@iommukit/core';
import { byteSum, latin1Bytes, wordsToBytes } from './bytes.ts';
import { writeScope } from './device-scope.ts';
import { DMAR_HEADER_BYTES, type DmarHeader, HEADER_OFFSET, writeHeader } from './header.ts';
import {
  codecOf,
  type DmarStructure,
  type DmarTable,
  fixedBytes,
  type PlacedStructure,
  placeStructures,
  type RawStructure,
  STRUCTURE_HEAD_BYTES,
  structureBytes,
} from './structures.ts';

/** A table to write: everything but structures and address width has a default. */
export type DmarDescription = Pick<DmarTable, 'hostAddressWidthBits' | 'structures'> &
  Partial<DmarHeader>;

/** Most bytes of a structure: its length has 16 bits. */
const MAX_STRUCTURE_BYTES = 0xffff;

/** Header values of a description that leaves them out. */
const DEFAULTS = {
  revision: 1,
  oemId: 'IOMKIT',
  oemTableId: 'IOMMUKIT',
  oemRevision: 1,
  creatorId: 'IKIT',
  creatorRevision: 1,
  interruptRemapping: false,
  x2apicOptOut: false,
  dmaControlOptIn: false,
} as const;

/** The description with defaults filled in: what {@link readDmar} gives back of the bytes. */
export const completeDmar = (description: DmarDescription): DmarTable => ({
  ...DEFAULTS,
  ...description,
});

/**
 * The bytes of a DMAR table, checksum included. Values are written as they are, sensible or not:
 * `checkDmar` says whether a guest can use them.
 *
 * @throws {IommuError} EINVAL, naming structure and field, for a value that does not fit its field
 */
export const writeDmar = (description: DmarDescription): Uint8Array => {
  const table = completeDmar(description);
  const placed = placeStructures(table.structures);
  const parts = placed.map(bytesOf);
  const length = parts.reduce((sum, part) => sum + part.length, DMAR_HEADER_BYTES);
  const bytes = new Uint8Array(length);
  bytes.set(fitting('header', () => writeHeader(table, length)));
  placed.forEach(({ offset }, index) => {
    bytes.set(parts[index] as Uint8Array, offset);
  });
  bytes[HEADER_OFFSET.CHECKSUM] = -byteSum(bytes) & 0xff;
  return bytes;
};

const bytesOf = ({ structure, name }: PlacedStructure): Uint8Array => {
  const length = structureBytes(structure);
  if (length > MAX_STRUCTURE_BYTES) {
    throw refuse('EINVAL', 'writeDmar', 'structure-length', `${name} takes ${length} bytes`, {
      value: length,
      accepted: `at most ${MAX_STRUCTURE_BYTES}: split it`,
    });
  }
  return fitting(name, () =>
    structure.kind === 'raw' ? rawBytes(structure) : structureToBytes(structure, length),
  );
};

/** Turn the RangeError of a value that does not fit into a refusal that names the structure. */
const fitting = (name: string, write: () => Uint8Array): Uint8Array => {
  try {
    return write();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw refuse('EINVAL', 'writeDmar', 'field-range', `${name}: ${error.message}`);
  }
};

const rawBytes = ({ type, payload }: RawStructure): Uint8Array => {
  const length = STRUCTURE_HEAD_BYTES + payload.length;
  if (!Number.isInteger(type) || type < 0 || type > 0xffff) {
    throw new RangeError(`type ${type} does not fit, expected 0 to 0xffff`);
  }
  const bytes = new Uint8Array(length);
  bytes.set(wordsToBytes(Uint32Array.of(type + length * 0x1_0000)));
  bytes.set(payload, STRUCTURE_HEAD_BYTES);
  return bytes;
};

const structureToBytes = (
  structure: Exclude<DmarStructure, RawStructure>,
  length: number,
): Uint8Array => {
  const codec = codecOf(structure);
  if (!codec) throw new RangeError(`'${structure.kind}' is no kind of structure`);
  const bytes = new Uint8Array(length);
  bytes.set(wordsToBytes(codec.write(structure, length)));
  let at = fixedBytes(codec);
  if (structure.kind === 'ANDD') bytes.set(nameBytes(structure.objectName), at);
  if (!('scopes' in structure)) return bytes;
  for (const scope of structure.scopes) {
    const part = writeScope(scope);
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
};

const nameBytes = (name: string): Uint8Array => {
  if (name.includes('\0')) throw new RangeError(`the name ${JSON.stringify(name)} contains a NUL`);
  return latin1Bytes('objectName', name, MAX_STRUCTURE_BYTES);
};
