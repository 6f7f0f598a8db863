import type { UnrecoverableFault } from '@iommukit/core';
import { PASID, type Vmm } from './vmm.ts';

/** A guest virtual address that no buffer uses. */
const EVIL_GVA = 0x6660_0000;

/** What became of it. */
export interface BadDma {
  /** What was tried, for people. */
  readonly attempt: string;
  /** Bytes the device could write; 0 when it was stopped. */
  readonly bytesWritten: number;
  /** The fault that the unit recorded, decoded by the host driver. */
  readonly fault: UnrecoverableFault | undefined;
}

/**
 * Let the guest point a page of its own table beyond the end of its RAM, and the device write
 * there. Stage 1 agrees, it is the guest's own; stage 2 must not.
 */
export const tryBadDma = (vmm: Vmm): BadDma => {
  const { guest, endpoint, faults } = vmm;
  const beyond = guest.ram.sizeBytes;
  guest.mapPage(EVIL_GVA, beyond);
  const before = faults.length;
  const bytesWritten = endpoint.dmaWrite(EVIL_GVA, Uint8Array.of(0xde, 0xad), { pasid: PASID });
  return {
    attempt:
      `the guest maps 0x${EVIL_GVA.toString(16)} to 0x${beyond.toString(16)}, ` +
      'just beyond its RAM, and the device writes there',
    bytesWritten,
    fault: faults[before],
  };
};
