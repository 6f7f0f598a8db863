/**
 * Addresses that are no memory: interrupt messages, and the HyperTransport region with its windows
 * for messages and port I/O. Only requests without PASID meet them.
 *
 * @spec AMD IOMMU 2.1.2 (special address ranges), 2.2.2.1 (IntCtl, IoCtl, SysMgt)
 */
import { DTE, INT_CTL, IO_CTL, SYS_MGT } from '../spec/device-table-entry.ts';
import { DEVICE_REQUEST_TYPE } from '../spec/events.ts';

const FIRST_INTERRUPT_PFN = 0xfee00;
const LAST_INTERRUPT_PFN = 0xfeeff;
const FIRST_HT_PFN = 0xfd0_0000;
const LAST_HT_PFN = 0xfff_ffff;

/** Whether a 4 KiB frame is one of FEEx_xxxxh. @hot */
export const isInterruptRange = (pfn: number): boolean =>
  pfn >= FIRST_INTERRUPT_PFN && pfn <= LAST_INTERRUPT_PFN;

/** Whether a 4 KiB frame lies in FD_0000_0000h to FF_FFFF_FFFFh. @hot */
export const isHtRange = (pfn: number): boolean => pfn >= FIRST_HT_PFN && pfn <= LAST_HT_PFN;

/** Whether a naturally aligned page of `frames` 4 KiB frames meets one of the ranges. */
export const touchesSpecialRange = (pfn: number, frames: number, ht: boolean): boolean => {
  const first = pfn - (pfn % frames);
  const last = first + frames - 1;
  const interrupts = first <= LAST_INTERRUPT_PFN && last >= FIRST_INTERRUPT_PFN;
  return interrupts || (ht && first <= LAST_HT_PFN && last >= FIRST_HT_PFN);
};

/** What becomes of a request to a special address. */
export const SPECIAL = {
  /** It goes on unchanged. */
  FORWARD: 0,
  /** It is translated like memory. */
  TRANSLATE: 1,
  /** IO_PAGE_FAULT with PR=0; for interrupt messages with I=1. */
  PAGE_FAULT: 2,
  INTERRUPT_FAULT: 3,
  /** The same, and DTE.IG keeps it out of the log. */
  INTERRUPT_SILENT: 4,
  /** ILLEGAL_DEV_TABLE_ENTRY with I and RZ. */
  INTERRUPT_RESERVED: 5,
  /** INVALID_DEVICE_REQUEST; its Type is added. */
  INVALID: 16,
} as const;

const { V, IV, IG, INT_CTL: INT_CTL_FIELD } = DTE.fields;
const { IO_CTL: IO_CTL_FIELD, SYS_MGT: SYS_MGT_FIELD } = DTE.fields;
const TYPE = DEVICE_REQUEST_TYPE;

const intCtlOf = (words: ArrayLike<number>, at: number): number =>
  ((words[at + INT_CTL_FIELD.word] as number) & INT_CTL_FIELD.mask) >>> INT_CTL_FIELD.shift;

/**
 * FEEx_xxxxh: writes are interrupt messages, reads are invalid. Remapping (IntCtl 2) leaves a message
 * as it is: interrupt tables belong to the interrupt controller's model.
 *
 * @param words device table entry, first dword at `at`
 * @returns one of {@link SPECIAL}
 */
export const interruptRange = (words: ArrayLike<number>, at: number, write: boolean): number => {
  if (!write) return SPECIAL.INVALID + TYPE.READ_IN_INTERRUPT_RANGE;
  const w4 = words[at + IV.word] as number;
  if ((w4 & IV.mask) === 0) return SPECIAL.FORWARD;
  const control = intCtlOf(words, at);
  if (control === INT_CTL.FORWARD || control === INT_CTL.REMAP) return SPECIAL.FORWARD;
  if (control === INT_CTL.RESERVED) return SPECIAL.INTERRUPT_RESERVED;
  return (w4 & IG.mask) !== 0 ? SPECIAL.INTERRUPT_SILENT : SPECIAL.INTERRUPT_FAULT;
};

/** Windows of the HyperTransport region: first 4 KiB frame behind each, ascending. */
const WINDOWS: readonly (readonly [
  end: number,
  judge: (words: ArrayLike<number>, at: number, write: boolean) => number,
])[] = [
  [0xfdf_9000, (words, at, write) => interruptWindow(words, at, write)],
  [0xfdf_9100, () => SPECIAL.PAGE_FAULT], // interrupt acknowledge
  [0xfdf_9200, (words, at, write) => systemManagement(words, at, write)],
  [0xfdf_c000, () => SPECIAL.PAGE_FAULT], // reserved, address translation
  [0xfdf_e000, (words, at) => portIo(words, at)],
  [0x1000_0000, () => SPECIAL.PAGE_FAULT], // configuration, reserved
];

/**
 * FD_0000_0000h to FF_FFFF_FFFFh. The device table entry's controls count when it is valid.
 *
 * @returns one of {@link SPECIAL}
 */
export const htRange = (
  words: ArrayLike<number>,
  at: number,
  pfn: number,
  write: boolean,
): number => {
  if (((words[at] as number) & V.mask) === 0) return SPECIAL.FORWARD;
  for (const [end, judge] of WINDOWS) if (pfn < end) return judge(words, at, write);
  return SPECIAL.PAGE_FAULT;
};

const interruptWindow = (words: ArrayLike<number>, at: number, write: boolean): number => {
  if (!write) return SPECIAL.INVALID + TYPE.READ_IN_INTERRUPT_RANGE;
  const valid = ((words[at + IV.word] as number) & IV.mask) !== 0;
  const blocked = valid && intCtlOf(words, at) === INT_CTL.ABORT;
  return blocked ? SPECIAL.INVALID + TYPE.INTERRUPT_WRITE_BLOCKED : SPECIAL.FORWARD;
};

/** Messages seen as writes are no interrupts, so SysMgt 2 forwards none of them. */
const systemManagement = (words: ArrayLike<number>, at: number, write: boolean): number => {
  const w3 = words[at + SYS_MGT_FIELD.word] as number;
  const control = (w3 & SYS_MGT_FIELD.mask) >>> SYS_MGT_FIELD.shift;
  if (control === SYS_MGT.TRANSLATE) return SPECIAL.TRANSLATE;
  if (!write) return SPECIAL.INVALID + TYPE.SYSTEM_MANAGEMENT_READ;
  if (control === SYS_MGT.FORWARD) return SPECIAL.FORWARD;
  return SPECIAL.INVALID + TYPE.SYSTEM_MANAGEMENT_BLOCKED;
};

/** The reserved code is found by the checks of the whole entry, which come with translation. */
const portIo = (words: ArrayLike<number>, at: number): number => {
  const control =
    ((words[at + IO_CTL_FIELD.word] as number) & IO_CTL_FIELD.mask) >>> IO_CTL_FIELD.shift;
  if (control === IO_CTL.FORWARD) return SPECIAL.FORWARD;
  return control === IO_CTL.ABORT ? SPECIAL.INVALID + TYPE.PORT_IO_BLOCKED : SPECIAL.TRANSLATE;
};
