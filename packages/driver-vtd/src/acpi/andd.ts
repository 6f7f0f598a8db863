/**
 * ANDD: ACPI name-space device declaration.
 *
 * @spec VT-d 8.7
 */
import { decode, defineLayout, encode, uint } from '@iommukit/bits';
import { erased, type StructureCodec, structureHead } from './structure-codec.ts';

/** Fixed fields of an ANDD; the name follows. */
export const DMAR_ANDD = defineLayout({
  name: 'DMAR_ANDD',
  bits: 64,
  spec: 'VT-d 8.7',
  doc: 'the name of a DMA-capable device that only ACPI enumerates',
  fields: {
    ...structureHead,
    DEVICE_NUMBER: uint(63, 56, 'enumeration id of the device scopes that mean it'),
  },
});

/** The name of a device of the ACPI namespace. */
export interface Andd {
  readonly kind: 'ANDD';
  /** Enumeration id of the device scopes that mean it, 8 bits. */
  readonly acpiDeviceNumber: number;
  /** Path in the namespace, `'\\_SB.PCI0.I2C0'`; one character per byte. */
  readonly objectName: string;
  /** NULs behind the name, at least the one that ends it; firmware often pads. */
  readonly paddingBytes: number;
}

/** Reads and writes {@link Andd}. */
export const andd: StructureCodec<Andd> = {
  type: 4,
  kind: 'ANDD',
  layout: erased(DMAR_ANDD),
  tail: 'text',
  read(words, { text, paddingBytes }) {
    const fields = decode(DMAR_ANDD, words);
    return {
      kind: 'ANDD',
      acpiDeviceNumber: fields.DEVICE_NUMBER,
      objectName: text,
      paddingBytes,
    };
  },
  write: (device, lengthBytes) =>
    encode(DMAR_ANDD, { TYPE: 4, LENGTH: lengthBytes, DEVICE_NUMBER: device.acpiDeviceNumber }),
};
