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
  /** Output addresses have bits 51:48 (64K granule). */
  readonly wide: boolean;
  /** No access flag faults. */
  readonly affd: boolean;
  /** Table walks must not hit device memory (S2PTW). */
  readonly protectWalks: boolean;
  /** Faults are recorded (S2R). */
  readonly record: boolean;
}

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
}

/** A context, as its CD describes it. */
export interface Stage1Config {
  /** The CD is not valid: C_BAD_CD. */
  readonly bad: boolean;
  readonly asid: number;
  /** ASID set: 0 shared with CPUs, 1 private. */
  readonly aset: number;
  /** TTB0; undefined = switched off. */
  readonly lower: Stage1Half | undefined;
  /** TTB1; undefined = switched off. */
  readonly upper: Stage1Half | undefined;
  /** First byte beyond the output range. */
  readonly outputBytes: number;
  readonly affd: boolean;
  readonly wxn: boolean;
  readonly pan: boolean;
  readonly tbi0: boolean;
  readonly tbi1: boolean;
  readonly record: boolean;
}
