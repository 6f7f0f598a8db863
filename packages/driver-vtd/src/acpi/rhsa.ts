/**
 * RHSA: remapping hardware static affinity.
 *
 * @spec VT-d 8.6
 */
import { decode, defineLayout, encode, uint } from '@iommukit/bits';
import { erased, type StructureCodec, structureHead } from './structure-codec.ts';

/** An RHSA: all of its fields are fixed. */
export const DMAR_RHSA = defineLayout({
  name: 'DMAR_RHSA',
  bits: 160,
  spec: 'VT-d 8.6',
  doc: 'the NUMA node that a remapping unit belongs to',
  fields: {
    ...structureHead,
    BASE: uint(127, 64, 'register base of the unit'),
    PROXIMITY_DOMAIN: uint(159, 128, 'proximity domain, as in the SRAT'),
  },
});

/** The NUMA node of a remapping unit. */
export interface Rhsa {
  readonly kind: 'RHSA';
  /** Register base of the unit, as in its DRHD. */
  readonly registerBase: number;
  /** u32, as in the SRAT. */
  readonly proximityDomain: number;
}

/** Reads and writes {@link Rhsa}. */
export const rhsa: StructureCodec<Rhsa> = {
  type: 3,
  kind: 'RHSA',
  layout: erased(DMAR_RHSA),
  tail: 'nothing',
  read(words) {
    const fields = decode(DMAR_RHSA, words);
    return {
      kind: 'RHSA',
      registerBase: Number(fields.BASE),
      proximityDomain: fields.PROXIMITY_DOMAIN,
    };
  },
  write: (affinity, lengthBytes) =>
    encode(DMAR_RHSA, {
      TYPE: 3,
      LENGTH: lengthBytes,
      BASE: affinity.registerBase,
      PROXIMITY_DOMAIN: affinity.proximityDomain,
    }),
};
