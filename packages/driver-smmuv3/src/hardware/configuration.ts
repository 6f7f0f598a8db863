/**
 * Stream table entries and context descriptors, checked and decoded once, when they are fetched.
 */

/** What an STE says about stage 2. */
export interface Stage2Config {
  /** Byte address of the start table. */
  readonly root: number;
  readonly granuleLg2: number;
  readonly startLevel: number;
  /** First 4 KiB frame beyond the input range. */
  readonly inputFrames: number;
  /** First byte beyond the output range. */
  readonly outputBytes: number;
  /** Descriptors have output bits 51:48 (64K granule, or DS). */
  readonly wide: boolean;
  readonly bigEndian: boolean;
  /** No access flag faults. */
  readonly affd: boolean;
  /** Hardware sets the access flag (S2HA), in table descriptors too (S2HAFT). */
  readonly ha: boolean;
  readonly haft: boolean;
  /** Hardware makes writable-clean descriptors dirty (S2HD). */
  readonly hd: boolean;
  /** XN has two bits (IDR3.XNX). */
  readonly xnx: boolean;
  /** Bits of MemAttr that are all 0 for device memory. */
  readonly deviceMask: number;
  /** Table walks must not hit device memory (S2PTW). */
  readonly protectWalks: boolean;
  /** TERMS of its faults (S2R, S2S). */
  readonly terms: number;
}

/** STE.PRIVCFG and INSTCFG. */
export const OVERRIDE = { INCOMING: 0, CLEAR: 2, SET: 3 } as const;

/** A stream, as its STE describes it. */
export interface StreamConfig {
  /** The STE is not valid: C_BAD_STE. */
  readonly bad: boolean;
  /** One of STE_CONFIG; 0 to 3 abort. */
  readonly config: number;
  /** Tag of cached translations. */
  readonly vmid: number;
  readonly stage2: Stage2Config | undefined;
  /** Byte address of the CD or CD table: an IPA when there is a stage 2. */
  readonly cdTable: number;
  /** lg2 of the CDs; 0 = one, no substreams. */
  readonly cdMax: number;
  /** One of S1_FMT. */
  readonly cdFormat: number;
  /** One of S1_DSS. */
  readonly defaultSubstream: number;
  /** One of EATS; which of them are in force CR0.ATSCHK says. */
  readonly eats: number;
  /** Automatic answers to page requests may repeat the PASID (PPAR). */
  readonly answersWithPasid: boolean;
  /** STRW, for streams with stage 1 alone. */
  readonly world: number;
  /** Contexts must not stall (S1STALLD). */
  readonly stage1NeverStalls: boolean;
  /** Replace the privilege of requests: 0 or 1 not, 2 unprivileged, 3 privileged (PRIVCFG). */
  readonly privilegeOverride: number;
  /** Replace the instruction attribute of reads: 0 or 1 not, 2 data, 3 instruction (INSTCFG). */
  readonly instructionOverride: number;
}

/** One half of the stage-1 input range. */
export interface Stage1Half {
  readonly root: number;
  readonly granuleLg2: number;
  readonly startLevel: number;
  /** 4 KiB frames of the half. */
  readonly inputFrames: number;
  readonly wide: boolean;
  /** Hierarchical permissions are ignored. */
  readonly had: boolean;
  /** User accesses find nothing here (E0PD). */
  readonly e0pd: boolean;
}

/** A context, as its CD describes it. */
export interface Stage1Config {
  /** The CD is not valid: C_BAD_CD. */
  readonly bad: boolean;
  /** One of WORLD. */
  readonly world: number;
  /** -1 in a world without ASIDs. */
  readonly asid: number;
  /** ASID set: 0 shared with CPUs, 1 private. */
  readonly aset: number;
  /** TTB0; undefined = switched off. */
  readonly lower: Stage1Half | undefined;
  /** TTB1; undefined = switched off. */
  readonly upper: Stage1Half | undefined;
  /** First byte beyond the output range. */
  readonly outputBytes: number;
  readonly bigEndian: boolean;
  readonly affd: boolean;
  /** Hardware sets the access flag, in table descriptors too (HAFT). */
  readonly ha: boolean;
  readonly haft: boolean;
  /** Hardware makes writable-clean descriptors dirty. */
  readonly hd: boolean;
  readonly wxn: boolean;
  readonly pan: boolean;
  /** PAN counts for pages that users can only execute, too. */
  readonly epan: boolean;
  readonly tbi0: boolean;
  readonly tbi1: boolean;
  /** TERMS of its faults (A, R, S). */
  readonly terms: number;
}

/** Stream worlds: whose translations these are; also their place in the tags of the TLB. */
export const WORLD = { NS_EL1: 0, EL2: 1, EL2_E2H: 2 } as const;
