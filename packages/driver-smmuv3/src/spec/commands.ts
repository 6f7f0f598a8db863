/**
 * Command queue entries, 128 bits.
 *
 * @spec SMMUv3 4.1 to 4.7
 */
import { addr, defineLayout, enumeration, flag, uint } from '@iommukit/bits';

/** Bytes of a command. */
export const COMMAND_BYTES = 16;

/** Opcodes, bits 7:0. */
export const COMMAND = {
  PREFETCH_CONFIG: 0x01,
  PREFETCH_ADDR: 0x02,
  CFGI_STE: 0x03,
  /** CFGI_ALL is this with Range 31. */
  CFGI_STE_RANGE: 0x04,
  CFGI_CD: 0x05,
  CFGI_CD_ALL: 0x06,
  TLBI_NH_ALL: 0x10,
  TLBI_NH_ASID: 0x11,
  TLBI_NH_VA: 0x12,
  TLBI_NH_VAA: 0x13,
  TLBI_EL2_ALL: 0x20,
  TLBI_EL2_ASID: 0x21,
  TLBI_EL2_VA: 0x22,
  TLBI_EL2_VAA: 0x23,
  TLBI_S12_VMALL: 0x28,
  TLBI_S2_IPA: 0x2a,
  TLBI_NSNH_ALL: 0x30,
  ATC_INV: 0x40,
  PRI_RESP: 0x41,
  RESUME: 0x44,
  STALL_TERM: 0x45,
  SYNC: 0x46,
} as const;

/** CFGI_STE_RANGE.Range that means all StreamIDs. */
export const RANGE_ALL = 31;

/** SYNC.CS: how completion is signalled. */
export const SYNC_CS = { NONE: 0, IRQ: 1, SEV: 2, RESERVED: 3 } as const;

const OPCODE = enumeration(7, 0, COMMAND, 'command code');
const SSEC = flag(10, 'secure stream; illegal on this queue');

const CFGI_FIELDS = {
  OPCODE,
  SSEC,
  SSV: flag(11, 'not used'),
  SSID: uint(31, 12, 'SubstreamID'),
  SID: uint(63, 32, 'StreamID'),
} as const;

/** CFGI_STE, CFGI_CD, CFGI_CD_ALL. */
export const CFGI = defineLayout({
  name: 'CFGI',
  bits: 128,
  spec: 'SMMUv3 4.3',
  doc: 'forget the cached configuration of a stream or substream',
  fields: { ...CFGI_FIELDS, LEAF: flag(64, 'last level only') },
});

/** CFGI_STE_RANGE and CFGI_ALL. */
export const CFGI_RANGE = defineLayout({
  name: 'CFGI_RANGE',
  bits: 128,
  spec: 'SMMUv3 4.3.2',
  doc: 'forget the cached configuration of an aligned block of streams',
  fields: { ...CFGI_FIELDS, RANGE: uint(68, 64, 'lg2 of StreamIDs - 1; 31 = all') },
});

/** TLBI_*. */
export const TLBI = defineLayout({
  name: 'TLBI',
  bits: 128,
  spec: 'SMMUv3 4.4',
  doc: 'forget cached translations',
  fields: {
    OPCODE,
    NUM: uint(16, 12, 'range: NUM + 1 times 2^SCALE granules'),
    SCALE: uint(25, 20, 'range scale; bit 5 with DS only'),
    VMID: uint(47, 32, 'VMID'),
    ASID: uint(63, 48, 'ASID'),
    LEAF: flag(64, 'last level only'),
    TTL: uint(73, 72, 'level of the leaf; 0 = any'),
    TG: uint(75, 74, 'range granule: 0 no range, 1 4K, 2 16K, 3 64K'),
    ADDR: addr(127, 76, 'VA or IPA'),
  },
});

const DEVICE_FIELDS = {
  OPCODE,
  SSEC,
  SSV: flag(11, 'SubstreamID is valid: the message has a PASID'),
  SSID: uint(31, 12, 'SubstreamID'),
  SID: uint(63, 32, 'StreamID'),
} as const;

/** ATC_INV.Size beyond which there is no more address. */
export const ATC_SIZE_ALL = 52;

/** ATC_INV. */
export const ATC_INV = defineLayout({
  name: 'ATC_INV',
  bits: 128,
  spec: 'SMMUv3 4.5.1',
  doc: "forget translations in a device's own cache (ATC)",
  fields: {
    ...DEVICE_FIELDS,
    GLOBAL: flag(9, 'with SSV: global translations of every PASID too'),
    SIZE: uint(69, 64, 'lg2 of 4 KiB pages; 52 = all'),
    ADDR: addr(127, 76, 'start, aligned to the size'),
  },
});

/** PRI_RESP.Resp. */
export const PRI_RESPONSE = { FAILURE: 0, INVALID_REQUEST: 1, SUCCESS: 2 } as const;

/** PRI_RESP. */
export const PRI_RESP = defineLayout({
  name: 'PRI_RESP',
  bits: 128,
  spec: 'SMMUv3 4.5.2',
  doc: 'answer a page request group',
  fields: {
    ...DEVICE_FIELDS,
    PRG_INDEX: uint(72, 64, 'page request group'),
    RESP: enumeration(77, 76, PRI_RESPONSE, 'answer'),
  },
});

/** RESUME and STALL_TERM. */
export const RESUME = defineLayout({
  name: 'RESUME',
  bits: 128,
  spec: 'SMMUv3 4.6',
  doc: 'answer a stalled request; STALL_TERM uses the StreamID alone',
  fields: {
    OPCODE,
    SSEC,
    AC: flag(12, '1 = try again'),
    AB: flag(13, 'else: 1 = abort, 0 = RAZ/WI'),
    SID: uint(63, 32, 'StreamID'),
    STAG: uint(79, 64, 'tag of the record'),
  },
});

/** SYNC. */
export const SYNC = defineLayout({
  name: 'SYNC',
  bits: 128,
  spec: 'SMMUv3 4.7.3',
  doc: 'all commands before are done',
  fields: {
    OPCODE,
    CS: enumeration(13, 12, SYNC_CS, 'signal'),
    MSH: uint(23, 22),
    MSI_ATTR: uint(27, 24),
    MSI_DATA: uint(63, 32, 'what to write'),
    MSI_ADDR: addr(115, 66, 'where to write; 0 = nowhere'),
  },
});
