/**
 * VMSAv8-64 stage 1 and stage 2, as SMMUv3 walks them.
 * @spec Arm ARM D8
 * @spec SMMUv3 3.4
 * @linux drivers/iommu/io-pgtable-arm.c
 * @module
 */
import type { EngineImage } from '../engine/engine.ts';
import * as s1g4 from '../generated/arm-s1-4k.ts';
import * as s1g16 from '../generated/arm-s1-16k.ts';
import * as s1g64 from '../generated/arm-s1-64k.ts';
import * as s2g4 from '../generated/arm-s2-4k.ts';
import * as s2g16 from '../generated/arm-s2-16k.ts';
import * as s2g64 from '../generated/arm-s2-64k.ts';
import { createArmDecoder } from './arm-decoder.ts';
import { type ArmGeometry, type ArmOptions, armGeometry } from './arm-geometry.ts';
import type { PageTableFormat } from './format.ts';

/** Options of {@link armStage1}. */
export type ArmStage1Options = ArmOptions;

/** Options of {@link armStage2}. */
export interface ArmStage2Options extends ArmOptions {
  /** Architectural start level, -1..3. Default: as the kernel, concatenated where at most 16 tables do. */
  readonly startLevel?: number;
  /** S2FWB memory attributes. Default false. */
  readonly fwb?: boolean;
}

const OPTION_DS = 1;
const OPTION_DIRTY = 2;
const OPTION_FWB = 4;

const STAGE1: Readonly<Record<number, EngineImage>> = { 12: s1g4, 14: s1g16, 16: s1g64 };
const STAGE2: Readonly<Record<number, EngineImage>> = { 12: s2g4, 14: s2g16, 16: s2g64 };

/** log2 of the 4 KiB pages that a table of `entries` entries takes. */
function orderOf(entries: number): number {
  return Math.max(0, Math.ceil(Math.log2((entries * 8) / 4096)));
}

function armFormat(
  name: string,
  stage: 1 | 2,
  engine: EngineImage,
  geometry: ArmGeometry,
  options: ArmStage2Options,
): PageTableFormat {
  const { levels, iovaBits, oaBits, granuleLg2, rootEntries, pageSizesLg2 } = geometry;
  return {
    name,
    engine,
    decoder: createArmDecoder(stage, geometry),
    levels,
    maxLevels: levels,
    growing: false,
    iovaBits,
    oaBits,
    tableBits: geometry.ds || granuleLg2 === 16 ? 52 : 48,
    frameLg2: 12,
    granuleLg2,
    pageSizesLg2,
    signExtended: false,
    rootEntries,
    order: granuleLg2 - 12,
    rootOrder: orderOf(rootEntries),
    options:
      (geometry.ds ? OPTION_DS : 0) |
      (options.dirtyTracking ? OPTION_DIRTY : 0) |
      (options.fwb ? OPTION_FWB : 0),
  };
}

/**
 * Stage 1: one half of the address space (TTB0, or TTB1 with the upper bits taken off).
 * @throws {RangeError} naming the option
 */
export function armStage1(options: ArmStage1Options = {}): PageTableFormat {
  const geometry = armGeometry('arm-s1', 1, options);
  return armFormat('arm-s1', 1, STAGE1[geometry.granuleLg2] as EngineImage, geometry, options);
}

/**
 * Stage 2. `iovaBits` is the IPA width; the root holds up to 16 concatenated tables, aligned to its size.
 * @throws {RangeError} naming the option
 */
export function armStage2(options: ArmStage2Options = {}): PageTableFormat {
  const geometry = armGeometry('arm-s2', 2, options);
  return armFormat('arm-s2', 2, STAGE2[geometry.granuleLg2] as EngineImage, geometry, options);
}
