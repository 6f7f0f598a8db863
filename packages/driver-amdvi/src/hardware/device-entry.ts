/**
 * Device table entries as the hardware checks them once, when it fetches them.
 *
 * @spec AMD IOMMU 2.2.2.1
 */
import { DTE, DTE_MODE, HAD, IO_CTL } from '../spec/device-table-entry.ts';
import { DTE_INFO, DTE_VERDICT } from './caches.ts';
import type { Features } from './capabilities.ts';
import { joinAddress } from './memory.ts';

const { V, TV, GV, GLX, HAD: HAD_FIELD, MODE, PPR, GPRP, GIOV, SATS, I, IR } = DTE.fields;
const { IO_CTL: IO_CTL_FIELD, GUEST_PAGING_MODE: PAGING, HOST_ROOT } = DTE.fields;
const { GCR3_14_12, GCR3_30_15, GCR3_51_31 } = DTE.fields;
const RESERVED_GLX = 3;

/**
 * Judge the low 128 bits of an entry.
 *
 * @param words u32 words of the entry
 * @param guestTables Control.GTEn: GV and its fields count
 * @returns one of {@link DTE_VERDICT}
 */
export const judgeDeviceEntry = (
  words: ArrayLike<number>,
  features: Features,
  guestTables: boolean,
): number => {
  const w0 = words[0] as number;
  if ((w0 & V.mask) === 0) return DTE_VERDICT.PASS;
  if (hasReservedBits(words, features)) return DTE_VERDICT.RESERVED_BITS;
  if (guestTables && hasBadGuestFields(words, features)) return DTE_VERDICT.RESERVED_BITS;
  const mode = modeOf(words, 0);
  return mode > features.hostLevels ? DTE_VERDICT.UNSUPPORTED_MODE : DTE_VERDICT.LEGAL;
};

/** Reserved bits and values, and bits of features that the unit does not announce. */
const hasReservedBits = (words: ArrayLike<number>, features: Features): boolean => {
  for (let at = 0; at < 4; at++) {
    const reserved = (DTE.reservedMasks[at] as number) | absentBits(at, features);
    if (((words[at] as number) & reserved) !== 0) return true;
  }
  const had = ((words[0] as number) & HAD_FIELD.mask) >>> HAD_FIELD.shift;
  const ioCtl = ((words[3] as number) & IO_CTL_FIELD.mask) >>> IO_CTL_FIELD.shift;
  if (ioCtl === IO_CTL.RESERVED || had === HAD.RESERVED) return true;
  return (had !== HAD.OFF && !features.accessed) || (had === HAD.ACCESSED_DIRTY && !features.dirty);
};

/** Switches of features that this unit lacks, by dword. */
const absentBits = (at: number, features: Features): number => {
  if (at === 1) {
    return (
      (features.pageRequests ? 0 : PPR.mask | GPRP.mask) |
      (features.guestIov ? 0 : GIOV.mask) |
      (features.guestTables ? 0 : GV.mask)
    );
  }
  if (at !== 3) return 0;
  return (features.iotlbSup ? 0 : I.mask) | (features.secureAts ? 0 : SATS.mask);
};

/** Level counts of an entry with GV=1 that this unit does not have. */
const hasBadGuestFields = (words: ArrayLike<number>, features: Features): boolean => {
  if (((words[1] as number) & GV.mask) === 0) return false;
  const glx = glxOf(words, 0);
  return (
    glx === RESERVED_GLX || glx > features.glx || guestLevelsOf(words, 0) > features.guestLevels
  );
};

/** What a hit in the IOTLB under an entry needs to know: {@link DTE_INFO}. */
export const deviceInfo = (
  words: ArrayLike<number>,
  verdict: number,
  guestTables: boolean,
): number => {
  if (verdict !== DTE_VERDICT.LEGAL || ((words[0] as number) & TV.mask) === 0) return 0;
  const rights = ((words[1] as number) >>> IR.shift) & DTE_INFO.RIGHTS;
  const guest = guestTables && ((words[1] as number) & GV.mask) !== 0;
  if (guest && ((words[1] as number) & GIOV.mask) !== 0) {
    return rights | DTE_INFO.GUEST | DTE_INFO.GUEST_ZERO;
  }
  const mode = modeOf(words, 0) << DTE_INFO.MODE_SHIFT;
  return rights | mode | (guest ? DTE_INFO.GUEST : 0);
};

const ADDR_LO = 0xffff_f000 | 0;
const ROOT_HI = HOST_ROOT.masks[1] as number;

/** DTE.Mode of the entry at `words[at]`. */
export const modeOf = (words: ArrayLike<number>, at: number): number =>
  ((words[at] as number) >>> MODE.shift) & DTE_MODE.RESERVED;

/** DTE.HAD. */
export const hadOf = (words: ArrayLike<number>, at: number): number =>
  ((words[at] as number) & HAD_FIELD.mask) >>> HAD_FIELD.shift;

/** Host table, byte address. */
export const hostRootOf = (words: ArrayLike<number>, at: number): number =>
  joinAddress((words[at] as number) & ADDR_LO, (words[at + 1] as number) & ROOT_HI);

/** DTE.GLX: GCR3 levels - 1. */
export const glxOf = (words: ArrayLike<number>, at: number): number =>
  ((words[at + 1] as number) & GLX.mask) >>> GLX.shift;

/** Levels of guest tables, by GuestPagingMode: 4, 5, or more for its reserved codes. */
export const guestLevelsOf = (words: ArrayLike<number>, at: number): number =>
  4 + (((words[at + PAGING.word] as number) & PAGING.mask) >>> PAGING.shift);

/** Top GCR3 table, byte address: three fields of the entry. */
export const gcr3RootOf = (words: ArrayLike<number>, at: number): number => {
  const low = ((words[at + 1] as number) & GCR3_14_12.mask) >>> GCR3_14_12.shift;
  const middle = ((words[at + 2] as number) & GCR3_30_15.mask) >>> GCR3_30_15.shift;
  const high = ((words[at + 3] as number) & GCR3_51_31.mask) >>> GCR3_51_31.shift;
  return high * 2 ** 31 + middle * 2 ** 15 + low * 2 ** 12;
};
