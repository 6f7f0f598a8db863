/**
 * What interrupt remapping reads: table entries of both formats, posted interrupt descriptors.
 *
 * @spec VT-d 9.9 (remapped), 9.10 (posted), 9.11 (descriptor)
 */
import { defineLayout, enumeration, flag, ignored, uint } from '@iommukit/bits';

/** Source validation types (IRTE.SVT); 3 is reserved. */
export const SOURCE_VALIDATION = { NONE: 0, REQUESTER_ID: 1, BUS_RANGE: 2 } as const;

/** Delivery modes (IRTE.DLM); 3 and 6 are reserved. */
export const DELIVERY_MODE = {
  FIXED: 0,
  LOWEST_PRIORITY: 1,
  SMI: 2,
  NMI: 4,
  INIT: 5,
  EXT_INT: 7,
} as const;

const SOURCE = {
  SID: uint(79, 64, 'requester id, or first and last bus (SVT 2)'),
  SQ: uint(81, 80, 'ignored function bits of SID: 1 = bit 2, 2 = bits 2:1, 3 = bits 2:0'),
  SVT: enumeration(83, 82, SOURCE_VALIDATION, 'source validation type'),
} as const;

/** Interrupt remapping table entry, IM=0. */
export const IRTE = defineLayout({
  name: 'IRTE',
  bits: 128,
  spec: 'VT-d 9.9',
  doc: 'interrupt remapping table entry of a remapped interrupt',
  fields: {
    P: flag(0, 'present'),
    FPD: flag(1, 'fault processing disable, honoured also when P=0'),
    DM: flag(2, 'destination mode: 0 physical, 1 logical'),
    RH: flag(3, 'redirection hint'),
    TM: flag(4, 'trigger mode: 0 edge, 1 level'),
    DLM: enumeration(7, 5, DELIVERY_MODE, 'delivery mode'),
    AVAIL: ignored(11, 8, 'available to software'),
    IM: flag(15, 'entry mode: 0 remapped, 1 posted; needs CAP.PI'),
    V: uint(23, 16, 'vector'),
    DST: uint(63, 32, 'destination: APIC id in [47:40] (xAPIC) or [63:32] (x2APIC)'),
    ...SOURCE,
  },
});

/** Interrupt remapping table entry, IM=1. */
export const IRTE_POSTED = defineLayout({
  name: 'IRTE_POSTED',
  bits: 128,
  spec: 'VT-d 9.10',
  doc: 'interrupt remapping table entry of a posted interrupt',
  fields: {
    P: flag(0, 'present'),
    FPD: flag(1, 'fault processing disable, honoured also when P=0'),
    AVAIL: ignored(11, 8, 'available to software'),
    URG: flag(14, 'urgent: notify although SN=1'),
    IM: flag(15, 'entry mode: 1 posted'),
    VV: uint(23, 16, 'virtual vector: the bit of PIR to set'),
    PDAL: uint(63, 38, 'posted interrupt descriptor, address [31:6]'),
    ...SOURCE,
    PDAH: uint(127, 96, 'posted interrupt descriptor, address [63:32]'),
  },
});

/** Posted interrupt descriptor, 64 bytes, 64-byte aligned. */
export const POSTED_INTERRUPT_DESCRIPTOR = defineLayout({
  name: 'POSTED_INTERRUPT_DESCRIPTOR',
  bits: 512,
  spec: 'VT-d 9.11',
  doc: 'posted interrupt descriptor',
  fields: {
    PIR: uint(255, 0, 'posted interrupt requests, one bit per vector'),
    ON: flag(256, 'outstanding notification'),
    SN: flag(257, 'suppress notification of interrupts that are not urgent'),
    NV: uint(279, 272, 'notification vector'),
    NDST: uint(319, 288, 'notification destination: APIC id in [303:296] (xAPIC) or all (x2APIC)'),
  },
});
