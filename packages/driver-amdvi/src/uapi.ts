/**
 * Vendor parts of the iommufd uAPI, as user space hands them over. Their words are those of the
 * architecture: `encode(DTE, ...)`, `encode(INVALIDATE_IOMMU_PAGES, ...)` of `@iommukit/bits` make
 * them, `decode(EVENT_ENTRY, ...)` reads them.
 *
 * @linux include/uapi/linux/iommufd.h
 */
import { COMMAND_BYTES } from './spec/commands.ts';
import { DTE_BYTES } from './spec/device-table-entry.ts';
import { EVENT_BYTES } from './spec/events.ts';

export {
  VEVENTQ_TYPE_AMD,
  VIOMMU_INVALIDATE_DATA_AMD,
  VIOMMU_TYPE_AMD,
} from './host/viommu-types.ts';

const WORD_BYTES = 4;

const bytesOf = (words: ArrayLike<number>, bytes: number): Uint8Array => {
  const out = new Uint8Array(bytes);
  const view = new DataView(out.buffer);
  for (let at = 0; at < bytes; at += WORD_BYTES) {
    view.setUint32(at, words[at / WORD_BYTES] ?? 0, true);
  }
  return out;
};

/**
 * `data` of `IOMMU_HWPT_ALLOC` with `IOMMU_HWPT_DATA_AMD_GUEST` (`struct iommu_hwpt_amd_guest`).
 *
 * @param entry u32 words of a guest's device table entry; the first eight count
 * @returns 32 bytes
 */
export const encodeHwptAmdGuest = (entry: ArrayLike<number>): Uint8Array =>
  bytesOf(entry, DTE_BYTES);

/**
 * `data` of `IOMMU_HWPT_INVALIDATE` on a vIOMMU, with `VIOMMU_INVALIDATE_DATA_AMD`.
 *
 * @param commands u32 words of each command, four
 * @returns 16 bytes a command
 */
export const encodeViommuAmdInvalidate = (commands: readonly ArrayLike<number>[]): Uint8Array => {
  const data = new Uint8Array(commands.length * COMMAND_BYTES);
  commands.forEach((command, index) => {
    data.set(bytesOf(command, COMMAND_BYTES), index * COMMAND_BYTES);
  });
  return data;
};

/**
 * The words of an event from a queue of `VEVENTQ_TYPE_AMD`.
 *
 * @param data 16 bytes
 * @returns four u32 words
 */
export const decodeVeventAmd = (data: Uint8Array): Uint32Array => {
  const view = new DataView(data.buffer, data.byteOffset, EVENT_BYTES);
  return Uint32Array.from({ length: EVENT_BYTES / WORD_BYTES }, (_, at) =>
    view.getUint32(at * WORD_BYTES, true),
  );
};
