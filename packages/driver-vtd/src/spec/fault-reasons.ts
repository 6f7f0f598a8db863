/**
 * Fault reasons: the numbers in FRCD.FR, who is told, and whether FPD silences them.
 *
 * @spec VT-d 7.1.3, tables of fault conditions
 */

/** Fault reason numbers by name. */
export const FAULT_REASON = {
  /** LRT.1: legacy root entry access error. */
  LEGACY_ROOT_ACCESS: 0x08,
  /** LRT.2: legacy root entry not present. */
  LEGACY_ROOT_NOT_PRESENT: 0x01,
  /** LRT.3: legacy root entry: reserved field set. */
  LEGACY_ROOT_RESERVED: 0x0a,
  /** LCT.1: legacy context entry access error. */
  LEGACY_CONTEXT_ACCESS: 0x09,
  /** LCT.2: legacy context entry not present. */
  LEGACY_CONTEXT_NOT_PRESENT: 0x02,
  /** LCT.3: legacy context entry: reserved field set. */
  LEGACY_CONTEXT_RESERVED: 0x0b,
  /** LCT.4: legacy context entry: AW or TT unsupported, or second-stage root inaccessible. */
  LEGACY_CONTEXT_INVALID: 0x03,
  /** LCT.5: legacy context entry: TT blocks translation and translated requests. */
  LEGACY_TT_BLOCKS: 0x0d,
  /** LSS.1: legacy second-stage paging entry access error. */
  LEGACY_PAGING_ACCESS: 0x07,
  /** LSS.2: legacy second-stage paging entry: reserved field set. */
  LEGACY_PAGING_RESERVED: 0x0c,
  /** LGN.1: address beyond the supported width (legacy). */
  LEGACY_ADDRESS_BEYOND: 0x04,
  /** LGN.2: write or atomic without write permission (legacy). */
  LEGACY_WRITE: 0x05,
  /** LGN.3: read or atomic without read permission (legacy). */
  LEGACY_READ: 0x06,
  /** LGN.4: result in the interrupt address range (legacy). */
  LEGACY_INTERRUPT_RANGE: 0x0e,
  /** RTA.1: RTADDR: TTM reserved or unsupported, or SSIRWE with legacy mode. */
  ROOT_TABLE_ADDRESS: 0x30,
  /** RTA.2: request with PASID in legacy mode. */
  LEGACY_WITH_PASID: 0x31,
  /** RTA.3: page request in legacy mode. */
  LEGACY_PAGE_REQUEST: 0x32,
  /** RTA.4: abort-DMA mode. */
  ABORT_DMA: 0x33,
  /** RTA.5: request with PASID asks for execute. */
  EXECUTE_REQUEST: 0x34,
  /** SRT.1: scalable root entry access error. */
  SM_ROOT_ACCESS: 0x38,
  /** SRT.2: scalable root entry: half not present. */
  SM_ROOT_NOT_PRESENT: 0x39,
  /** SRT.3: scalable root entry: reserved field set. */
  SM_ROOT_RESERVED: 0x3a,
  /** SCT.1: scalable context entry access error. */
  SM_CONTEXT_ACCESS: 0x40,
  /** SCT.2: scalable context entry not present. */
  SM_CONTEXT_NOT_PRESENT: 0x41,
  /** SCT.3: scalable context entry: reserved field set. */
  SM_CONTEXT_RESERVED: 0x42,
  /** SCT.4: scalable context entry: PRE without DTE, RID_PASID beyond PDTS, or EPTR without PASIDE. */
  SM_CONTEXT_INVALID: 0x43,
  /** SCT.5: scalable context entry: DTE=0 blocks translation and translated requests. */
  SM_DTE_BLOCKS: 0x44,
  /** SCT.6: scalable context entry: PASIDE=0 blocks requests with PASID. */
  SM_PASIDE_BLOCKS: 0x45,
  /** SCT.7: PASID beyond the directory size. */
  SM_PASID_BEYOND_PDTS: 0x46,
  /** SCT.8: scalable context entry: PRE=0 blocks page requests. */
  SM_PRE_BLOCKS: 0x47,
  /** SCT.9: explicit PASID equals RID_PASID. */
  SM_PASID_IS_RID_PASID: 0x48,
  /** SCT.10: scalable context entry: EPTR=0 blocks translated requests with PASID. */
  SM_EPTR_BLOCKS: 0x49,
  /** SPD.1: PASID directory entry access error. */
  PASID_DIR_ACCESS: 0x50,
  /** SPD.2: PASID directory entry not present. */
  PASID_DIR_NOT_PRESENT: 0x51,
  /** SPD.3: PASID directory entry: reserved field set. */
  PASID_DIR_RESERVED: 0x52,
  /** SPT.1: PASID table entry access error. */
  PASID_ACCESS: 0x58,
  /** SPT.2: PASID table entry not present. */
  PASID_NOT_PRESENT: 0x59,
  /** SPT.3: PASID table entry: reserved field set. */
  PASID_RESERVED: 0x5a,
  /** SPT.4: PASID table entry: AW, PGTT or FSPM unsupported, or nested FSPTPTR out of range. */
  PASID_INVALID: 0x5b,
  /** SPT.5: execute requests are not supported. */
  PASID_EXECUTE: 0x5c,
  /** SPT.6: privileged request with SRE=0. */
  PASID_SUPERVISOR: 0x5d,
  /** SPT.9: translated address above HPTSZ. */
  HPT_ADDRESS_BEYOND: 0x60,
  /** SFS.1: first-stage paging entry access error. */
  FS_ENTRY_ACCESS: 0x70,
  /** SFS.2: first-stage paging entry not present. */
  FS_NOT_PRESENT: 0x71,
  /** SFS.3: first-stage paging entry: reserved field set. */
  FS_RESERVED: 0x72,
  /** SFS.4: access error through FSPTPTR. */
  FS_ROOT_ACCESS: 0x73,
  /** SFS.5: nested: first-stage entry holds an address beyond the second stage. */
  FS_ADDRESS_BEYOND: 0x74,
  /** SFS.6: nested: top first-stage table not accessible in the second stage. */
  FS_ROOT_NO_SS_READ: 0x75,
  /** SFS.7: nested: first-stage table not accessible in the second stage. */
  FS_ENTRY_NO_SS_READ: 0x76,
  /** SFS.8: nested: accessed/dirty update without second-stage write permission. */
  FS_AD_NO_SS_WRITE: 0x77,
  /** SSS.1: second-stage paging entry access error. */
  SS_ENTRY_ACCESS: 0x78,
  /** SSS.2: second-stage paging entry without permission, or none left over all levels. */
  SS_NOT_PRESENT: 0x79,
  /** SSS.3: second-stage paging entry: reserved field set. */
  SS_RESERVED: 0x7a,
  /** SSS.4: access error through SSPTPTR. */
  SS_ROOT_ACCESS: 0x7b,
  /** SSS.5: second-stage accessed/dirty update on a non-snooped walk. */
  SS_AD_NOT_SNOOPED: 0x7c,
  /** SSS.6: second-stage accessed/dirty update failed. */
  SS_AD_FAILED: 0x7d,
  /** SGN.1: address not canonical. */
  NOT_CANONICAL: 0x80,
  /** SGN.2: user request to a supervisor page. */
  USER_ON_SUPERVISOR: 0x81,
  /** SGN.4: pass-through or translated address beyond the host address width. */
  ADDRESS_BEYOND_HAW: 0x83,
  /** SGN.5: address beyond the second-stage width. */
  ADDRESS_BEYOND_SS: 0x84,
  /** SGN.6: write or atomic without write permission. */
  WRITE: 0x85,
  /** SGN.7: read or atomic without read permission. */
  READ: 0x86,
  /** SGN.8: result in the interrupt address range. */
  INTERRUPT_RANGE: 0x87,
  /** SGN.10: PASID beyond ECAP.PSS. */
  PASID_BEYOND_PSS: 0x89,
  /** SFS.9: first-stage accessed/dirty update on a non-snooped walk. */
  FS_AD_NOT_SNOOPED: 0x90,
  /** SFS.10: first-stage accessed/dirty update failed. */
  FS_AD_FAILED: 0x91,
  /** HPT.1: host permission table entry access error. */
  HPT_ACCESS: 0xa0,
  /** HPT.2: host permission table entry: reserved field set. */
  HPT_RESERVED: 0xa1,
  /** HPT.3: host permission table root access error. */
  HPT_ROOT_ACCESS: 0xa2,
  /** HPT.4: host permission table: no permission for a zero-length read. */
  HPT_ZLR: 0xa3,
  /** HPT.5: host permission table: no write permission. */
  HPT_WRITE: 0xa4,
  /** HPT.6: host permission table: no read permission. */
  HPT_READ: 0xa5,
  /** IR.20: interrupt: reserved bits in the request. */
  IR_RESERVED_REQUEST: 0x20,
  /** IR.21: interrupt: index beyond the table. */
  IR_INDEX_BEYOND: 0x21,
  /** IR.22: interrupt: IRTE not present. */
  IR_NOT_PRESENT: 0x22,
  /** IR.23: interrupt: IRTE access error. */
  IR_ACCESS: 0x23,
  /** IR.24: interrupt: IRTE reserved field set. */
  IR_RESERVED: 0x24,
  /** IR.25: interrupt: compatibility format blocked. */
  IR_COMPATIBILITY_BLOCKED: 0x25,
  /** IR.26: interrupt: source-id check failed. */
  IR_SOURCE: 0x26,
  /** IR.27: interrupt: posted descriptor access error. */
  IR_POSTED_ACCESS: 0x27,
  /** IR.28: interrupt: posted descriptor reserved field set. */
  IR_POSTED_RESERVED: 0x28,
  /** IR.29: illegal request without PASID to the interrupt address range. */
  IR_ILLEGAL_REQUEST: 0x29,
  /** IR.2A: interrupt: extended mode required. */
  IR_EIME_REQUIRED: 0x2a,
  /** IR.2B: interrupt: remapping required. */
  IR_REQUIRED: 0x2b,
} as const;

