/**
 * Identification registers.
 *
 * @spec SMMUv3 6.3.1 to 6.3.8
 */
import { defineRegister, enumeration, flag, uint } from '@iommukit/bits';

const RO = 'RO' as const;

/** IDR0.TTF: translation table formats. */
export const TTF = { AARCH32: 1, AARCH64: 2, BOTH: 3 } as const;
/** IDR0.STALL_MODEL. */
export const STALL_MODEL = { BOTH: 0, TERMINATE_ONLY: 1, STALL_FORCED: 2 } as const;

/** IDR0.TTENDIAN: byte orders of translation tables; 1 is reserved. */
export const TTENDIAN = { MIXED: 0, LITTLE: 2, BIG: 3 } as const;

/** IDR0. */
export const IDR0 = defineRegister({
  name: 'IDR0',
  offset: 0x0,
  bits: 32,
  spec: 'SMMUv3 6.3.1',
  doc: 'features 0',
  fields: {
    S2P: { ...flag(0, 'stage 2'), access: RO },
    S1P: { ...flag(1, 'stage 1'), access: RO },
    TTF: { ...enumeration(3, 2, TTF, 'table formats'), access: RO },
    COHACC: { ...flag(4, 'coherent table and queue accesses'), access: RO },
    BTM: { ...flag(5, 'broadcast TLB maintenance'), access: RO },
    HTTU: { ...uint(7, 6, 'access flag (1) and dirty state (2) updates'), access: RO },
    DORMHINT: { ...flag(8), access: RO },
    HYP: { ...flag(9, 'EL2 stream worlds'), access: RO },
    ATS: { ...flag(10, 'PCIe ATS'), access: RO },
    NS1ATS: { ...flag(11, 'no split-stage ATS'), access: RO },
    ASID16: { ...flag(12, '16-bit ASID'), access: RO },
    MSI: { ...flag(13, 'message-signalled interrupts'), access: RO },
    SEV: { ...flag(14, 'events for waiting CPUs'), access: RO },
    ATOS: { ...flag(15), access: RO },
    PRI: { ...flag(16, 'page request queue'), access: RO },
    VMW: { ...flag(17, 'VMID wildcards'), access: RO },
    VMID16: { ...flag(18, '16-bit VMID'), access: RO },
    CD2L: { ...flag(19, 'two-level CD tables'), access: RO },
    VATOS: { ...flag(20), access: RO },
    TTENDIAN: { ...uint(22, 21, 'byte orders of tables: 2 = little endian only'), access: RO },
    ATSRECERR: { ...flag(23), access: RO },
    STALL_MODEL: { ...enumeration(25, 24, STALL_MODEL, 'stalling'), access: RO },
    TERM_MODEL: { ...flag(26, '1 = faults abort always'), access: RO },
    ST_LEVEL: { ...uint(28, 27, '1 = two-level stream tables'), access: RO },
    RME_IMPL: { ...flag(30), access: RO },
  },
});

/** IDR1. */
export const IDR1 = defineRegister({
  name: 'IDR1',
  offset: 0x4,
  bits: 32,
  spec: 'SMMUv3 6.3.2',
  doc: 'features 1',
  fields: {
    SIDSIZE: { ...uint(5, 0, 'StreamID bits'), access: RO },
    SSIDSIZE: { ...uint(10, 6, 'SubstreamID bits'), access: RO },
    PRIQS: { ...uint(15, 11, 'lg2 of page requests at most'), access: RO },
    EVENTQS: { ...uint(20, 16, 'lg2 of events at most'), access: RO },
    CMDQS: { ...uint(25, 21, 'lg2 of commands at most'), access: RO },
    ATTR_PERMS_OVR: { ...flag(26), access: RO },
    ATTR_TYPES_OVR: { ...flag(27), access: RO },
    REL: { ...flag(28), access: RO },
    QUEUES_PRESET: { ...flag(29), access: RO },
    TABLES_PRESET: { ...flag(30), access: RO },
    ECMDQ: { ...flag(31), access: RO },
  },
});

