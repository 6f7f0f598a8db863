import { type Machine, PAGE_BYTES, type Process } from '@iommukit/core';
import type { GuestRam } from './guest.ts';

/**
 * Guest RAM: memory that the VMM's process has mapped at `baseVa`, where GPA 0 is. Pages are
 * looked up once; they stay where they are because IOMMU_IOAS_MAP has pinned them.
 */
export const createGuestRam = (
  machine: Machine,
  process: Process,
  baseVa: number,
  sizeBytes: number,
): GuestRam => {
  const frames = Float64Array.from({ length: sizeBytes / PAGE_BYTES }, (_, page) =>
    process.frameAt(baseVa + page * PAGE_BYTES),
  );
  return {
    sizeBytes,
    view(gpa, length) {
      const frame = frames[Math.floor(gpa / PAGE_BYTES)] ?? -1;
      const bytes =
        frame < 0
          ? undefined
          : machine.memory.view(frame * PAGE_BYTES + (gpa % PAGE_BYTES), length);
      if (!bytes) throw new RangeError(`0x${gpa.toString(16)} is not guest RAM`);
      return bytes;
    },
  };
};
