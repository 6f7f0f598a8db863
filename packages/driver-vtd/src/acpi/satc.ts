/**
 * SATC: integrated devices with an address translation cache.
 *
 * @spec VT-d 8.8
 */
import { decode, defineLayout, encode, flag, uint } from '@iommukit/bits';
import type { DeviceScope } from './device-scope.ts';
import { erased, type StructureCodec, structureHead } from './structure-codec.ts';

/** Fixed fields of a SATC. */
export const DMAR_SATC = defineLayout({
  name: 'DMAR_SATC',
  bits: 64,
  spec: 'VT-d 8.8',
  doc: 'integrated devices with an address translation cache',
  fields: {
    ...structureHead,
    ATC_REQUIRED: flag(32, 'the devices need their cache to work'),
    SEGMENT: uint(63, 48, 'PCI segment'),
  },
});

/** Integrated devices with an address translation cache. */
export interface Satc {
  readonly kind: 'SATC';
  /** The devices need ATS; in legacy mode hardware sees to it, software leaves ATS alone. */
  readonly atcRequired: boolean;
  readonly segment: number;
  readonly scopes: readonly DeviceScope[];
}

/** Reads and writes {@link Satc}. */
export const satc: StructureCodec<Satc> = {
  type: 5,
  kind: 'SATC',
  layout: erased(DMAR_SATC),
  tail: 'scopes',
  read(words, { scopes }) {
    const fields = decode(DMAR_SATC, words);
    return {
      kind: 'SATC',
      atcRequired: fields.ATC_REQUIRED === 1,
      segment: fields.SEGMENT,
      scopes,
    };
  },
  write: (devices, lengthBytes) =>
    encode(DMAR_SATC, {
      TYPE: 5,
      LENGTH: lengthBytes,
      ATC_REQUIRED: Number(devices.atcRequired),
      SEGMENT: devices.segment,
    }),
};
