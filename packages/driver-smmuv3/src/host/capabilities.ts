import { decode } from '@iommukit/bits';
import { refuse } from '@iommukit/core';
import { AIDR, IDR0, IDR1, IDR3, IDR5 } from '../spec/registers.ts';
import type { RegisterFile } from './register-file.ts';

/** Output size codes in bits. */
const ADDRESS_BITS = [32, 36, 40, 42, 44, 48, 52, 52] as const;
/** Widest IPA of 4K tables without 52-bit descriptors. */
const MAX_IPA_BITS = 48;
const IDR_COUNT = 6;
const RID_BITS = 16;

/** What the host half needs to know of a unit. */
export interface Capabilities {
  /** IDR0 to IDR5, then AIDR, for hw_info. */
  readonly idr: readonly number[];
  readonly aidr: number;
  readonly vmidBits: number;
  /** RIDs that are StreamIDs. */
  readonly sidBits: number;
  readonly streamTwoLevel: boolean;
  readonly rangeInvalidation: boolean;
  readonly commandQueueLg2: number;
  readonly eventQueueLg2: number;
  /** Width of an IOVA and of an output address of 4K stage-2 tables. */
  readonly ipaBits: number;
  readonly oaBits: number;
  /** S2PS code for `oaBits`. */
  readonly oaCode: number;
}

/**
 * Read what a unit is.
 *
 * @throws {IommuError} ENODEV for a unit without stage 2, the 4K granule, or MSI
 */
export const readCapabilities = (registers: RegisterFile): Capabilities => {
  const idr = Array.from({ length: IDR_COUNT }, (_, n) => registers.readReg32(4 * n));
  const idr0 = decode(IDR0, [registers.readReg32(IDR0.offset)]);
  const idr1 = decode(IDR1, [registers.readReg32(IDR1.offset)]);
  const idr3 = decode(IDR3, [registers.readReg32(IDR3.offset)]);
  const idr5 = decode(IDR5, [registers.readReg32(IDR5.offset)]);
  need(idr0.S2P === 1, 'stage 2 (IDR0.S2P)');
  need(idr5.GRAN4K === 1, 'the 4K granule (IDR5.GRAN4K)');
  need(idr0.MSI === 1, 'message-signalled interrupts (IDR0.MSI)');
  const oaCode = Math.min(idr5.OAS, 5);
  const oaBits = ADDRESS_BITS[oaCode] as number;
  return {
    idr,
    aidr: registers.readReg32(AIDR.offset),
    vmidBits: idr0.VMID16 === 1 ? 16 : 8,
    sidBits: Math.min(idr1.SIDSIZE, RID_BITS),
    streamTwoLevel: idr0.ST_LEVEL === 1 && idr1.SIDSIZE > 8,
    rangeInvalidation: idr3.RIL === 1,
    commandQueueLg2: Math.min(idr1.CMDQS, 8),
    eventQueueLg2: Math.min(idr1.EVENTQS, 7),
    ipaBits: Math.min(oaBits, MAX_IPA_BITS),
    oaBits,
    oaCode,
  };
};

const need = (satisfied: boolean, what: string): void => {
  if (satisfied) return;
  throw refuse('ENODEV', 'bring-up', 'unit-features', `the unit lacks ${what}`, {
    accepted: 'a unit with stage 2, the 4K granule and MSI',
  });
};
