import { IVHD_ENTRY, type IvhdEntry } from './structures.ts';

const ACPI_FIXED_BYTES = 22;
const FIRST_OF_UNKNOWN_LENGTH = 0x80;

/**
 * Entries of a unit's block. Those of types below 80h have 4, 8, 16 or 32 bytes by their upper
 * bits; of those above, only ACPI devices have a length that is known.
 *
 * @param start byte of the first entry
 * @param report called once, with the byte where reading had to end
 */
export const readEntries = (
  view: DataView,
  start: number,
  report: (offset: number, message: string) => void,
): IvhdEntry[] => {
  const entries: IvhdEntry[] = [];
  let at = start;
  while (at < view.byteLength) {
    const left = view.byteLength - at;
    const length = lengthOf(view, at);
    if (length === 0 || length > left) {
      report(at, `entry 0x${view.getUint8(at).toString(16)} does not end in its block`);
      return entries;
    }
    entries.push(readEntry(new DataView(view.buffer, view.byteOffset + at, length)));
    at += length;
  }
  return entries;
};

/** Bytes of an entry; 0 when that cannot be known. */
const lengthOf = (view: DataView, at: number): number => {
  const type = view.getUint8(at);
  if (type < FIRST_OF_UNKNOWN_LENGTH) return 4 << (type >>> 6);
  if (type !== IVHD_ENTRY.ACPI || at + ACPI_FIXED_BYTES > view.byteLength) return 0;
  return ACPI_FIXED_BYTES + view.getUint8(at + 21);
};

const readEntry = (view: DataView): IvhdEntry => {
  const type = view.getUint8(0);
  return {
    type,
    deviceId: type === IVHD_ENTRY.SPECIAL ? view.getUint16(5, true) : view.getUint16(1, true),
    setting: view.getUint8(3),
    ...details(view, type),
    bytes: new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice(),
  };
};

const details = (view: DataView, type: number): Partial<IvhdEntry> => {
  switch (type) {
    case IVHD_ENTRY.ALIAS:
    case IVHD_ENTRY.ALIAS_RANGE:
      return { aliasId: view.getUint16(5, true) };
    case IVHD_ENTRY.EXT_SELECT:
    case IVHD_ENTRY.EXT_RANGE:
      return { extended: view.getUint32(4, true) };
    case IVHD_ENTRY.SPECIAL:
      return { handle: view.getUint8(4), variety: view.getUint8(7) };
    case IVHD_ENTRY.ACPI:
      return { hid: text(view, 4, 8), uid: text(view, ACPI_FIXED_BYTES, view.getUint8(21)) };
    default:
      return {};
  }
};

/** Up to the first zero byte. */
const text = (view: DataView, at: number, length: number): string => {
  let out = '';
  for (let i = 0; i < length && view.getUint8(at + i) !== 0; i++) {
    out += String.fromCharCode(view.getUint8(at + i));
  }
  return out;
};
