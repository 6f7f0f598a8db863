/**
 * Host permission table entries: which physical pages a device may reach by translated requests.
 *
 * A permission pair PPi has four bits: R, W, and two that are reserved.
 *
 * @spec VT-d 4.2.4 (walk), 9.12 (entries)
 */
import { addr, defineLayout, type FieldSpec, flag, ignored, uint } from '@iommukit/bits';

/** Bits of a permission pair. */
export const HPT_PERMISSION = { R: 1, W: 2 } as const;

/** Bits from one permission pair to the next. */
const PAIR_BITS = 4;

/** `count` permission pairs from bit 0 up; bits 3:2 of each stay undeclared, so reserved. */
function permissionPairs(count: number, page: string): Record<`PP${number}`, FieldSpec<'uint'>> {
  return Object.fromEntries(
    Array.from({ length: count }, (_, i) => [
      `PP${i}`,
      uint(PAIR_BITS * i + 1, PAIR_BITS * i, `${page} page ${i}: bit 0 read, bit 1 write`),
    ]),
  ) as Record<`PP${number}`, FieldSpec<'uint'>>;
}

const NEXT_TABLE = {
  AV: flag(64, 'ADDR holds the next table'),
  ADDR: addr(115, 76, 'next table, host physical'),
  IGN: ignored(127, 116),
} as const;

/** Level 4: one entry per 2 TiB. */
export const HPTL4E = defineLayout({
  name: 'HPTL4E',
  bits: 128,
  spec: 'VT-d 9.12.1',
  doc: 'host permission table, level 4, index = address [51:41]',
  fields: { ...NEXT_TABLE },
});

/** Level 3: one entry per 8 GiB, permissions of its 1 GiB pages where ECAP.HPT1GPS=1. */
export const HPTL3E = defineLayout({
  name: 'HPTL3E',
  bits: 128,
  spec: 'VT-d 9.12.2',
  doc: 'host permission table, level 3, index = address [40:33]',
  fields: { ...permissionPairs(8, '1 GiB'), ...NEXT_TABLE },
});

/** Level 2: one entry per 32 MiB, permissions of its 2 MiB pages. */
export const HPTL2E = defineLayout({
  name: 'HPTL2E',
  bits: 128,
  spec: 'VT-d 9.12.3',
  doc: 'host permission table, level 2, index = address [32:25]',
  fields: { ...permissionPairs(16, '2 MiB'), ...NEXT_TABLE },
});

/** Level 1: one entry per 128 KiB, permissions of its 4 KiB pages. */
export const HPTL1E = defineLayout({
  name: 'HPTL1E',
  bits: 128,
  spec: 'VT-d 9.12.4',
  doc: 'host permission table, level 1, index = address [24:17]',
  fields: permissionPairs(32, '4 KiB'),
});
