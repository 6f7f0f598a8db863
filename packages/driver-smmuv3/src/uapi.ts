import { EVENT_BYTES } from './spec/events.ts';

/**
 * The SMMUv3 structs of the iommufd uAPI, as user space hands them over. Their words are those of
 * the architecture: `encode(STE, ...)`, `encode(TLBI, ...)` of `@iommukit/bits` make them.
 *
 * @linux include/uapi/linux/iommufd.h
 */

const VSTE_WORDS = 4;
const COMMAND_WORDS = 4;
const WORD_BYTES = 4;

const bytesOf = (words: readonly number[]): Uint8Array => {
  const bytes = new Uint8Array(words.length * WORD_BYTES);
  const view = new DataView(bytes.buffer);
  words.forEach((word, at) => {
    view.setUint32(at * WORD_BYTES, word, true);
  });
  return bytes;
};

const firstWords = (words: ArrayLike<number>, count: number): number[] =>
  Array.from({ length: count }, (_, at) => words[at] ?? 0);

/**
 * `data` of `IOMMU_HWPT_ALLOC` with `IOMMU_HWPT_DATA_ARM_SMMUV3` (`struct iommu_hwpt_arm_smmuv3`).
 *
 * @param ste u32 words of a guest's stream table entry; the first four count
 * @returns 16 bytes
 */
export const encodeHwptArmSmmuv3 = (ste: ArrayLike<number>): Uint8Array =>
  bytesOf(firstWords(ste, VSTE_WORDS));

/**
 * `data` of `IOMMU_HWPT_INVALIDATE` with `IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3`
 * (`struct iommu_viommu_arm_smmuv3_invalidate`).
 *
 * @param commands u32 words of each command, four
 * @returns 16 bytes a command
 */
export const encodeViommuArmSmmuv3Invalidate = (
  commands: readonly ArrayLike<number>[],
): Uint8Array => bytesOf(commands.flatMap((command) => firstWords(command, COMMAND_WORDS)));

/**
 * The record in an event of a `IOMMU_VEVENTQ_TYPE_ARM_SMMUV3` queue (`struct
 * iommu_vevent_arm_smmuv3`), for `decode(EVENT_RECORD, ...)`.
 *
 * @param bytes 32 bytes
 * @returns eight u32 words
 * @throws {RangeError} for fewer bytes
 */
export const decodeVeventArmSmmuv3 = (bytes: Uint8Array): Uint32Array => {
  if (bytes.length < EVENT_BYTES) {
    throw new RangeError(`an event of SMMUv3 has ${EVENT_BYTES} bytes, not ${bytes.length}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Uint32Array.from({ length: EVENT_BYTES / WORD_BYTES }, (_, at) =>
    view.getUint32(at * WORD_BYTES, true),
  );
};
