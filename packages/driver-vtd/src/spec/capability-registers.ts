/**
 * What a unit says it can do: version, capabilities, extended capabilities.
 *
 * @spec VT-d 11.4.1 to 11.4.3
 */
import { defineRegister, flag, uint } from '@iommukit/bits';

/** VER: architecture version. */
export const VER = defineRegister({
  name: 'VER',
  offset: 0x0,
  bits: 32,
  spec: 'VT-d 11.4.1',
  doc: 'architecture version',
  fields: {
    MIN: { ...uint(3, 0, 'minor version'), access: 'RO' },
    MAX: { ...uint(7, 4, 'major version'), access: 'RO' },
  },
});

/** CAP: capabilities. */
export const CAP = defineRegister({
  name: 'CAP',
  offset: 0x8,
  bits: 64,
  spec: 'VT-d 11.4.2',
  doc: 'capabilities',
  fields: {
    ND: { ...uint(2, 0, 'domain ids have 4+2*ND bits'), access: 'RO' },
    AFL: { ...flag(3, 'advanced fault logging, removed in 4.0'), access: 'RO' },
    RWBF: { ...flag(4, 'write-buffer flush needed'), access: 'RO' },
    PLMR: { ...flag(5, 'protected low memory registers'), access: 'RO' },
    PHMR: { ...flag(6, 'protected high memory registers'), access: 'RO' },
    CM: { ...flag(7, 'caching mode'), access: 'RO' },
    SAGAW: {
      ...uint(12, 8, 'second-stage widths: bit 1 = 39, bit 2 = 48, bit 3 = 57'),
      access: 'RO',
    },
    MGAW: { ...uint(21, 16, 'second-stage input width minus 1'), access: 'RO' },
    ZLR: { ...flag(22, 'zero-length read of a write-only page succeeds'), access: 'RO' },
    FRO: { ...uint(33, 24, 'fault records at 16*FRO'), access: 'RO' },
    SSLPS: { ...uint(37, 34, 'second-stage large pages: bit 0 = 2M, bit 1 = 1G'), access: 'RO' },
    PSI: { ...flag(39, 'page-selective invalidation'), access: 'RO' },
    NFR: { ...uint(47, 40, 'fault records minus 1'), access: 'RO' },
    MAMV: { ...uint(53, 48, 'largest address mask'), access: 'RO' },
    DWD: { ...flag(54, 'write draining'), access: 'RO' },
    DRD: { ...flag(55, 'read draining'), access: 'RO' },
    FS1GP: { ...flag(56, 'first-stage 1 GiB pages'), access: 'RO' },
    PI: { ...flag(59, 'posted interrupts'), access: 'RO' },
    FS5LP: { ...flag(60, 'first-stage 5-level paging'), access: 'RO' },
    ECMDS: { ...flag(61, 'enhanced commands'), access: 'RO' },
    ESIRTPS: { ...flag(62, 'SIRTP invalidates the interrupt entry cache'), access: 'RO' },
    ESRTPS: { ...flag(63, 'SRTP invalidates all DMA caches'), access: 'RO' },
  },
});

/** ECAP: extended capabilities. */
export const ECAP = defineRegister({
  name: 'ECAP',
  offset: 0x10,
  bits: 64,
  spec: 'VT-d 11.4.3',
  doc: 'extended capabilities',
  fields: {
    C: { ...flag(0, 'page-walk coherency'), access: 'RO' },
    QI: { ...flag(1, 'queued invalidation'), access: 'RO' },
    DT: { ...flag(2, 'device TLBs'), access: 'RO' },
    IR: { ...flag(3, 'interrupt remapping'), access: 'RO' },
    EIM: { ...flag(4, 'extended interrupt mode'), access: 'RO' },
    PT: { ...flag(6, 'pass-through'), access: 'RO' },
    SC: { ...flag(7, 'snoop control'), access: 'RO' },
    IRO: { ...uint(17, 8, 'IVA at 16*IRO'), access: 'RO' },
    MHMV: { ...uint(23, 20, 'largest interrupt index mask'), access: 'RO' },
    MTS: { ...flag(25, 'memory types'), access: 'RO' },
    NEST: { ...flag(26, 'nested translation'), access: 'RO' },
    PRS: { ...flag(29, 'page requests'), access: 'RO' },
    SRS: { ...flag(31, 'supervisor requests'), access: 'RO' },
    NWFS: { ...flag(33, 'no-write flag'), access: 'RO' },
    EAFS: { ...flag(34, 'extended accessed flag'), access: 'RO' },
    PSS: { ...uint(39, 35, 'PASID bits minus 1'), access: 'RO' },
    PASID: { ...flag(40, 'requests with PASID'), access: 'RO' },
    DIT: { ...flag(41, 'device-TLB invalidation throttle'), access: 'RO' },
    PDS: { ...flag(42, 'page-request drain'), access: 'RO' },
    SMTS: { ...flag(43, 'scalable mode'), access: 'RO' },
    VCS: { ...flag(44, 'virtual commands'), access: 'RO' },
    SSADS: { ...flag(45, 'second-stage accessed/dirty'), access: 'RO' },
    SSTS: { ...flag(46, 'second-stage translation'), access: 'RO' },
    FSTS: { ...flag(47, 'first-stage translation'), access: 'RO' },
    SMPWCS: { ...flag(48, 'scalable-mode page-walk coherency'), access: 'RO' },
    RPS: { ...flag(49, 'RID_PASID'), access: 'RO' },
    TDXCS: { ...flag(50, 'TDX'), access: 'RO' },
    PMS: { ...flag(51, 'performance monitoring'), access: 'RO' },
    ADMS: { ...flag(52, 'abort-DMA mode'), access: 'RO' },
    RPRIVS: { ...flag(53, 'RID_PRIV'), access: 'RO' },
    HPTS: { ...flag(55, 'host permission table'), access: 'RO' },
    PTRS: { ...flag(56, 'PASID in translated requests'), access: 'RO' },
    SSIRWS: { ...flag(57, 'second-stage I/O read/write bits'), access: 'RO' },
    SMS: { ...flag(58, 'stop marker'), access: 'RO' },
    HPT1GPS: { ...flag(59, 'host permission table 1 GiB pages'), access: 'RO' },
    RDTS: { ...flag(60, 'resource director'), access: 'RO' },
    EIMER: { ...flag(61, 'EIME required'), access: 'RO' },
    IRREQ: { ...flag(62, 'interrupt remapping required'), access: 'RO' },
  },
});
