/**
 * ATSR: root ports that support ATS.
 *
 * @spec VT-d 8.5
 */
import { decode, defineLayout, encode, flag, uint } from '@iommukit/bits';
import type { DeviceScope } from './device-scope.ts';
import { erased, type StructureCodec, structureHead } from './structure-codec.ts';

/** Fixed fields of an ATSR. */
export const DMAR_ATSR = defineLayout({
  name: 'DMAR_ATSR',
  bits: 64,
  spec: 'VT-d 8.5',
  doc: 'root ports below which devices may use ATS',
  fields: {
    ...structureHead,
    ALL_PORTS: flag(32, 'every root port of the segment'),
    SEGMENT: uint(63, 48, 'PCI segment'),
  },
});

/** Root ports below which devices may use ATS. */
export interface Atsr {
  readonly kind: 'ATSR';
  /** Every root port of the segment. */
  readonly allPorts: boolean;
  readonly segment: number;
  /** Root ports. */
  readonly scopes: readonly DeviceScope[];
}

/** Reads and writes {@link Atsr}. */
export const atsr: StructureCodec<Atsr> = {
  type: 2,
  kind: 'ATSR',
  layout: erased(DMAR_ATSR),
  tail: 'scopes',
  read(words, { scopes }) {
    const fields = decode(DMAR_ATSR, words);
    return { kind: 'ATSR', allPorts: fields.ALL_PORTS === 1, segment: fields.SEGMENT, scopes };
  },
  write: (ports, lengthBytes) =>
    encode(DMAR_ATSR, {
      TYPE: 2,
      LENGTH: lengthBytes,
      ALL_PORTS: Number(ports.allPorts),
      SEGMENT: ports.segment,
    }),
};