/** IDR2. */
export const IDR2 = defineRegister({
  name: 'IDR2',
  offset: 0x8,
  bits: 32,
  spec: 'SMMUv3 6.3.3',
  doc: 'features 2',
  fields: { BA_VATOS: { ...uint(9, 0), access: RO } },
});

/** IDR3. */
export const IDR3 = defineRegister({
  name: 'IDR3',
  offset: 0xc,
  bits: 32,
  spec: 'SMMUv3 6.3.4',
  doc: 'features 3',
  fields: {
    HAD: { ...flag(2, 'hierarchical attribute disable'), access: RO },
    PBHA: { ...flag(3), access: RO },
    XNX: { ...flag(4, 'separate EL0 and EL1 execute at stage 2'), access: RO },
    PPS: { ...flag(5), access: RO },
    MPAM: { ...flag(7), access: RO },
    FWB: { ...flag(8, 'forced write-back at stage 2'), access: RO },
    STT: { ...flag(9, 'small translation tables'), access: RO },
    RIL: { ...flag(10, 'range invalidation'), access: RO },
    BBML: { ...uint(12, 11, 'break-before-make level'), access: RO },
    E0PD: { ...flag(13, 'user accesses can be shut out by half'), access: RO },
    PTWNNC: { ...flag(14, 'table walks to device memory are Normal'), access: RO },
    PASIDTT: { ...flag(16, 'PASIDs of translated requests count'), access: RO },
    EPAN: { ...flag(17, 'PAN counts for execute-only pages'), access: RO },
  },
});

/** IDR4: implementation defined. */
export const IDR4 = defineRegister({
  name: 'IDR4',
  offset: 0x10,
  bits: 32,
  spec: 'SMMUv3 6.3.5',
  doc: 'implementation defined',
  fields: { IMPDEF: { ...uint(31, 0), access: RO } },
});

/** IDR5. */
export const IDR5 = defineRegister({
  name: 'IDR5',
  offset: 0x14,
  bits: 32,
  spec: 'SMMUv3 6.3.6',
  doc: 'features 5',
  fields: {
    OAS: { ...uint(2, 0, 'output address size code'), access: RO },
    GRAN4K: { ...flag(4), access: RO },
    GRAN16K: { ...flag(5), access: RO },
    GRAN64K: { ...flag(6), access: RO },
    DS: { ...flag(7, '52-bit addresses with 4K and 16K'), access: RO },
    D128: { ...flag(8), access: RO },
    VAX: { ...uint(11, 10, '1 = 52-bit virtual addresses'), access: RO },
    STALL_MAX: { ...uint(31, 16, 'stalled transactions at most'), access: RO },
  },
});

/** IIDR: who made the unit. */
export const IIDR = defineRegister({
  name: 'IIDR',
  offset: 0x18,
  bits: 32,
  spec: 'SMMUv3 6.3.7',
  doc: 'implementation',
  fields: {
    IMPLEMENTER: { ...uint(11, 0, 'JEP106 code: 0x43b Arm'), access: RO },
    REVISION: { ...uint(15, 12), access: RO },
    VARIANT: { ...uint(19, 16), access: RO },
    PRODUCT_ID: { ...uint(31, 20), access: RO },
  },
});

const COMPONENT = [0x0d, 0xf0, 0x05, 0xb1] as const;

/** CIDR0 to CIDR3: the identification that Arm components share. */
export const COMPONENT_ID = COMPONENT.map((value, n) =>
  defineRegister({
    name: `CIDR${n}`,
    offset: 0xff0 + 4 * n,
    bits: 32,
    spec: 'SMMUv3 6.3.1',
    doc: 'component identification',
    reset: value,
    fields: { PRMBL: { ...uint(7, 0), access: RO } },
  }),
);

/** AIDR: architecture version. */
export const AIDR = defineRegister({
  name: 'AIDR',
  offset: 0x1c,
  bits: 32,
  spec: 'SMMUv3 6.3.8',
  doc: 'architecture version, 1 = v3.1',
  fields: {
    MINOR: { ...uint(3, 0), access: RO },
    MAJOR: { ...uint(7, 4), access: RO },
  },
});
