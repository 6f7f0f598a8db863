import { decode } from '@iommukit/bits';
import { refuse } from '@iommukit/core';
import { AIDR, IDR0, IDR1, IDR3, IDR5, STALL_MODEL, TTENDIAN, TTF } from '../spec/registers.ts';
import type { RegisterFile } from './register-file.ts';

/** Output size codes in bits. */
const ADDRESS_BITS = [32, 36, 40, 42, 44, 48, 52, 52] as const;
/** Code of 48 bits, the most that 4K tables without 52-bit descriptors reach. */
const MAX_OA_CODE = 5;
const IDR_COUNT = 6;
const IIDR_OFFSET = 0x18;
const RID_BITS = 16;
/** IDR0.HTTU from which hardware keeps dirty state. */
const HTTU_DIRTY = 2;
/** SubstreamIDs that one linear CD table holds, lg2. */
const LINEAR_SSID_BITS = 10;

/** What the host half needs to know of a unit. */
export interface Capabilities {
  /** IDR0 to IDR5, IIDR and AIDR, for hw_info. */
  readonly idr: readonly number[];
  readonly iidr: number;
  readonly aidr: number;
  readonly stage1: boolean;
  readonly stage2: boolean;
  /** The unit has EL2 stream worlds (IDR0.HYP). */
  readonly el2: boolean;
  /** Stage 1 of the host is in the EL2-E2H world. */
  readonly e2h: boolean;
  readonly asidBits: number;
  readonly vmidBits: number;
  /** RIDs that are StreamIDs. */
  readonly sidBits: number;
  /** Width of a SubstreamID that the host's CD tables reach; 0 = none. */
  readonly ssidBits: number;
  readonly cdTwoLevel: boolean;
  readonly streamTwoLevel: boolean;
  readonly rangeInvalidation: boolean;
  readonly commandQueueLg2: number;
  readonly eventQueueLg2: number;
  /** Walks of tables snoop the CPU's caches (IDR0.COHACC). */
  readonly coherent: boolean;
  /** Hardware keeps dirty state in stage-1 leaves of coherent tables. */
  readonly dirtyTracking: boolean;
  readonly ats: boolean;
  readonly pri: boolean;
  readonly pageRequestQueueLg2: number;
  /** One of {@link STALL_MODEL}. */
  readonly stallModel: number;
  /** Stage 2 can force write-back memory (IDR3.FWB). */
  readonly forcedWriteBack: boolean;
  /** Width of an IOVA of stage-1 tables. */
  readonly vaBits: number;
  /** Width of an IOVA (IPA) of stage-2 tables. */
  readonly ipaBits: number;
  readonly oaBits: number;
  /** IPS and S2PS code for `oaBits`. */
  readonly oaCode: number;
}

/**
 * Read what a unit is.
 *
 * @param vhe the host runs at EL2 with VHE, and wants its streams there
 * @throws {IommuError} ENODEV for a unit without little-endian AArch64 tables, the 4K granule, or MSI
 */
export const readCapabilities = (registers: RegisterFile, vhe: boolean): Capabilities => {
  const idr = Array.from({ length: IDR_COUNT }, (_, n) => registers.readReg32(4 * n));
  const idr0 = decode(IDR0, [registers.readReg32(IDR0.offset)]);
  const idr1 = decode(IDR1, [registers.readReg32(IDR1.offset)]);
  const idr3 = decode(IDR3, [registers.readReg32(IDR3.offset)]);
  const idr5 = decode(IDR5, [registers.readReg32(IDR5.offset)]);
  need((idr0.TTF & TTF.AARCH64) !== 0, 'AArch64 tables (IDR0.TTF)');
  need(idr0.TTENDIAN !== TTENDIAN.BIG, 'little-endian tables (IDR0.TTENDIAN)');
  need(idr5.GRAN4K === 1, 'the 4K granule (IDR5.GRAN4K)');
  need(idr0.MSI === 1, 'message-signalled interrupts (IDR0.MSI)');
  const oaCode = Math.min(idr5.OAS, MAX_OA_CODE);
  const oaBits = ADDRESS_BITS[oaCode] as number;
  return {
    idr,
    iidr: registers.readReg32(IIDR_OFFSET),
    aidr: registers.readReg32(AIDR.offset),
    stage1: idr0.S1P === 1,
    stage2: idr0.S2P === 1,
    el2: idr0.HYP === 1,
    e2h: vhe && idr0.HYP === 1,
    asidBits: idr0.ASID16 === 1 ? 16 : 8,
    vmidBits: idr0.VMID16 === 1 ? 16 : 8,
    sidBits: Math.min(idr1.SIDSIZE, RID_BITS),
    ssidBits: ssidBits(idr0, idr1),
    cdTwoLevel: idr0.CD2L === 1,
    streamTwoLevel: idr0.ST_LEVEL === 1 && idr1.SIDSIZE > 8,
    rangeInvalidation: idr3.RIL === 1,
    commandQueueLg2: Math.min(idr1.CMDQS, 8),
    eventQueueLg2: Math.min(idr1.EVENTQS, 7),
    coherent: idr0.COHACC === 1,
    dirtyTracking: idr0.S1P === 1 && idr0.HTTU >= HTTU_DIRTY && idr0.COHACC === 1,
    ats: idr0.ATS === 1,
    pri: idr0.ATS === 1 && idr0.PRI === 1,
    pageRequestQueueLg2: Math.min(idr1.PRIQS, 8),
    stallModel: idr0.STALL_MODEL,
    forcedWriteBack: idr0.S2P === 1 && idr3.FWB === 1,
    vaBits: 48,
    ipaBits: oaBits,
    oaBits,
    oaCode,
  };
};

/** A linear table ends at 1024 CDs. */
const ssidBits = (
  idr0: { readonly S1P: number; readonly CD2L: number },
  { SSIDSIZE }: { readonly SSIDSIZE: number },
): number => {
  if (idr0.S1P === 0) return 0;
  return idr0.CD2L === 1 ? SSIDSIZE : Math.min(SSIDSIZE, LINEAR_SSID_BITS);
};

/** Faults of every stream stall, whatever the driver wants. */
export const stallIsForced = ({ stallModel }: Capabilities): boolean =>
  stallModel === STALL_MODEL.STALL_FORCED;

/** The unit can stall, and leaves it to the driver. */
export const stallIsOptional = ({ stallModel }: Capabilities): boolean =>
  stallModel === STALL_MODEL.BOTH;

const need = (satisfied: boolean, what: string): void => {
  if (satisfied) return;
  throw refuse('ENODEV', 'bring-up', 'unit-features', `the unit lacks ${what}`, {
    accepted: 'a unit with little-endian AArch64 tables, the 4K granule and MSI',
  });
};
