/**
 * Events of a guest's devices, as the guest would have recorded them.
 *
 * @spec SMMUv3 7.3
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3-iommufd.c (arm_vmaster_report_event)
 */
import { EVENT, EVENT_BYTES, EVENT_RECORD } from '../spec/events.ts';

/** `IOMMU_VEVENTQ_TYPE_ARM_SMMUV3`. */
export const VEVENTQ_TYPE_ARM_SMMUV3 = 1;

/** Events that tell of the guest's own structures. The others tell of the host's. */
const FOR_GUESTS: ReadonlySet<number> = new Set([
  EVENT.C_BAD_STE,
  EVENT.F_STREAM_DISABLED,
  EVENT.C_BAD_SUBSTREAMID,
  EVENT.C_BAD_CD,
  EVENT.F_TRANSLATION,
  EVENT.F_ADDR_SIZE,
  EVENT.F_ACCESS,
  EVENT.F_PERMISSION,
]);
const { CODE, STALL, S2 } = EVENT_RECORD.fields;

/**
 * The record a guest gets for an event of the hardware.
 *
 * @param words eight u32 words
 * @param vsid what the guest calls the stream, 32 bits
 * @returns 32 bytes; undefined when the event is not for guests: another code, a fault of stage 2,
 *   or a stalled transaction, which is a page request
 */
export const veventOf = (words: ArrayLike<number>, vsid: number): Uint8Array | undefined => {
  const code = (words[CODE.word] as number) & CODE.mask;
  if (!FOR_GUESTS.has(code)) return undefined;
  if (((words[STALL.word] as number) & STALL.mask) !== 0) return undefined;
  if (((words[S2.word] as number) & S2.mask) !== 0) return undefined;
  const bytes = new Uint8Array(EVENT_BYTES);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < EVENT_BYTES / 4; at++) {
    view.setUint32(at * 4, (at === 1 ? vsid : (words[at] as number)) >>> 0, true);
  }
  return bytes;
};
