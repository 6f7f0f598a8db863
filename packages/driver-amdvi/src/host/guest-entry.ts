/**
 * `struct iommu_hwpt_amd_guest`: a device table entry as a guest wrote it.
 *
 * @linux include/uapi/linux/iommufd.h, drivers/iommu/amd/nested.c (validate_gdte_nested)
 */
import { decode } from '@iommukit/bits';
import { refuse, type UserBlob } from '@iommukit/core';
import { DTE, DTE_BYTES } from '../spec/device-table-entry.ts';
import type { Capabilities } from './capabilities.ts';

/** `IOMMU_HWPT_DATA_AMD_GUEST`. */
const HWPT_DATA_AMD_GUEST = 3;

const OP = 'IOMMU_HWPT_ALLOC';
const ENTRY_WORDS = DTE_BYTES / 4;
const GLX_RESERVED = 3;
const PASID_BITS_PER_LEVEL = 9;

type Fields = ReturnType<typeof decodeEntry>;

const decodeEntry = (words: Uint32Array) => decode(DTE, words);

/** What the guest wants of its device's requests. */
export const GUEST_MODE = {
  /** V=1, TV=0: nothing gets through. */
  BLOCKED: 0,
  /** V=0, or GV=0 with Mode 0: guest-physical addresses; the parent alone translates. */
  PASS_THROUGH: 1,
  /** GV=1: the guest's tables over the parent. */
  TABLES: 2,
} as const;

/** A guest's entry, checked. */
export interface GuestEntry {
  readonly mode: (typeof GUEST_MODE)[keyof typeof GUEST_MODE];
  /** DomainID by which the guest tags translations. */
  readonly domainId: number;
  readonly read: number;
  readonly write: number;
  readonly pageRequests: number;
  /** Fields that hardware takes over as they are. */
  readonly tables: Readonly<Record<string, number>>;
  /** Number of PASIDs that the GCR3 table reaches; 0 without. */
  readonly pasids: number;
}

/**
 * Copy a guest's entry in and check it: first all that Linux checks, in its order and with its
 * errnos, then what hardware would refuse.
 *
 * @throws {IommuError} EOPNOTSUPP for another data type, or five guest levels on a host with four;
 *   EINVAL for a host table, a GCR3 table at address 0, reserved codes and bits, and features that
 *   the unit lacks; EFAULT
 */
export const readGuestEntry = (caps: Capabilities, userData: UserBlob): GuestEntry => {
  if (userData.type !== HWPT_DATA_AMD_GUEST) {
    throw refuse('EOPNOTSUPP', OP, 'data-type', `data type ${userData.type} is not a guest DTE`, {
      value: userData.type,
      accepted: `IOMMU_HWPT_DATA_AMD_GUEST (${HWPT_DATA_AMD_GUEST})`,
    });
  }
  const bytes = userData.copyIn(HWPT_DATA_AMD_GUEST, DTE_BYTES, DTE_BYTES);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const words = Uint32Array.from({ length: ENTRY_WORDS }, (_, at) => view.getUint32(at * 4, true));
  const fields = decodeEntry(words);
  checkAsLinux(caps, fields);
  checkReserved(words);
  checkFeatures(caps, fields);
  return summary(fields);
};

const bad = (field: string, message: string, value: number, accepted: string) =>
  refuse('EINVAL', OP, `guest-dte-${field}`, message, { value, accepted });

const checkAsLinux = (caps: Capabilities, fields: Fields): void => {
  if (fields.MODE !== 0) throw bad('mode', 'a guest entry has no host table', fields.MODE, '0');
  if (Number(fields.HOST_ROOT) !== 0) {
    throw bad('host-root', 'a guest entry has no host table', Number(fields.HOST_ROOT), '0');
  }
  if (fields.V === 1 && fields.GV === 1 && !hasGcr3(fields)) {
    throw bad('gcr3', 'GV=1 needs a GCR3 table', 0, 'a GCR3 table that is not at address 0');
  }
  const mode = fields.GUEST_PAGING_MODE;
  if (mode > 1) throw bad('paging-mode', `GuestPagingMode ${mode} is reserved`, mode, '0 or 1');
  if (fields.GLX === GLX_RESERVED) throw bad('glx', 'GLX 3 is reserved', GLX_RESERVED, '0 to 2');
  if (mode === 1 && caps.guestLevels === 4) {
    throw refuse('EOPNOTSUPP', OP, 'guest-dte-levels', 'the unit walks guest tables of 4 levels', {
      value: mode,
      accepted: 'GuestPagingMode 0 (EFR.GATS is 0)',
    });
  }
};

const hasGcr3 = (fields: Fields): boolean =>
  fields.GCR3_14_12 !== 0 || fields.GCR3_30_15 !== 0 || fields.GCR3_51_31 !== 0;

const checkReserved = (words: Uint32Array): void => {
  DTE.reservedMasks.forEach((mask, at) => {
    const set = ((words[at] as number) & mask) >>> 0;
    if (set !== 0) throw bad('reserved', `reserved bits of dword ${at} are set`, set, '0 there');
  });
};

const checkFeatures = (caps: Capabilities, fields: Fields): void => {
  const most = caps.gcr3Levels - 1;
  if (fields.GV === 1 && fields.GLX > most) {
    throw bad('glx', 'more GCR3 levels than the unit walks', fields.GLX, `0 to ${most}`);
  }
  if (fields.PPR === 1 && !caps.pageRequests) {
    throw bad('ppr', 'the unit takes no page requests (EFR.PPRSup)', 1, '0');
  }
};

const summary = (fields: Fields): GuestEntry => {
  const mode = modeOf(fields);
  const tables = mode === GUEST_MODE.TABLES;
  return {
    mode,
    domainId: fields.DOMAIN_ID,
    read: fields.V === 1 ? fields.IR : 1,
    write: fields.V === 1 ? fields.IW : 1,
    pageRequests: fields.V === 1 ? fields.PPR : 0,
    pasids: tables ? 2 ** (PASID_BITS_PER_LEVEL * (fields.GLX + 1)) : 0,
    tables: tables ? tableFields(fields) : {},
  };
};

const modeOf = ({ V, TV, GV }: Fields) => {
  if (V === 0) return GUEST_MODE.PASS_THROUGH;
  if (TV === 0) return GUEST_MODE.BLOCKED;
  return GV === 1 ? GUEST_MODE.TABLES : GUEST_MODE.PASS_THROUGH;
};

const tableFields = ({
  GIOV,
  GLX,
  GCR3_14_12,
  GCR3_30_15,
  GCR3_51_31,
  GUEST_PAGING_MODE,
}: Fields) => ({ GV: 1, GIOV, GLX, GCR3_14_12, GCR3_30_15, GCR3_51_31, GUEST_PAGING_MODE });
