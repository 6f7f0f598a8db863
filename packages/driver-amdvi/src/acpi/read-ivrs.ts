import { u64 } from '@iommukit/bits';
import { readEntries } from './read-entries.ts';
import {
  IVHD,
  IVMD,
  IVRS_HEADER_BYTES,
  type Ivhd,
  type Ivmd,
  type IvrsBlock,
  type IvrsProblem,
  type IvrsTable,
} from './structures.ts';

const SIGNATURE = 'IVRS';
const BLOCK_HEADER_BYTES = 4;
/** Bytes of an IVHD before its entries. */
const IVHD_BYTES = { SHORT: 24, LONG: 40 } as const;
const IVMD_BYTES = 32;

/** What {@link readIvrs} returns: never both without a table and without an error. */
export interface IvrsReading {
  readonly table?: IvrsTable;
  readonly problems: readonly IvrsProblem[];
}

type Report = (severity: IvrsProblem['severity'], rule: string, at: number, text: string) => void;

/**
 * Read a table. Whatever the bytes are: no exception, and every block is looked at once.
 *
 * @param bytes the whole table, as firmware left it in memory
 * @linux drivers/iommu/amd/init.c (init_iommu_all, init_memory_definitions)
 */
export const readIvrs = (bytes: Uint8Array): IvrsReading => {
  const problems: IvrsProblem[] = [];
  const report: Report = (severity, rule, offset, message) => {
    problems.push({ severity, rule, offset, message });
  };
  const length = checkFrame(bytes, report);
  if (length === 0) return { problems };
  const view = new DataView(bytes.buffer, bytes.byteOffset, length);
  const table: IvrsTable = {
    revision: view.getUint8(8),
    oemId: text(view, 10, 6),
    oemTableId: text(view, 16, 8),
    oemRevision: view.getUint32(24, true),
    creatorId: text(view, 28, 4),
    creatorRevision: view.getUint32(32, true),
    ivInfo: view.getUint32(36, true),
    blocks: readBlocks(view, report),
  };
  return { table, problems };
};

/** @returns the table's length; 0 when it is no table */
const checkFrame = (bytes: Uint8Array, report: Report): number => {
  if (bytes.length < IVRS_HEADER_BYTES) {
    report('error', 'table-length', 0, `an IVRS has at least ${IVRS_HEADER_BYTES} bytes`);
    return 0;
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (text(view, 0, 4) !== SIGNATURE) {
    report('error', 'signature', 0, `the signature is '${text(view, 0, 4)}', not '${SIGNATURE}'`);
    return 0;
  }
  const length = view.getUint32(4, true);
  if (length < IVRS_HEADER_BYTES || length > bytes.length) {
    report('error', 'table-length', 4, `length ${length}, of ${bytes.length} bytes given`);
    return 0;
  }
  let sum = 0;
  for (let at = 0; at < length; at++) sum += bytes[at] as number;
  if (sum % 256 !== 0) report('error', 'checksum', 9, `the bytes sum up to ${sum % 256}, not 0`);
  return length;
};

const text = (view: DataView, at: number, length: number): string =>
  String.fromCharCode(...Array.from({ length }, (_, i) => view.getUint8(at + i)));

const readBlocks = (view: DataView, report: Report): IvrsBlock[] => {
  const blocks: IvrsBlock[] = [];
  let at = IVRS_HEADER_BYTES;
  while (at < view.byteLength) {
    const left = view.byteLength - at;
    const length = left < BLOCK_HEADER_BYTES ? 0 : view.getUint16(at + 2, true);
    if (length < BLOCK_HEADER_BYTES || length > left) {
      report('error', 'block-length', at, `a block of ${length} bytes, with ${left} left`);
      return blocks;
    }
    const block = readBlock(new DataView(view.buffer, view.byteOffset + at, length), at, report);
    if (block) blocks.push(block);
    at += length;
  }
  return blocks;
};

const readBlock = (view: DataView, at: number, report: Report): IvrsBlock | undefined => {
  const type = view.getUint8(0);
  const isUnit = Object.values(IVHD).some((one) => one === type);
  const isMemory = Object.values(IVMD).some((one) => one === type);
  const least = isUnit ? unitBytes(type) : isMemory ? IVMD_BYTES : BLOCK_HEADER_BYTES;
  if (view.byteLength < least) {
    report(
      'error',
      'block-length',
      at,
      `block ${hex(type)} has ${view.byteLength} bytes of ${least}`,
    );
    return undefined;
  }
  if (isUnit) return readUnit(view, type, at, report);
  if (isMemory) return readMemory(view, type);
  report('warning', 'block-type', at, `blocks of type ${hex(type)} are not known`);
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  return { kind: 'RAW', type, bytes: bytes.slice() };
};

const qword = (view: DataView, at: number): bigint =>
  u64(view.getUint32(at, true), view.getUint32(at + 4, true));

const hex = (value: number): string => `0x${value.toString(16)}`;

const unitBytes = (type: number): number =>
  type === IVHD.FIXED ? IVHD_BYTES.SHORT : IVHD_BYTES.LONG;

const readUnit = (view: DataView, type: number, at: number, report: Report): Ivhd => {
  const start = unitBytes(type);
  return {
    kind: 'IVHD',
    type,
    flags: view.getUint8(1),
    deviceId: view.getUint16(4, true),
    capabilityOffset: view.getUint16(6, true),
    base: Number(qword(view, 8)),
    segment: view.getUint16(16, true),
    info: view.getUint16(18, true),
    features: view.getUint32(20, true),
    ...(type !== IVHD.FIXED && {
      efr: qword(view, 24),
      efr2: qword(view, 32),
    }),
    entries: readEntries(view, start, (offset, message) => {
      report('error', 'entry-length', at + offset, message);
    }),
  };
};

const readMemory = (view: DataView, type: number): Ivmd => ({
  kind: 'IVMD',
  type,
  flags: view.getUint8(1),
  deviceId: view.getUint16(4, true),
  endDeviceId: view.getUint16(6, true),
  segment: view.getUint16(8, true),
  start: qword(view, 16),
  lengthBytes: qword(view, 24),
});
