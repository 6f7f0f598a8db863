import { decode } from '@iommukit/bits';
import { EVENT_RECORD } from '../spec/events.ts';
import { SmmuNestedDomain } from './nested-domain.ts';
import { isStall, type PageFaults } from './page-faults.ts';
import type { UnitContext } from './unit-context.ts';

/**
 * Where an event goes besides the listeners of the machine: a stalled transaction to whoever repairs
 * faults, a fault of a guest's own tables to the guest.
 *
 * @param words eight u32 words
 * @returns whether somebody will answer it, so that it is no fault
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_handle_event)
 */
export const takeEvent = (
  unit: UnitContext,
  pageFaults: PageFaults,
  words: Uint32Array,
): boolean => {
  if (isStall(words)) return pageFaults.takeStall(words);
  const device = unit.devices.get(decode(EVENT_RECORD, words).SID);
  if (device?.domain instanceof SmmuNestedDomain) device.domain.reportEvent(device, words);
  return false;
};
