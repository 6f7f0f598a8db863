/**
 * PRI queue entries, 128 bits.
 *
 * @spec SMMUv3 8.2
 */
import { addr, defineLayout, flag, uint } from '@iommukit/bits';

/** Bytes of a PRI queue entry. */
export const PAGE_REQUEST_BYTES = 16;

/** PRI queue entry. Last without read and write, with a PASID, is a stop marker. */
export const PAGE_REQUEST = defineLayout({
  name: 'PAGE_REQUEST',
  bits: 128,
  spec: 'SMMUv3 8.2',
  doc: 'page request',
  fields: {
    SID: uint(31, 0, 'StreamID'),
    SSID: uint(51, 32, 'SubstreamID'),
    PRIV: flag(58, 'privileged'),
    EXEC: flag(59, 'execute'),
    READ: flag(60, 'read'),
    WRITE: flag(61, 'write'),
    LAST: flag(62, 'last of its group'),
    SSV: flag(63, 'SubstreamID is valid'),
    PRG_INDEX: uint(72, 64, 'page request group'),
    ADDR: addr(127, 76, 'page'),
  },
});
