/**
 * DRHD: DMA remapping hardware unit definition.
 *
 * @spec VT-d 8.3
 */
import { decode, defineLayout, encode, flag, uint } from '@iommukit/bits';
import type { DeviceScope } from './device-scope.ts';
import { erased, type StructureCodec, structureHead } from './structure-codec.ts';

/** Fixed fields of a DRHD. */
export const DMAR_DRHD = defineLayout({
  name: 'DMAR_DRHD',
  bits: 128,
  spec: 'VT-d 8.3',
  doc: 'a remapping unit and the devices under it',
  fields: {
    ...structureHead,
    INCLUDE_PCI_ALL: flag(32, 'all devices of the segment that no other unit names'),
    SIZE: uint(43, 40, 'register set: 2^SIZE pages of 4 KiB'),
    SEGMENT: uint(63, 48, 'PCI segment'),
    BASE: uint(127, 64, 'register base, host physical'),
  },
});

/** A remapping unit. */
export interface Drhd {
  readonly kind: 'DRHD';
  /** Takes every device of its segment that no other unit names. */
  readonly includePciAll: boolean;
  /** Register set: lg2 of its 4 KiB pages, 0 to 15. */
  readonly sizePagesLg2: number;
  readonly segment: number;
  /** Byte address of the registers, 52 bits. */
  readonly registerBase: number;
  readonly scopes: readonly DeviceScope[];
}

/** Reads and writes {@link Drhd}. */
export const drhd: StructureCodec<Drhd> = {
  type: 0,
  kind: 'DRHD',
  layout: erased(DMAR_DRHD),
  tail: 'scopes',
  read(words, { scopes }) {
    const fields = decode(DMAR_DRHD, words);
    return {
      kind: 'DRHD',
      includePciAll: fields.INCLUDE_PCI_ALL === 1,
      sizePagesLg2: fields.SIZE,
      segment: fields.SEGMENT,
      registerBase: Number(fields.BASE),
      scopes,
    };
  },
  write: (unit, lengthBytes) =>
    encode(DMAR_DRHD, {
      TYPE: 0,
      LENGTH: lengthBytes,
      INCLUDE_PCI_ALL: Number(unit.includePciAll),
      SIZE: unit.sizePagesLg2,
      SEGMENT: unit.segment,
      BASE: unit.registerBase,
    }),
};
