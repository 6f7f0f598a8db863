/**
 * Device table entries as the hardware checks them once, when it fetches them.
 *
 * @spec AMD IOMMU 2.2.2.1
 */
import { DTE, DTE_MODE, HAD, IO_CTL } from '../spec/device-table-entry.ts';
import { DTE_VERDICT } from './caches.ts';
import type { Features } from './capabilities.ts';

const { V, GV, HAD: HAD_FIELD, MODE, PPR, GPRP, GIOV, SATS, I } = DTE.fields;
const { IO_CTL: IO_CTL_FIELD } = DTE.fields;

/**
 * Judge the low 128 bits of an entry.
 *
 * @param words u32 words of the entry
 * @returns one of {@link DTE_VERDICT}
 */
export const judgeDeviceEntry = (words: ArrayLike<number>, features: Features): number => {
  const w0 = words[0] as number;
  if ((w0 & V.mask) === 0) return DTE_VERDICT.PASS;
  if (hasReservedBits(words, features)) return DTE_VERDICT.RESERVED_BITS;
  const mode = (w0 >>> MODE.shift) & DTE_MODE.RESERVED;
  return mode > features.hostLevels ? DTE_VERDICT.UNSUPPORTED_MODE : DTE_VERDICT.LEGAL;
};

/** Reserved bits and values, and bits of features that the unit does not announce. */
const hasReservedBits = (words: ArrayLike<number>, features: Features): boolean => {
  for (let at = 0; at < 4; at++) {
    const reserved = (DTE.reservedMasks[at] as number) | (ABSENT[at] as number);
    if (((words[at] as number) & reserved) !== 0) return true;
  }
  const had = ((words[0] as number) & HAD_FIELD.mask) >>> HAD_FIELD.shift;
  const ioCtl = ((words[3] as number) & IO_CTL_FIELD.mask) >>> IO_CTL_FIELD.shift;
  if (ioCtl === IO_CTL.RESERVED || had === HAD.RESERVED) return true;
  return (had !== HAD.OFF && !features.accessed) || (had === HAD.ACCESSED_DIRTY && !features.dirty);
};

/** Switches of guest translation, page requests and ATS, which this unit's EFR cannot announce. */
const ABSENT = [0, PPR.mask | GPRP.mask | GIOV.mask | GV.mask, 0, I.mask | SATS.mask];
