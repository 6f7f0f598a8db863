/**
 * CRC-32 as in IEEE 802.3: reflected, polynomial 0x04c11db7, start and end inverted.
 * @module
 */

const POLYNOMIAL = 0xedb8_8320;
const SLICES = 4;

/** Four tables: the value of a byte that 0 to 3 more bytes follow. */
const makeTables = (): Int32Array[] => {
  const tables = Array.from({ length: SLICES }, () => new Int32Array(256));
  const [first] = tables as [Int32Array];
  for (let byte = 0; byte < 256; byte++) {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1;
    first[byte] = value;
  }
  for (let slice = 1; slice < SLICES; slice++) {
    for (let byte = 0; byte < 256; byte++) {
      const before = (tables[slice - 1] as Int32Array)[byte] as number;
      (tables[slice] as Int32Array)[byte] = (before >>> 8) ^ (first[before & 0xff] as number);
    }
  }
  return tables;
};

const [T0, T1, T2, T3] = /* @__PURE__ */ makeTables() as [
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
];

/** The checksum of bytes, unsigned. */
export const crc32 = (bytes: Uint8Array): number => {
  let crc = -1;
  let at = 0;
  for (const end = bytes.length - 3; at < end; at += 4) {
    crc ^=
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24);
    crc =
      (T3[crc & 0xff] as number) ^
      (T2[(crc >>> 8) & 0xff] as number) ^
      (T1[(crc >>> 16) & 0xff] as number) ^
      (T0[crc >>> 24] as number);
  }
  for (; at < bytes.length; at++) {
    crc = (crc >>> 8) ^ (T0[(crc ^ (bytes[at] as number)) & 0xff] as number);
  }
  return ~crc >>> 0;
};
