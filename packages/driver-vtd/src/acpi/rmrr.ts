/**
 * RMRR: reserved memory region reporting.
 *
 * @spec VT-d 8.4
 */
import { decode, defineLayout, encode, uint } from '@iommukit/bits';
import type { DeviceScope } from './device-scope.ts';
import { erased, type StructureCodec, structureHead } from './structure-codec.ts';

/** Fixed fields of an RMRR. */
export const DMAR_RMRR = defineLayout({
  name: 'DMAR_RMRR',
  bits: 192,
  spec: 'VT-d 8.4',
  doc: 'memory that devices use without their driver, mapped one to one',
  fields: {
    ...structureHead,
    SEGMENT: uint(63, 48, 'PCI segment'),
    BASE: uint(127, 64, 'first byte, 4 KiB aligned'),
    LIMIT: uint(191, 128, 'last byte'),
  },
});

/** Memory that firmware reserved for some devices. */
export interface Rmrr {
  readonly kind: 'RMRR';
  readonly segment: number;
  /** First byte address. */
  readonly start: number;
  /** Last byte address, inclusive. */
  readonly last: number;
  /** The devices that use it. */
  readonly scopes: readonly DeviceScope[];
}

/** Reads and writes {@link Rmrr}. */
export const rmrr: StructureCodec<Rmrr> = {
  type: 1,
  kind: 'RMRR',
  layout: erased(DMAR_RMRR),
  tail: 'scopes',
  read(words, { scopes }) {
    const fields = decode(DMAR_RMRR, words);
    return {
      kind: 'RMRR',
      segment: fields.SEGMENT,
      start: Number(fields.BASE),
      last: Number(fields.LIMIT),
      scopes,
    };
  },
  write: (region, lengthBytes) =>
    encode(DMAR_RMRR, {
      TYPE: 1,
      LENGTH: lengthBytes,
      SEGMENT: region.segment,
      BASE: region.start,
      LIMIT: region.last,
    }),
};
