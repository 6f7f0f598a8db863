/**
 * Fault recording register FRCD, 128 bits.
 *
 * @spec VT-d 11.4.7.9
 */
import { addr, defineLayout, flag, uint } from '@iommukit/bits';

/** One fault record as software reads it. */
export const FAULT_RECORD = defineLayout({
  name: 'FAULT_RECORD',
  bits: 128,
  spec: 'VT-d 11.4.7.9',
  doc: 'fault recording register FRCD[n]',
  fields: {
    FI: addr(63, 12, 'fault address, or interrupt index in [63:48]'),
    SID: uint(79, 64, 'requester id'),
    T2: flag(92, 'with T1: 00 write, 01 page request, 10 read, 11 atomic (T1 T2)'),
    PRIV: flag(93, 'privileged; requests with PASID only'),
    EXE: flag(94, 'execute; reads with PASID only'),
    PP: flag(95, 'PV is valid'),
    FR: uint(103, 96, 'fault reason'),
    PV: uint(123, 104, 'PASID'),
    AT: uint(125, 124, 'address type: 0 untranslated, 1 translation request, 2 translated'),
    T1: flag(126, 'see T2'),
    F: flag(127, 'record is valid; write 1 to clear'),
  },
});
