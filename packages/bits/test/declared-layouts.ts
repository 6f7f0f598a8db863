import { addr, defineLayout, defineRegister, enumeration, flag, mbz, uint } from '../src/index.ts';

export const ENTRY = defineLayout({
  name: 'ENTRY',
  bits: 128,
  spec: 'none',
  doc: 'an entry with a doc line',
  fields: {
    P: flag(0, 'present'),
    TT: enumeration(3, 2, { OFF: 0, ON: 1 }, 'translation type'),
    ADDR: addr(51, 12, 'table'),
    ID: uint(127, 64, 'identifier'),
    Z: mbz(63, 62),
  },
});

export const REGISTER = defineRegister({
  name: 'REGISTER',
  offset: 8,
  bits: 32,
  spec: 'none',
  reset: { N: 1 },
  fields: { P: { ...flag(0), access: 'RO' }, N: { ...uint(5, 1), access: 'RW' } },
});
