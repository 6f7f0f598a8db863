import { hi32, lo32 } from '@iommukit/bits';
import {
  IVHD,
  IVRS_HEADER_BYTES,
  type Ivhd,
  type Ivmd,
  type IvrsBlock,
  type IvrsTable,
} from './structures.ts';

/**
 * The bytes of a table, with length and checksum. Reserved bytes are zero; entries of units are
 * written as their `bytes` say.
 *
 * @spec AMD IOMMU 5.2
 */
export const writeIvrs = (table: IvrsTable): Uint8Array => {
  const blocks = table.blocks.map(blockBytes);
  const length = blocks.reduce((sum, block) => sum + block.length, IVRS_HEADER_BYTES);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  putText(bytes, 0, 'IVRS');
  view.setUint32(4, length, true);
  view.setUint8(8, table.revision);
  putText(bytes, 10, table.oemId);
  putText(bytes, 16, table.oemTableId);
  view.setUint32(24, table.oemRevision, true);
  putText(bytes, 28, table.creatorId);
  view.setUint32(32, table.creatorRevision, true);
  view.setUint32(36, table.ivInfo, true);
  let at = IVRS_HEADER_BYTES;
  for (const block of blocks) {
    bytes.set(block, at);
    at += block.length;
  }
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  view.setUint8(9, 256 - (sum % 256));
  return bytes;
};

const putQword = (view: DataView, at: number, value: bigint): void => {
  view.setUint32(at, lo32(value), true);
  view.setUint32(at + 4, hi32(value), true);
};

const putText = (bytes: Uint8Array, at: number, text: string): void => {
  for (let i = 0; i < text.length; i++) bytes[at + i] = text.charCodeAt(i);
};

const blockBytes = (block: IvrsBlock): Uint8Array => {
  if (block.kind === 'RAW') return block.bytes;
  return block.kind === 'IVHD' ? unitBytes(block) : memoryBytes(block);
};

const unitBytes = (unit: Ivhd): Uint8Array => {
  const fixed = unit.type === IVHD.FIXED ? 24 : 40;
  const bytes = new Uint8Array(
    unit.entries.reduce((sum, entry) => sum + entry.bytes.length, fixed),
  );
  const view = new DataView(bytes.buffer);
  view.setUint8(0, unit.type);
  view.setUint8(1, unit.flags);
  view.setUint16(2, bytes.length, true);
  view.setUint16(4, unit.deviceId, true);
  view.setUint16(6, unit.capabilityOffset, true);
  putQword(view, 8, BigInt(unit.base));
  view.setUint16(16, unit.segment, true);
  view.setUint16(18, unit.info, true);
  view.setUint32(20, unit.features, true);
  if (unit.type !== IVHD.FIXED) {
    putQword(view, 24, unit.efr ?? 0n);
    putQword(view, 32, unit.efr2 ?? 0n);
  }
  let at = fixed;
  for (const entry of unit.entries) {
    bytes.set(entry.bytes, at);
    at += entry.bytes.length;
  }
  return bytes;
};

const memoryBytes = (memory: Ivmd): Uint8Array => {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, memory.type);
  view.setUint8(1, memory.flags);
  view.setUint16(2, bytes.length, true);
  view.setUint16(4, memory.deviceId, true);
  view.setUint16(6, memory.endDeviceId, true);
  view.setUint16(8, memory.segment, true);
  putQword(view, 16, memory.start);
  putQword(view, 24, memory.lengthBytes);
  return bytes;
};