/** Answer to one kind of request when a fault condition holds. */
export type FaultAnswer =
  /** The condition cannot arise for this kind of request. */
  | '-'
  /** Unsupported Request. */
  | 'UR'
  /** Completer Abort. */
  | 'CA'
  /** Success with no permission at all; nothing is recorded. */
  | 'ok0'
  /** Success with the permissions that are left; nothing is recorded. */
  | 'eff'
  /** Page response "invalid request". */
  | 'IR';

/** One row of the fault tables. */
export interface FaultCondition {
  /** Name of the condition in the specification; a leading part stands for its sub-conditions. */
  readonly condition: string;
  /** Number in FRCD.FR. */
  readonly reason: number;
  /** Qualified: silenced by FPD. */
  readonly qualified: boolean;
  readonly untranslated: FaultAnswer;
  readonly translation: FaultAnswer;
  readonly translated: FaultAnswer;
  /** For the last request of a group; others are dropped. */
  readonly pageRequest: FaultAnswer;
  readonly doc: string;
}

function row(
  condition: string,
  reason: number,
  qualified: boolean,
  answers: readonly [FaultAnswer, FaultAnswer, FaultAnswer, FaultAnswer],
  doc: string,
): FaultCondition {
  const [untranslated, translation, translated, pageRequest] = answers;
  return { condition, reason, qualified, untranslated, translation, translated, pageRequest, doc };
}

