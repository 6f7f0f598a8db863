/**
 * Reading a DMAR table, from firmware that may be wrong about anything.
 *
 * @spec VT-d 8
 */
import { hex } from '@iommukit/bits';
import { byteSum, latin1, wordsAt } from './bytes.ts';
import { checkDmar } from './check-dmar.ts';
import {
  DMAR_HEADER,
  DMAR_HEADER_BYTES,
  DMAR_SIGNATURE,
  HEADER_OFFSET,
  readHeader,
} from './header.ts';
import { type DmarProblem, type Report, reporter } from './problems.ts';
import { readStructure, reportReserved } from './read-structure.ts';
import {
  codecOfType,
  type DmarStructure,
  type DmarTable,
  kindName,
  STRUCTURE_HEAD_BYTES,
  structureNamer,
} from './structures.ts';

/** A table that was read, and what is wrong with it. */
export interface DmarReading {
  /** Undefined when the bytes are no DMAR table at all. */
  readonly table: DmarTable | undefined;
  /** Byte offset of each structure of `table`. */
  readonly offsets: readonly number[];
  /**
   * Everything inconsistent. Without one of layer `bytes`, `writeDmar(table)` gives the same bytes
   * again.
   */
  readonly problems: readonly DmarProblem[];
}

/**
 * Read a DMAR table. Never throws: damaged parts are left out and named, whatever can be read is.
 *
 * @param bytes the table, from its signature on
 */
export const readDmar = (bytes: Uint8Array): DmarReading => {
  const problems: DmarProblem[] = [];
  const report = reporter(problems, 'bytes', 'header');
  if (!isDmar(bytes, report)) return { table: undefined, offsets: [], problems };
  const words = wordsAt(bytes, 0, DMAR_HEADER.words);
  const end = tableEnd(bytes, words, report);
  reportReserved(DMAR_HEADER.reservedMasks, words, 0, report);
  const { structures, offsets } = readStructures(bytes, end, problems);
  const table = { ...readHeader(bytes, words), structures };
  return { table, offsets, problems: [...problems, ...checkDmar(table, offsets)] };
};

const isDmar = (bytes: Uint8Array, report: Report): boolean => {
  const signature = latin1(bytes.subarray(0, 4));
  const enough = bytes.length >= DMAR_HEADER_BYTES;
  if (enough && wordsAt(bytes, 0, 1)[0] === DMAR_SIGNATURE) return true;
  if (bytes.length >= 4 && signature !== 'DMAR') {
    report(0, {
      severity: 'error',
      rule: 'signature',
      value: signature,
      message: `the signature is ${JSON.stringify(signature)}, expected "DMAR"`,
    });
  } else {
    report(0, {
      severity: 'error',
      rule: 'header-length',
      value: bytes.length,
      message: `${bytes.length} bytes are no table: the header alone has ${DMAR_HEADER_BYTES}`,
    });
  }
  return false;
};

/** Where the table ends: at its own length, unless there are fewer bytes. */
const tableEnd = (bytes: Uint8Array, words: Uint32Array, report: Report): number => {
  const length = words[1] as number;
  if (length !== bytes.length) {
    const short = length > bytes.length || length < DMAR_HEADER_BYTES;
    report(HEADER_OFFSET.LENGTH, {
      severity: short ? 'error' : 'warning',
      rule: 'table-length',
      value: length,
      message: `the table says it is ${length} bytes long, there are ${bytes.length}`,
    });
  }
  const end = Math.min(Math.max(length, DMAR_HEADER_BYTES), bytes.length);
  const sum = byteSum(bytes.subarray(0, end));
  if (sum !== 0) {
    const checksum = bytes[HEADER_OFFSET.CHECKSUM] as number;
    const right = (checksum - sum) & 0xff;
    report(HEADER_OFFSET.CHECKSUM, {
      severity: 'error',
      rule: 'checksum',
      value: checksum,
      message: `the checksum is ${hex(checksum)}, the bytes ask for ${hex(right)}`,
    });
  }
  return end;
};

interface ReadStructures {
  readonly structures: DmarStructure[];
  readonly offsets: number[];
}

/** A structure with an impossible length ends the table: nothing says where the next one starts. */
const readStructures = (
  bytes: Uint8Array,
  end: number,
  problems: DmarProblem[],
): ReadStructures => {
  const structures: DmarStructure[] = [];
  const offsets: number[] = [];
  const nameOf = structureNamer();
  let at = DMAR_HEADER_BYTES;
  while (at < end) {
    const room = end - at;
    const type = room < 2 ? -1 : wordsOfHead(bytes, at);
    const length = room < STRUCTURE_HEAD_BYTES ? 0 : wordsOfHead(bytes, at + 2);
    const kind = codecOfType(type)?.kind ?? `structure of type ${type}`;
    if (length < STRUCTURE_HEAD_BYTES || length > room) {
      reportLength(reporter(problems, 'bytes', nameOf(kind)), at, length, room);
      break;
    }
    const own: DmarProblem[] = [];
    const structure = readStructure(bytes, at, length, reporter(own, 'bytes', ''));
    const name = nameOf(kindName(structure));
    problems.push(...own.map((problem) => ({ ...problem, structure: name })));
    structures.push(structure);
    offsets.push(at);
    at += length;
  }
  return { structures, offsets };
};

const wordsOfHead = (bytes: Uint8Array, at: number): number =>
  (bytes[at] as number) | ((bytes[at + 1] as number) << 8);

const reportLength = (report: Report, at: number, length: number, room: number): void => {
  const tail = room < STRUCTURE_HEAD_BYTES;
  report(tail ? at : at + 2, {
    severity: 'error',
    rule: 'structure-length',
    value: tail ? room : length,
    message: tail
      ? `${room} bytes are left at the end of the table, a structure has at least ${STRUCTURE_HEAD_BYTES}`
      : `the structure is ${length} bytes long, expected ${STRUCTURE_HEAD_BYTES} to the ${room} ` +
        'that the table has left; nothing behind it can be read',
  });
};
