/**
 * The first 48 bytes of a DMAR table: the ACPI table header, and what concerns all units.
 *
 * @spec VT-d 8.1
 */
import { decode, defineLayout, encode, flag, uint } from '@iommukit/bits';
import { latin1, latin1Bytes, wordsToBytes } from './bytes.ts';

/** Bytes of the header; the first remapping structure follows. */
export const DMAR_HEADER_BYTES = 48;

/** `'DMAR'`, little endian. */
export const DMAR_SIGNATURE = 0x5241_4d44;

/** Layout of the header; texts of more than four bytes are read as bytes. */
export const DMAR_HEADER = defineLayout({
  name: 'DMAR_HEADER',
  bits: 384,
  spec: 'VT-d 8.1',
  doc: 'DMA remapping reporting table: header',
  fields: {
    SIGNATURE: uint(31, 0, "'DMAR'"),
    LENGTH: uint(63, 32, 'bytes of the whole table'),
    REVISION: uint(71, 64, 'revision of the table'),
    CHECKSUM: uint(79, 72, 'makes all bytes sum to 0 modulo 256'),
    OEM_ID: uint(127, 80, 'six characters'),
    OEM_TABLE_ID: uint(191, 128, 'eight characters'),
    OEM_REVISION: uint(223, 192),
    CREATOR_ID: uint(255, 224, 'four characters'),
    CREATOR_REVISION: uint(287, 256),
    HAW: uint(295, 288, 'host address width - 1'),
    INTR_REMAP: flag(296, 'platform supports interrupt remapping'),
    X2APIC_OPT_OUT: flag(297, 'firmware asks software not to use x2APIC mode'),
    DMA_CTRL_PLATFORM_OPT_IN: flag(298, 'firmware restricts DMA to RMRRs before it hands over'),
  },
});

/** The header as a description. Texts hold one character per byte, trailing NULs left out. */
export interface DmarHeader {
  /** 8 bits. */
  readonly revision: number;
  /** Up to 6 characters. */
  readonly oemId: string;
  /** Up to 8 characters. */
  readonly oemTableId: string;
  /** u32. */
  readonly oemRevision: number;
  /** Up to 4 characters. */
  readonly creatorId: string;
  /** u32. */
  readonly creatorRevision: number;
  /** Width of a host physical address in bits, 1 to 256 as encoded; real ones have 32 to 52. */
  readonly hostAddressWidthBits: number;
  /** INTR_REMAP. */
  readonly interruptRemapping: boolean;
  /** X2APIC_OPT_OUT. */
  readonly x2apicOptOut: boolean;
  /** DMA_CTRL_PLATFORM_OPT_IN. */
  readonly dmaControlOptIn: boolean;
}

/** Offsets and lengths of the texts, bytes. */
const TEXT = { oemId: [10, 6], oemTableId: [16, 8], creatorId: [28, 4] } as const;

/** Where the fields stand that messages point at, byte offsets. */
export const HEADER_OFFSET = { LENGTH: 4, REVISION: 8, CHECKSUM: 9, HAW: 36, FLAGS: 37 } as const;

/** Read the header; `bytes` and `words` hold at least 48 bytes. */
export const readHeader = (bytes: Uint8Array, words: Uint32Array): DmarHeader => {
  const fields = decode(DMAR_HEADER, words);
  const text = ([offset, length]: readonly [number, number]) =>
    latin1(bytes.subarray(offset, offset + length)).replace(/\0+$/, '');
  return {
    revision: fields.REVISION,
    oemId: text(TEXT.oemId),
    oemTableId: text(TEXT.oemTableId),
    oemRevision: fields.OEM_REVISION,
    creatorId: text(TEXT.creatorId),
    creatorRevision: fields.CREATOR_REVISION,
    hostAddressWidthBits: fields.HAW + 1,
    interruptRemapping: fields.INTR_REMAP === 1,
    x2apicOptOut: fields.X2APIC_OPT_OUT === 1,
    dmaControlOptIn: fields.DMA_CTRL_PLATFORM_OPT_IN === 1,
  };
};

/**
 * Header bytes with checksum 0.
 *
 * @param lengthBytes of the whole table
 * @throws {RangeError} when a number or text does not fit its field
 */
export const writeHeader = (header: DmarHeader, lengthBytes: number): Uint8Array => {
  const words = encode(DMAR_HEADER, {
    SIGNATURE: DMAR_SIGNATURE,
    LENGTH: lengthBytes,
    REVISION: header.revision,
    OEM_REVISION: header.oemRevision,
    CREATOR_REVISION: header.creatorRevision,
    HAW: header.hostAddressWidthBits - 1,
    INTR_REMAP: Number(header.interruptRemapping),
    X2APIC_OPT_OUT: Number(header.x2apicOptOut),
    DMA_CTRL_PLATFORM_OPT_IN: Number(header.dmaControlOptIn),
  });
  const bytes = wordsToBytes(words);
  for (const name of ['oemId', 'oemTableId', 'creatorId'] as const) {
    const [offset, length] = TEXT[name];
    bytes.set(latin1Bytes(name, header[name], length), offset);
  }
  return bytes;
};
