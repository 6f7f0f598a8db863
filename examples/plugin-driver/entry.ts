/** The one structure of this IOMMU: a table entry of 8 bytes. */
import { addr, defineLayout, flag, maskOf } from '@iommukit/bits';

/** An entry of the flat table; every bit not named here must be zero. */
const ENTRY = defineLayout({
  name: 'ENTRY',
  bits: 64,
  spec: 'flat IOMMU, table entry',
  doc: 'where one page of 4 KiB goes',
  fields: {
    R: flag(0, 'the device may read'),
    W: flag(1, 'the device may write'),
    ADDR: addr(51, 12, 'host physical address of the page'),
  },
});

/** Bytes of an entry. */
export const ENTRY_BYTES = 8;
/** Entries of a table: 64 MiB of IOVA, and 32 pages of memory. */
export const TABLE_ENTRIES = 2 ** 14;
/** Rights in the low word, as in a request: read 1, write 2. */
export const RIGHTS = maskOf(ENTRY, 'R', 'W')[0] as number;
