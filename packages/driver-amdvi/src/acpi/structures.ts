/**
 * The IVRS table: how firmware tells an operating system which AMD IOMMUs there are, which devices
 * they serve, and which memory must stay mapped for some of them.
 *
 * @spec AMD IOMMU 5.2 (I/O Virtualization ACPI table)
 */

/** Bytes before the first block: ACPI header, IVinfo, eight reserved ones. */
export const IVRS_HEADER_BYTES = 48;

/** Types of blocks that describe a unit; a higher one of the same unit supersedes a lower. */
export const IVHD = { FIXED: 0x10, WITH_EFR: 0x11, MIXED: 0x40 } as const;
/** Types of blocks that describe memory: for all devices, for one, for a range. */
export const IVMD = { ALL: 0x20, SELECT: 0x21, RANGE: 0x22 } as const;

/** Flags of a unit's block. */
export const IVHD_FLAG = {
  HT_TUN_EN: 1,
  PASS_PW: 2,
  RES_PASS_PW: 4,
  ISOC: 8,
  IOTLB_SUP: 16,
  COHERENT: 32,
  PREF_SUP: 64,
  PPR_SUP: 128,
} as const;

/** Flags of a memory block. */
export const IVMD_FLAG = { UNITY: 1, IR: 2, IW: 4, EXCLUSION: 8 } as const;

/** Types of entries in a unit's block. */
export const IVHD_ENTRY = {
  PAD: 0,
  ALL: 1,
  SELECT: 2,
  RANGE_START: 3,
  RANGE_END: 4,
  ALIAS: 0x42,
  ALIAS_RANGE: 0x43,
  EXT_SELECT: 0x46,
  EXT_RANGE: 0x47,
  SPECIAL: 0x48,
  ACPI: 0xf0,
} as const;

/** Varieties of special devices. */
export const SPECIAL_VARIETY = { IOAPIC: 1, HPET: 2 } as const;

/** One entry of a unit's block. */
export interface IvhdEntry {
  /** One of {@link IVHD_ENTRY}, or a number that is not known. */
  readonly type: number;
  /** DeviceID, 16 bits; 0 where there is none. */
  readonly deviceId: number;
  /** DTE settings: pass bits and SysMgt. */
  readonly setting: number;
  /** The alias under which requests of the device arrive; aliases only. */
  readonly aliasId?: number;
  /** Extended settings; extended entries only. */
  readonly extended?: number;
  /** APIC id or HPET number, and {@link SPECIAL_VARIETY}; special devices only. */
  readonly handle?: number;
  readonly variety?: number;
  /** Hardware id and unique id; ACPI devices only. */
  readonly hid?: string;
  readonly uid?: string;
  /** The entry as it stands. */
  readonly bytes: Uint8Array;
}

/** A unit. */
export interface Ivhd {
  readonly kind: 'IVHD';
  /** One of {@link IVHD}. */
  readonly type: number;
  /** Sum of {@link IVHD_FLAG} bits. */
  readonly flags: number;
  /** DeviceID of the unit's own function. */
  readonly deviceId: number;
  readonly capabilityOffset: number;
  /** Physical byte address of the registers. */
  readonly base: number;
  readonly segment: number;
  /** MsiNum and UnitID. */
  readonly info: number;
  /** Feature field (10h), or attributes (11h, 40h), 32 bits. */
  readonly features: number;
  /** EFR and EFR2 as firmware copied them; 11h and 40h only. */
  readonly efr?: bigint;
  readonly efr2?: bigint;
  readonly entries: readonly IvhdEntry[];
}

/** Memory that some devices use before and beside the operating system. */
export interface Ivmd {
  readonly kind: 'IVMD';
  /** One of {@link IVMD}. */
  readonly type: number;
  /** Sum of {@link IVMD_FLAG} bits. */
  readonly flags: number;
  /** First DeviceID; 0 for all devices. */
  readonly deviceId: number;
  /** Last DeviceID of a range, inclusive. */
  readonly endDeviceId: number;
  readonly segment: number;
  /** First byte. */
  readonly start: bigint;
  readonly lengthBytes: bigint;
}

/** A block of a type that is not known: kept as it is. */
export interface RawBlock {
  readonly kind: 'RAW';
  readonly type: number;
  readonly bytes: Uint8Array;
}

/** One block. */
export type IvrsBlock = Ivhd | Ivmd | RawBlock;

/** A table. */
export interface IvrsTable {
  readonly revision: number;
  readonly oemId: string;
  readonly oemTableId: string;
  readonly oemRevision: number;
  readonly creatorId: string;
  readonly creatorRevision: number;
  /** IVinfo: EFRSup 0, DMA remap 1, GVAsize 7:5, PAsize 14:8, VAsize 21:15, HtAtsResv 22. */
  readonly ivInfo: number;
  readonly blocks: readonly IvrsBlock[];
}

/** Something wrong in a table. */
export interface IvrsProblem {
  /** A table with an error is not used as a whole; a warning leaves it usable. */
  readonly severity: 'error' | 'warning';
  readonly rule: string;
  /** Byte of the table. */
  readonly offset: number;
  readonly message: string;
}
