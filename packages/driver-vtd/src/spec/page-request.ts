/**
 * Page request queue descriptor, 256 bits.
 *
 * @spec VT-d 7.4.1.1
 */
import { addr, defineLayout, flag, uint } from '@iommukit/bits';

/** Type code of a page request descriptor. */
export const PAGE_REQ_TYPE = 1;

/** What the hardware writes into the page request queue. */
export const PAGE_REQ_DSC = defineLayout({
  name: 'PAGE_REQ_DSC',
  bits: 256,
  spec: 'VT-d 7.4.1.1',
  doc: 'page request descriptor',
  fields: {
    TYPE: uint(7, 0, 'always 1'),
    PP: flag(8, 'PASID present'),
    RID: uint(31, 16, 'requester id'),
    PASID: uint(51, 32, 'PASID when PP=1'),
    EXR: flag(52, 'execute requested'),
    PMR: flag(53, 'privileged mode requested'),
    RDR: flag(64, 'read requested'),
    WRR: flag(65, 'write requested'),
    LPIG: flag(66, 'last page in group'),
    PRGI: uint(75, 67, 'page request group index'),
    ADDR: addr(127, 76, 'page address'),
  },
});
