/**
 * Invalidation registers, invalidation queue registers, page request queue registers.
 *
 * @spec VT-d 11.4.6, 11.4.9, 11.4.11
 */
import { addr, defineRegister, enumeration, flag, uint } from '@iommukit/bits';

/** Invalidation queue errors (IQERCD.IQEI). */
export const IQEI = {
  /** No information. */
  NONE: 0,
  /** The tail lies beyond the queue. */
  INVALID_TAIL: 1,
  /** A descriptor could not be read. */
  FETCH_ERROR: 2,
  /** Type unknown, or not valid in this mode. */
  INVALID_TYPE: 3,
  /** A reserved field of a valid type is set. */
  RESERVED_FIELD: 4,
  /** IQA.DW does not fit RTADDR.TTM. */
  INVALID_WIDTH: 5,
  /** The tail is not a multiple of the descriptor size. */
  TAIL_NOT_ALIGNED: 6,
  /** RTADDR.TTM is reserved. */
  INVALID_TTM: 7,
} as const;

/** CCMD: context command. */
export const CCMD = defineRegister({
  name: 'CCMD',
  offset: 0x28,
  bits: 64,
  spec: 'VT-d 11.4.6.1',
  doc: 'context command',
  fields: {
    DID: { ...uint(15, 0, 'domain id'), access: 'RW' },
    SID: { ...uint(31, 16, 'source id'), access: 'WO' },
    FM: { ...uint(33, 32, 'function mask'), access: 'WO' },
    CAIG: { ...uint(60, 59, 'granularity done'), access: 'RO' },
    CIRG: { ...uint(62, 61, 'granularity asked'), access: 'RW' },
    ICC: { ...flag(63, 'start; clears itself'), access: 'RW' },
  },
});

/** IQH: invalidation queue head. */
export const IQH = defineRegister({
  name: 'IQH',
  offset: 0x80,
  bits: 64,
  spec: 'VT-d 11.4.9.1',
  doc: 'invalidation queue head',
  fields: {
    QH: { ...uint(18, 4, 'head / 16'), access: 'RO' },
  },
});

/** IQT: invalidation queue tail. */
export const IQT = defineRegister({
  name: 'IQT',
  offset: 0x88,
  bits: 64,
  spec: 'VT-d 11.4.9.2',
  doc: 'invalidation queue tail',
  fields: {
    QT: { ...uint(18, 4, 'tail / 16'), access: 'RW' },
  },
});

/** IQA: invalidation queue address. */
export const IQA = defineRegister({
  name: 'IQA',
  offset: 0x90,
  bits: 64,
  spec: 'VT-d 11.4.9.3',
  doc: 'invalidation queue address',
  fields: {
    QS: { ...uint(2, 0, 'size: 2^QS pages'), access: 'RW' },
    DW: { ...flag(11, 'descriptor width: 0 = 128 bits, 1 = 256 bits'), access: 'RW' },
    IQA: { ...addr(63, 12, 'queue base'), access: 'RW' },
  },
});

/** ICS: invalidation completion status. */
export const ICS = defineRegister({
  name: 'ICS',
  offset: 0x9c,
  bits: 32,
  spec: 'VT-d 11.4.9.4',
  doc: 'invalidation completion status',
  fields: {
    IWC: { ...flag(0, 'a wait with IF=1 completed'), access: 'RW1C' },
  },
});

/** IQERCD: invalidation queue error record. */
export const IQERCD = defineRegister({
  name: 'IQERCD',
  offset: 0xb0,
  bits: 64,
  spec: 'VT-d 11.4.9.9',
  doc: 'invalidation queue error record',
  fields: {
    IQEI: { ...enumeration(3, 0, IQEI, 'queue error'), access: 'RO' },
    ITESID: { ...uint(47, 32, 'source id of a timed out invalidation'), access: 'RO' },
    ICESID: { ...uint(63, 48, 'source id of a bad completion'), access: 'RO' },
  },
});

/** PQH: page request queue head. */
export const PQH = defineRegister({
  name: 'PQH',
  offset: 0xc0,
  bits: 64,
  spec: 'VT-d 11.4.11.1',
  doc: 'page request queue head',
  fields: {
    PQH: { ...uint(18, 5, 'head / 32, moved by software'), access: 'RW' },
  },
});

/** PQT: page request queue tail. */
export const PQT = defineRegister({
  name: 'PQT',
  offset: 0xc8,
  bits: 64,
  spec: 'VT-d 11.4.11.2',
  doc: 'page request queue tail',
  fields: {
    PQT: { ...uint(18, 5, 'tail / 32, moved by hardware'), access: 'RW' },
  },
});

/** PQA: page request queue address. */
export const PQA = defineRegister({
  name: 'PQA',
  offset: 0xd0,
  bits: 64,
  spec: 'VT-d 11.4.11.3',
  doc: 'page request queue address',
  fields: {
    PQS: { ...uint(2, 0, 'size: 2^PQS pages'), access: 'RW' },
    PQA: { ...addr(63, 12, 'queue base'), access: 'RW' },
  },
});

/** PRS: page request status. */
export const PRS = defineRegister({
  name: 'PRS',
  offset: 0xdc,
  bits: 32,
  spec: 'VT-d 11.4.11.4',
  doc: 'page request status',
  fields: {
    PPR: { ...flag(0, 'a page request is pending'), access: 'RW1C' },
    PRO: { ...flag(1, 'page request overflow'), access: 'RW1C' },
  },
});

/** IVA: invalidate address, at 16*ECAP.IRO. */
export const IVA = defineRegister({
  name: 'IVA',
  offset: 0x0,
  bits: 64,
  spec: 'VT-d 11.4.6.3',
  doc: 'invalidate address, at 16*ECAP.IRO',
  fields: {
    AM: { ...uint(5, 0, 'address mask'), access: 'WO' },
    IH: { ...flag(6, 'invalidation hint'), access: 'WO' },
    ADDR: { ...addr(63, 12, 'page address'), access: 'WO' },
  },
});

/** IOTLB: IOTLB invalidate, at 16*ECAP.IRO + 8. */
export const IOTLB = defineRegister({
  name: 'IOTLB',
  offset: 0x8,
  bits: 64,
  spec: 'VT-d 11.4.6.2',
  doc: 'IOTLB invalidate, at 16*ECAP.IRO + 8',
  fields: {
    DID: { ...uint(47, 32, 'domain id'), access: 'RW' },
    DW: { ...flag(48, 'drain writes'), access: 'RW' },
    DR: { ...flag(49, 'drain reads'), access: 'RW' },
    IAIG: { ...uint(58, 57, 'granularity done'), access: 'RO' },
    IIRG: { ...uint(61, 60, 'granularity asked'), access: 'RW' },
    IVT: { ...flag(63, 'start; clears itself'), access: 'RW' },
  },
});
