/**
 * Root table entries: one per bus, 128 bits.
 *
 * @spec VT-d 9.1 (root entry), 9.2 (scalable-mode root entry)
 */
import { addr, defineLayout, flag } from '@iommukit/bits';

/** Legacy root entry: points to the context table of one bus. */
export const ROOT_ENTRY = defineLayout({
  name: 'ROOT_ENTRY',
  bits: 128,
  spec: 'VT-d 9.1',
  doc: 'legacy-mode root entry, index = bus number',
  fields: {
    P: flag(0, 'present'),
    CTP: addr(63, 12, 'context table, 4 KiB, host physical'),
  },
});

/** Scalable-mode root entry: two context tables, for devfn 00h-7Fh and 80h-FFh. */
export const SM_ROOT_ENTRY = defineLayout({
  name: 'SM_ROOT_ENTRY',
  bits: 128,
  spec: 'VT-d 9.2',
  doc: 'scalable-mode root entry, index = bus number; each half is checked alone',
  fields: {
    LP: flag(0, 'lower half present'),
    LCTP: addr(63, 12, 'context table of devfn 00h-7Fh, host physical'),
    UP: flag(64, 'upper half present'),
    UCTP: addr(127, 76, 'context table of devfn 80h-FFh, host physical'),
  },
});
