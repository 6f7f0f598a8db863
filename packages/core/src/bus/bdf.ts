/**
 * PCI requester ids: 16 bits, bus [15:8], device [7:3], function [2:0], as every IOMMU indexes
 * its device tables with them.
 *
 * @spec PCI Express Base 6.0, 2.2.6.2 (transaction descriptor, requester id)
 */

const BDF = /^(?:([0-9a-f]{4}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$/i;

/**
 * Read a requester id.
 *
 * @param text `'00:04.0'` or `'0000:00:04.0'` (only segment 0000), hexadecimal
 * @returns the 16-bit RID
 * @throws {RangeError} when the text is no such name, the segment is not 0 or the device above 1f
 */
export const parseRid = (text: string): number => {
  const match = BDF.exec(text);
  const device = Number.parseInt(match?.[3] ?? '', 16);
  if (!match || device > 0x1f || Number.parseInt(match[1] ?? '0', 16) !== 0) {
    throw new RangeError(
      `'${text}' is not a PCI address: expected bus:device.function of segment 0000 in ` +
        `hexadecimal, such as '00:04.0', device at most 1f, function at most 7`,
    );
  }
  return (Number.parseInt(match[2] ?? '', 16) << 8) | (device << 3) | Number(match[4]);
};

/** The name of a 16-bit RID, `'0000:00:04.0'`. */
export const formatRid = (rid: number): string => {
  const hex = (value: number) => value.toString(16).padStart(2, '0');
  return `0000:${hex((rid >>> 8) & 0xff)}:${hex((rid >>> 3) & 0x1f)}.${rid & 7}`;
};
