/**
 * SIDP: properties of integrated devices.
 *
 * @spec VT-d 8.9
 */
import { decode, defineLayout, encode, uint } from '@iommukit/bits';
import type { DeviceScope } from './device-scope.ts';
import { erased, type StructureCodec, structureHead } from './structure-codec.ts';

/** Fixed fields of a SIDP. */
export const DMAR_SIDP = defineLayout({
  name: 'DMAR_SIDP',
  bits: 64,
  spec: 'VT-d 8.9',
  doc: 'properties of integrated devices, as flags of the device scopes',
  fields: {
    ...structureHead,
    SEGMENT: uint(63, 48, 'PCI segment'),
  },
});

/** Properties of integrated devices, one device per scope. */
export interface Sidp {
  readonly kind: 'SIDP';
  readonly segment: number;
  /** Their `flags` are the properties. */
  readonly scopes: readonly DeviceScope[];
}

/** Reads and writes {@link Sidp}. */
export const sidp: StructureCodec<Sidp> = {
  type: 6,
  kind: 'SIDP',
  layout: erased(DMAR_SIDP),
  tail: 'scopes',
  read: (words, { scopes }) => ({
    kind: 'SIDP',
    segment: decode(DMAR_SIDP, words).SEGMENT,
    scopes,
  }),
  write: (properties, lengthBytes) =>
    encode(DMAR_SIDP, { TYPE: 6, LENGTH: lengthBytes, SEGMENT: properties.segment }),
};
