/**
 * Event queue records, 256 bits, and the event codes.
 *
 * @spec SMMUv3 7.3
 */
import { addr, defineLayout, enumeration, flag, uint } from '@iommukit/bits';

/** Bytes of an event record. */
export const EVENT_BYTES = 32;

/** Event codes, bits 7:0. */
export const EVENT = {
  F_UUT: 0x01,
  C_BAD_STREAMID: 0x02,
  F_STE_FETCH: 0x03,
  C_BAD_STE: 0x04,
  F_BAD_ATS_TREQ: 0x05,
  F_STREAM_DISABLED: 0x06,
  F_TRANSL_FORBIDDEN: 0x07,
  C_BAD_SUBSTREAMID: 0x08,
  F_CD_FETCH: 0x09,
  C_BAD_CD: 0x0a,
  F_WALK_EABT: 0x0b,
  F_TRANSLATION: 0x10,
  F_ADDR_SIZE: 0x11,
  F_ACCESS: 0x12,
  F_PERMISSION: 0x13,
} as const;

/** CLASS: what was being read when the fault came. */
export const EVENT_CLASS = { CD: 0, TT: 1, IN: 2 } as const;

/** Event record. Which fields count depends on the code. */
export const EVENT_RECORD = defineLayout({
  name: 'EVENT_RECORD',
  bits: 256,
  spec: 'SMMUv3 7.3',
  doc: 'event queue record',
  fields: {
    CODE: enumeration(7, 0, EVENT, 'event code'),
    SSV: flag(11, 'SubstreamID is valid'),
    SSID: uint(31, 12, 'SubstreamID'),
    SID: uint(63, 32, 'StreamID'),
    STAG: uint(79, 64, 'tag of a stalled transaction'),
    STALL: flag(95, 'stalled'),
    PNU: flag(97, 'privileged'),
    IND: flag(98, 'instruction'),
    RNW: flag(99, 'read'),
    S2: flag(103, 'stage 2'),
    CLASS: enumeration(105, 104, EVENT_CLASS, 'what was read'),
    TTRNW: flag(108, 'the table access was a read; F_PERMISSION of class TT'),
    INPUT_ADDR: uint(191, 128, 'address of the request'),
    IPA: addr(243, 204, 'IPA, when S2'),
  },
});

/** The FetchAddr form of dword 6 and 7: F_STE_FETCH, F_CD_FETCH, F_WALK_EABT. */
export const FETCH_RECORD = defineLayout({
  name: 'FETCH_RECORD',
  bits: 256,
  spec: 'SMMUv3 7.3.4',
  doc: 'the address that could not be read',
  fields: {
    CODE: enumeration(7, 0, EVENT, 'event code'),
    SID: uint(63, 32, 'StreamID'),
    FETCH_ADDR: addr(243, 195, 'address that was fetched'),
  },
});

/** F_BAD_ATS_TREQ: what the translation request asked for, and its address. */
export const ATS_REQUEST_RECORD = defineLayout({
  name: 'ATS_REQUEST_RECORD',
  bits: 256,
  spec: 'SMMUv3 7.3.6',
  doc: 'a translation request that is not allowed',
  fields: {
    CODE: enumeration(7, 0, EVENT, 'event code'),
    SSV: flag(11, 'SubstreamID is valid'),
    SSID: uint(31, 12, 'SubstreamID'),
    SID: uint(63, 32, 'StreamID'),
    SPAN: uint(67, 64, 'translations asked for'),
    PRIV: flag(92, 'privileged'),
    EXEC: flag(93, 'execute'),
    WRITE: flag(94, 'write: not NW'),
    READ: flag(95, 'read: always 1'),
    ADDR: addr(191, 140, 'page that was asked for'),
  },
});

/** What each event means, for people. */
export const EVENT_DOC: Readonly<Record<keyof typeof EVENT, string>> = {
  F_UUT: 'a request of a kind that is not supported',
  C_BAD_STREAMID: 'the StreamID lies outside the stream table',
  F_STE_FETCH: 'reading the stream table entry failed',
  C_BAD_STE: 'the stream table entry is not valid',
  F_BAD_ATS_TREQ: 'a translation request that is not allowed',
  F_STREAM_DISABLED: 'requests without SubstreamID, or with SubstreamID 0, are switched off',
  F_TRANSL_FORBIDDEN: 'a translated request that is not allowed',
  C_BAD_SUBSTREAMID: 'the SubstreamID lies outside the CD table',
  F_CD_FETCH: 'reading the context descriptor failed',
  C_BAD_CD: 'the context descriptor is not valid',
  F_WALK_EABT: 'reading a translation table failed',
  F_TRANSLATION: 'nothing is mapped there',
  F_ADDR_SIZE: 'an address is larger than allowed',
  F_ACCESS: 'the access flag is 0',
  F_PERMISSION: 'the mapping lacks the right',
};
