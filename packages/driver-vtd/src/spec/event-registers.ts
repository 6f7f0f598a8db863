/**
 * The three event units (fault, invalidation completion, page request): mask, pending, message.
 *
 * @spec VT-d 11.4.7 (fault event), 11.4.9 (invalidation completion), 11.4.11 (page request)
 */
import { defineRegister, flag, uint } from '@iommukit/bits';

/** FECTL: fault event control. */
export const FECTL = defineRegister({
  name: 'FECTL',
  offset: 0x38,
  bits: 32,
  spec: 'VT-d 11.4.7.2',
  doc: 'fault event control',
  reset: { IM: 1 },
  fields: {
    IP: { ...flag(30, 'interrupt pending'), access: 'RO' },
    IM: { ...flag(31, 'interrupt mask'), access: 'RW' },
  },
});

/** FEDATA: fault event data. */
export const FEDATA = defineRegister({
  name: 'FEDATA',
  offset: 0x3c,
  bits: 32,
  spec: 'VT-d 11.4.7.3',
  doc: 'fault event data',
  fields: {
    IMD: { ...uint(15, 0, 'message data'), access: 'RW' },
  },
});

/** FEADDR: fault event address. */
export const FEADDR = defineRegister({
  name: 'FEADDR',
  offset: 0x40,
  bits: 32,
  spec: 'VT-d 11.4.7.4',
  doc: 'fault event address',
  fields: {
    MA: { ...uint(31, 2, 'message address [31:2]'), access: 'RW' },
  },
});

/** FEUADDR: fault event upper address. */
export const FEUADDR = defineRegister({
  name: 'FEUADDR',
  offset: 0x44,
  bits: 32,
  spec: 'VT-d 11.4.7.5',
  doc: 'fault event upper address',
  fields: {
    MUA: { ...uint(31, 0, 'message address [63:32]'), access: 'RW' },
  },
});

/** IECTL: invalidation completion event control. */
export const IECTL = defineRegister({
  name: 'IECTL',
  offset: 0xa0,
  bits: 32,
  spec: 'VT-d 11.4.7.2',
  doc: 'invalidation completion event control',
  reset: { IM: 1 },
  fields: {
    IP: { ...flag(30, 'interrupt pending'), access: 'RO' },
    IM: { ...flag(31, 'interrupt mask'), access: 'RW' },
  },
});

/** IEDATA: invalidation completion event data. */
export const IEDATA = defineRegister({
  name: 'IEDATA',
  offset: 0xa4,
  bits: 32,
  spec: 'VT-d 11.4.7.3',
  doc: 'invalidation completion event data',
  fields: {
    IMD: { ...uint(15, 0, 'message data'), access: 'RW' },
  },
});

/** IEADDR: invalidation completion event address. */
export const IEADDR = defineRegister({
  name: 'IEADDR',
  offset: 0xa8,
  bits: 32,
  spec: 'VT-d 11.4.7.4',
  doc: 'invalidation completion event address',
  fields: {
    MA: { ...uint(31, 2, 'message address [31:2]'), access: 'RW' },
  },
});

/** IEUADDR: invalidation completion event upper address. */
export const IEUADDR = defineRegister({
  name: 'IEUADDR',
  offset: 0xac,
  bits: 32,
  spec: 'VT-d 11.4.7.5',
  doc: 'invalidation completion event upper address',
  fields: {
    MUA: { ...uint(31, 0, 'message address [63:32]'), access: 'RW' },
  },
});

/** PECTL: page request event control. */
export const PECTL = defineRegister({
  name: 'PECTL',
  offset: 0xe0,
  bits: 32,
  spec: 'VT-d 11.4.7.2',
  doc: 'page request event control',
  reset: { IM: 1 },
  fields: {
    IP: { ...flag(30, 'interrupt pending'), access: 'RO' },
    IM: { ...flag(31, 'interrupt mask'), access: 'RW' },
  },
});

/** PEDATA: page request event data. */
export const PEDATA = defineRegister({
  name: 'PEDATA',
  offset: 0xe4,
  bits: 32,
  spec: 'VT-d 11.4.7.3',
  doc: 'page request event data',
  fields: {
    IMD: { ...uint(15, 0, 'message data'), access: 'RW' },
  },
});

/** PEADDR: page request event address. */
export const PEADDR = defineRegister({
  name: 'PEADDR',
  offset: 0xe8,
  bits: 32,
  spec: 'VT-d 11.4.7.4',
  doc: 'page request event address',
  fields: {
    MA: { ...uint(31, 2, 'message address [31:2]'), access: 'RW' },
  },
});

/** PEUADDR: page request event upper address. */
export const PEUADDR = defineRegister({
  name: 'PEUADDR',
  offset: 0xec,
  bits: 32,
  spec: 'VT-d 11.4.7.5',
  doc: 'page request event upper address',
  fields: {
    MUA: { ...uint(31, 0, 'message address [63:32]'), access: 'RW' },
  },
});
