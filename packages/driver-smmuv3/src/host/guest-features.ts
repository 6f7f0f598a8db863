import { decode } from '@iommukit/bits';
import { IDR0, IDR1, IDR3, IDR5 } from '../spec/registers.ts';

/** What of a unit decides which words of a guest are legal. */
export interface GuestFeatures {
  /** Both stages: nesting is possible. */
  readonly bothStages: boolean;
  /** Bits of a SubstreamID; 0 = none. */
  readonly ssidBits: number;
  readonly asid16: boolean;
  /** lg2 of commands in a queue at most. */
  readonly commandQueueLg2: number;
  readonly ats: boolean;
  /** Range forms of TLBI (IDR3.RIL). */
  readonly ranges: boolean;
  /** 52-bit addresses with 4K and 16K granules (IDR5.DS). */
  readonly wide: boolean;
}

/** @param idr IDR0 to IDR5 */
export const guestFeatures = (idr: readonly number[]): GuestFeatures => {
  const word = (at: number): readonly [number] => [idr[at] ?? 0];
  const idr0 = decode(IDR0, word(0));
  const idr1 = decode(IDR1, word(1));
  const idr3 = decode(IDR3, word(3));
  return {
    bothStages: idr0.S1P === 1 && idr0.S2P === 1,
    ssidBits: idr1.SSIDSIZE,
    commandQueueLg2: idr1.CMDQS,
    asid16: idr0.ASID16 === 1,
    ats: idr0.ATS === 1,
    ranges: idr3.RIL === 1,
    wide: decode(IDR5, word(5)).DS === 1,
  };
};