const R = FAULT_REASON;
const Q = true;
const N = false;

/** All fault conditions, in the order of the specification's tables. */
export const FAULT_CONDITIONS: readonly FaultCondition[] = [
  row('LRT.1', R.LEGACY_ROOT_ACCESS, N, ['UR', 'CA', 'UR', '-'], 'legacy root entry access error'),
  row(
    'LRT.2',
    R.LEGACY_ROOT_NOT_PRESENT,
    N,
    ['UR', 'UR', 'UR', '-'],
    'legacy root entry not present',
  ),
  row(
    'LRT.3',
    R.LEGACY_ROOT_RESERVED,
    N,
    ['UR', 'CA', 'UR', '-'],
    'legacy root entry: reserved field set',
  ),
  row(
    'LCT.1',
    R.LEGACY_CONTEXT_ACCESS,
    N,
    ['UR', 'CA', 'UR', '-'],
    'legacy context entry access error',
  ),
  row(
    'LCT.2',
    R.LEGACY_CONTEXT_NOT_PRESENT,
    Q,
    ['UR', 'UR', 'UR', '-'],
    'legacy context entry not present',
  ),
  row(
    'LCT.3',
    R.LEGACY_CONTEXT_RESERVED,
    Q,
    ['UR', 'CA', 'UR', '-'],
    'legacy context entry: reserved field set',
  ),
  row(
    'LCT.4',
    R.LEGACY_CONTEXT_INVALID,
    Q,
    ['UR', 'CA', 'UR', '-'],
    'legacy context entry: AW or TT unsupported, or second-stage root inaccessible',
  ),
  row(
    'LCT.5',
    R.LEGACY_TT_BLOCKS,
    Q,
    ['-', 'UR', 'UR', '-'],
    'legacy context entry: TT blocks translation and translated requests',
  ),
  row(
    'LSS.1',
    R.LEGACY_PAGING_ACCESS,
    Q,
    ['UR', 'CA', '-', '-'],
    'legacy second-stage paging entry access error',
  ),
  row(
    'LSS.2',
    R.LEGACY_PAGING_RESERVED,
    Q,
    ['UR', 'CA', '-', '-'],
    'legacy second-stage paging entry: reserved field set',
  ),
  row(
    'LGN.1',
    R.LEGACY_ADDRESS_BEYOND,
    Q,
    ['UR', 'ok0', 'UR', '-'],
    'address beyond the supported width (legacy)',
  ),
  row(
    'LGN.2',
    R.LEGACY_WRITE,
    Q,
    ['UR', 'eff', '-', '-'],
    'write or atomic without write permission (legacy)',
  ),
  row(
    'LGN.3',
    R.LEGACY_READ,
    Q,
    ['UR', 'eff', '-', '-'],
    'read or atomic without read permission (legacy)',
  ),
  row(
    'LGN.4',
    R.LEGACY_INTERRUPT_RANGE,
    Q,
    ['UR', 'CA', 'UR', '-'],
    'result in the interrupt address range (legacy)',
  ),
  row(
    'RTA.1',
    R.ROOT_TABLE_ADDRESS,
    N,
    ['UR', 'CA', 'UR', 'IR'],
    'RTADDR: TTM reserved or unsupported, or SSIRWE with legacy mode',
  ),
  row(
    'RTA.2',
    R.LEGACY_WITH_PASID,
    N,
    ['UR', 'UR', 'UR', '-'],
    'request with PASID in legacy mode',
  ),
  row('RTA.3', R.LEGACY_PAGE_REQUEST, N, ['-', '-', '-', 'IR'], 'page request in legacy mode'),
  row('RTA.4', R.ABORT_DMA, N, ['UR', 'UR', 'UR', 'IR'], 'abort-DMA mode'),
  row(
    'RTA.5',
    R.EXECUTE_REQUEST,
    N,
    ['UR', 'UR', 'UR', '-'],
    'request with PASID asks for execute',
  ),
  row('SRT.1', R.SM_ROOT_ACCESS, N, ['UR', 'CA', 'UR', 'IR'], 'scalable root entry access error'),
  row(
    'SRT.2',
    R.SM_ROOT_NOT_PRESENT,
    N,
    ['UR', 'UR', 'UR', 'IR'],
    'scalable root entry: half not present',
  ),
  row(
    'SRT.3',
    R.SM_ROOT_RESERVED,
    N,
    ['UR', 'CA', 'UR', 'IR'],
    'scalable root entry: reserved field set',
  ),
  row(
    'SCT.1',
    R.SM_CONTEXT_ACCESS,
    N,
    ['UR', 'CA', 'UR', 'IR'],
    'scalable context entry access error',
  ),
  row(
    'SCT.2',
    R.SM_CONTEXT_NOT_PRESENT,
    Q,
    ['UR', 'UR', 'UR', 'IR'],
    'scalable context entry not present',
  ),
  row(
    'SCT.3',
    R.SM_CONTEXT_RESERVED,
    Q,
    ['UR', 'CA', 'UR', 'IR'],
    'scalable context entry: reserved field set',
  ),
  row(
    'SCT.4',
    R.SM_CONTEXT_INVALID,
    Q,
    ['UR', 'CA', 'UR', 'IR'],
    'scalable context entry: PRE without DTE, RID_PASID beyond PDTS, or EPTR without PASIDE',
  ),
  row(
    'SCT.5',
    R.SM_DTE_BLOCKS,
    Q,
    ['-', 'UR', 'UR', '-'],
    'scalable context entry: DTE=0 blocks translation and translated requests',
  ),
  row(
    'SCT.6',
    R.SM_PASIDE_BLOCKS,
    Q,
    ['UR', 'UR', '-', 'IR'],
    'scalable context entry: PASIDE=0 blocks requests with PASID',
  ),
  row(
    'SCT.7',
    R.SM_PASID_BEYOND_PDTS,
    Q,
    ['UR', 'UR', 'UR', 'IR'],
    'PASID beyond the directory size',
  ),
  row(
    'SCT.8',
    R.SM_PRE_BLOCKS,
    Q,
    ['-', '-', '-', 'IR'],
    'scalable context entry: PRE=0 blocks page requests',
  ),
  row(
    'SCT.9',
    R.SM_PASID_IS_RID_PASID,
    Q,
    ['UR', 'UR', 'UR', 'IR'],
    'explicit PASID equals RID_PASID',
  ),
  row(
    'SCT.10',
    R.SM_EPTR_BLOCKS,
    Q,
    ['-', '-', 'UR', '-'],
    'scalable context entry: EPTR=0 blocks translated requests with PASID',
  ),
  row(
    'SPD.1',
    R.PASID_DIR_ACCESS,
    N,
    ['UR', 'CA', 'CA', 'IR'],
    'PASID directory entry access error',
  ),
  row(
    'SPD.2',
    R.PASID_DIR_NOT_PRESENT,
    Q,
    ['UR', 'ok0', 'UR', 'IR'],
    'PASID directory entry not present',
  ),
  row(
    'SPD.3',
    R.PASID_DIR_RESERVED,
    Q,
    ['UR', 'CA', 'CA', 'IR'],
    'PASID directory entry: reserved field set',
  ),
  row('SPT.1', R.PASID_ACCESS, N, ['UR', 'CA', 'CA', 'IR'], 'PASID table entry access error'),
  row('SPT.2', R.PASID_NOT_PRESENT, Q, ['UR', 'ok0', 'UR', 'IR'], 'PASID table entry not present'),
  row(
    'SPT.3',
    R.PASID_RESERVED,
    Q,
    ['UR', 'CA', 'CA', 'IR'],
    'PASID table entry: reserved field set',
  ),
  row(
    'SPT.4',
    R.PASID_INVALID,
    Q,
    ['UR', 'CA', 'CA', 'IR'],
    'PASID table entry: AW, PGTT or FSPM unsupported, or nested FSPTPTR out of range',
  ),
  row('SPT.5', R.PASID_EXECUTE, Q, ['UR', 'ok0', '-', '-'], 'execute requests are not supported'),
  row('SPT.6', R.PASID_SUPERVISOR, Q, ['UR', 'ok0', '-', '-'], 'privileged request with SRE=0'),
  row('SPT.9', R.HPT_ADDRESS_BEYOND, Q, ['-', '-', 'UR', '-'], 'translated address above HPTSZ'),
  row(
    'SFS.1',
    R.FS_ENTRY_ACCESS,
    Q,
    ['UR', 'ok0', '-', '-'],
    'first-stage paging entry access error',
  ),
  row(
    'SFS.2',
    R.FS_NOT_PRESENT,
    Q,
    ['UR', 'ok0', '-', '-'],
    'first-stage paging entry not present',
  ),
  row(
    'SFS.3',
    R.FS_RESERVED,
    Q,
    ['UR', 'ok0', '-', '-'],
    'first-stage paging entry: reserved field set',
  ),
  row('SFS.4', R.FS_ROOT_ACCESS, Q, ['UR', 'ok0', '-', '-'], 'access error through FSPTPTR'),
  row(
    'SFS.5',
    R.FS_ADDRESS_BEYOND,
    Q,
    ['UR', 'ok0', '-', '-'],
    'nested: first-stage entry holds an address beyond the second stage',
  ),
  row(
    'SFS.6',
    R.FS_ROOT_NO_SS_READ,
    Q,
    ['UR', 'ok0', '-', '-'],
    'nested: top first-stage table not accessible in the second stage',
  ),
  row(
    'SFS.7',
    R.FS_ENTRY_NO_SS_READ,
    Q,
    ['UR', 'ok0', '-', '-'],
    'nested: first-stage table not accessible in the second stage',
  ),
  row(
    'SFS.8',
    R.FS_AD_NO_SS_WRITE,
    Q,
    ['UR', 'ok0', '-', '-'],
    'nested: accessed/dirty update without second-stage write permission',
  ),
  row(
    'SSS.1',
    R.SS_ENTRY_ACCESS,
    Q,
    ['UR', 'CA', '-', '-'],
    'second-stage paging entry access error',
  ),
  row(
    'SSS.2',
    R.SS_NOT_PRESENT,
    Q,
    ['UR', 'ok0', '-', '-'],
    'second-stage paging entry without permission, or none left over all levels',
  ),
  row(
    'SSS.3',
    R.SS_RESERVED,
    Q,
    ['UR', 'CA', '-', '-'],
    'second-stage paging entry: reserved field set',
  ),
  row('SSS.4', R.SS_ROOT_ACCESS, Q, ['UR', 'CA', '-', '-'], 'access error through SSPTPTR'),
  row(
    'SSS.5',
    R.SS_AD_NOT_SNOOPED,
    Q,
    ['UR', 'CA', '-', '-'],
    'second-stage accessed/dirty update on a non-snooped walk',
  ),
  row(
    'SSS.6',
    R.SS_AD_FAILED,
    Q,
    ['UR', 'CA', '-', '-'],
    'second-stage accessed/dirty update failed',
  ),
  row('SGN.1', R.NOT_CANONICAL, Q, ['UR', 'ok0', '-', '-'], 'address not canonical'),
  row(
    'SGN.2',
    R.USER_ON_SUPERVISOR,
    Q,
    ['UR', 'ok0', '-', '-'],
    'user request to a supervisor page',
  ),
  row(
    'SGN.4',
    R.ADDRESS_BEYOND_HAW,
    Q,
    ['UR', 'ok0', 'UR', '-'],
    'pass-through or translated address beyond the host address width',
  ),
  row(
    'SGN.5',
    R.ADDRESS_BEYOND_SS,
    Q,
    ['UR', 'ok0', '-', '-'],
    'address beyond the second-stage width',
  ),
  row('SGN.6', R.WRITE, Q, ['UR', 'eff', '-', '-'], 'write or atomic without write permission'),
  row('SGN.7', R.READ, Q, ['UR', 'eff', '-', '-'], 'read or atomic without read permission'),
  row(
    'SGN.8',
    R.INTERRUPT_RANGE,
    Q,
    ['UR', 'CA', 'UR', '-'],
    'result in the interrupt address range',
  ),
  row('SGN.10', R.PASID_BEYOND_PSS, Q, ['UR', 'UR', 'UR', '-'], 'PASID beyond ECAP.PSS'),
  row(
    'SFS.9',
    R.FS_AD_NOT_SNOOPED,
    Q,
    ['UR', 'ok0', '-', '-'],
    'first-stage accessed/dirty update on a non-snooped walk',
  ),
  row(
    'SFS.10',
    R.FS_AD_FAILED,
    Q,
    ['UR', 'ok0', '-', '-'],
    'first-stage accessed/dirty update failed',
  ),
  row('HPT.1', R.HPT_ACCESS, Q, ['-', '-', 'CA', '-'], 'host permission table entry access error'),
  row(
    'HPT.2',
    R.HPT_RESERVED,
    Q,
    ['-', '-', 'CA', '-'],
    'host permission table entry: reserved field set',
  ),
  row(
    'HPT.3',
    R.HPT_ROOT_ACCESS,
    Q,
    ['-', '-', 'CA', '-'],
    'host permission table root access error',
  ),
  row(
    'HPT.4',
    R.HPT_ZLR,
    Q,
    ['-', '-', 'UR', '-'],
    'host permission table: no permission for a zero-length read',
  ),
  row('HPT.5', R.HPT_WRITE, Q, ['-', '-', 'UR', '-'], 'host permission table: no write permission'),
  row('HPT.6', R.HPT_READ, Q, ['-', '-', 'UR', '-'], 'host permission table: no read permission'),
  row(
    'IR.20',
    R.IR_RESERVED_REQUEST,
    N,
    ['-', '-', '-', '-'],
    'interrupt: reserved bits in the request',
  ),
  row('IR.21', R.IR_INDEX_BEYOND, N, ['-', '-', '-', '-'], 'interrupt: index beyond the table'),
  row('IR.22', R.IR_NOT_PRESENT, Q, ['-', '-', '-', '-'], 'interrupt: IRTE not present'),
  row('IR.23', R.IR_ACCESS, N, ['-', '-', '-', '-'], 'interrupt: IRTE access error'),
  row('IR.24', R.IR_RESERVED, Q, ['-', '-', '-', '-'], 'interrupt: IRTE reserved field set'),
  row(
    'IR.25',
    R.IR_COMPATIBILITY_BLOCKED,
    N,
    ['-', '-', '-', '-'],
    'interrupt: compatibility format blocked',
  ),
  row('IR.26', R.IR_SOURCE, Q, ['-', '-', '-', '-'], 'interrupt: source-id check failed'),
  row(
    'IR.27',
    R.IR_POSTED_ACCESS,
    Q,
    ['-', '-', '-', '-'],
    'interrupt: posted descriptor access error',
  ),
  row(
    'IR.28',
    R.IR_POSTED_RESERVED,
    Q,
    ['-', '-', '-', '-'],
    'interrupt: posted descriptor reserved field set',
  ),
  row(
    'IR.29',
    R.IR_ILLEGAL_REQUEST,
    N,
    ['UR', '-', '-', '-'],
    'illegal request without PASID to the interrupt address range',
  ),
  row('IR.2A', R.IR_EIME_REQUIRED, N, ['-', '-', '-', '-'], 'interrupt: extended mode required'),
  row('IR.2B', R.IR_REQUIRED, N, ['-', '-', '-', '-'], 'interrupt: remapping required'),
];

const BY_REASON = new Map(FAULT_CONDITIONS.map((condition) => [condition.reason, condition]));

/** The row of a fault reason number; undefined for numbers that the specification does not use. */
export function faultCondition(reason: number): FaultCondition | undefined {
  return BY_REASON.get(reason);
}

/** 1 for every reason that FPD silences, by number: what recording consults. */
export const QUALIFIED: Uint8Array = Uint8Array.from({ length: 256 }, (_, reason) =>
  BY_REASON.get(reason)?.qualified ? 1 : 0,
);
