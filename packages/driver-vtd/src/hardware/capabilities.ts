/**
 * What a unit can do: options or raw register values in, flat numbers out for everything else.
 *
 * @spec VT-d 11.4.1 to 11.4.3
 */
import { decode, encode, hi32, lo32, u64 } from '@iommukit/bits';
import { CAP, ECAP, VER } from '../spec/registers.ts';
import {
  type CapFields,
  checkRules,
  decodeCap,
  decodeEcap,
  type EcapFields,
} from './capability-rules.ts';

/** Fields of CAP and ECAP to change from {@link RECOMMENDED}, by the specification's names. */
export interface VtdCapabilityFields {
  /** VER: major version in [7:4], minor in [3:0]. */
  readonly ver?: number;
  readonly cap?: Partial<CapFields>;
  readonly ecap?: Partial<EcapFields>;
}

/** Raw register values, as a real machine reports them. */
export interface VtdCapabilityRegisters {
  readonly ver: number;
  readonly cap: bigint;
  readonly ecap: bigint;
}

/** Either form. */
export type VtdCapabilities = VtdCapabilityFields | VtdCapabilityRegisters;

/**
 * The full model: second stage of 3, 4, 5 levels, first stage of 4, 5 levels, nesting, PASID,
 * device TLBs, page requests, accessed/dirty of both stages; 8 fault records at 220h, IVA at F00h.
 */
export const RECOMMENDED: VtdCapabilityRegisters = {
  ver: 0x60,
  cap: 0x91d2_078c_2278_0e06n,
  ecap: 0x33_ed9e_a400_f0c7n,
};

/** A version 1 unit without scalable mode: register-based invalidation works, one fault record. */
export const LEGACY_PROFILE: VtdCapabilityRegisters = {
  ver: 0x10,
  cap: 0x00d2_008c_206f_0606n,
  ecap: 0x00f0_0f42n,
};

/** Default host address width, in bits: no register reports it, firmware does (DMAR). */
const DEFAULT_HAW_BITS = 46;

/** The capabilities as plain numbers and booleans, with everything an absent feature implies. */
export interface Features {
  readonly ver: number;
  readonly major: number;
  readonly capLo: number;
  readonly capHi: number;
  readonly ecapLo: number;
  readonly ecapHi: number;
  readonly hawBits: number;
  readonly didBits: number;
  readonly sagaw: number;
  /** Largest AW code that SAGAW supports (1 = 39, 2 = 48, 3 = 57 bits); 0 = none. */
  readonly largestAw: number;
  /** Largest supported adjusted guest address width in bits, over both stages. */
  readonly largestAgawBits: number;
  readonly mgawBits: number;
  readonly plmr: boolean;
  readonly phmr: boolean;
  readonly cachingMode: boolean;
  /** Faulting entries are kept in the caches (caching mode). */
  readonly keepsFaults: boolean;
  readonly zeroLengthRead: boolean;
  readonly ss2M: boolean;
  readonly ss1G: boolean;
  readonly pageSelective: boolean;
  readonly mamv: number;
  readonly fs1G: boolean;
  readonly fs5Level: boolean;
  readonly esrtps: boolean;
  readonly rwbf: boolean;
  readonly enhancedCommands: boolean;
  readonly frcdOffset: number;
  readonly frcdCount: number;
  readonly ivaOffset: number;
  readonly coherent: boolean;
  readonly qi: boolean;
  readonly deviceTlb: boolean;
  readonly interruptRemapping: boolean;
  readonly passThrough: boolean;
  readonly snoopControl: boolean;
  readonly memoryTypes: boolean;
  readonly nested: boolean;
  readonly pageRequests: boolean;
  readonly supervisor: boolean;
  readonly noWriteFlag: boolean;
  readonly extendedAccessed: boolean;
  readonly pasid: boolean;
  readonly pasidBits: number;
  readonly throttle: boolean;
  readonly pageRequestDrain: boolean;
  readonly scalable: boolean;
  readonly virtualCommands: boolean;
  readonly ssAccessedDirty: boolean;
  readonly secondStage: boolean;
  readonly firstStage: boolean;
  readonly scalableCoherent: boolean;
  readonly ridPasid: boolean;
  readonly abortDma: boolean;
  readonly ridPriv: boolean;
  readonly translatedPasid: boolean;
  readonly stopMarker: boolean;
  readonly resourceDirector: boolean;
  /** RTADDR.SSIRWE exists. */
  readonly ssIoRights: boolean;
  /** Translated requests can be checked against host permission tables (HPTS). */
  readonly hostPermission: boolean;
  /** Those tables can give permission for 1 GiB pages. */
  readonly hostPermission1G: boolean;
  /** IRTA.EIME exists: 32-bit APIC ids. */
  readonly extendedInterrupts: boolean;
  /** Interrupts are remapped in extended mode only (EIMER). */
  readonly extendedInterruptsRequired: boolean;
  /** Interrupt requests are blocked while remapping is off (IRREQ). */
  readonly remappingRequired: boolean;
  readonly postedInterrupts: boolean;
  /** SIRTP, and switching interrupt remapping off, empty the interrupt entry cache. */
  readonly esirtps: boolean;
}

/** Whether the options are raw register values. */
function isRegisters(caps: VtdCapabilities): caps is VtdCapabilityRegisters {
  return typeof caps.cap === 'bigint' && typeof caps.ecap === 'bigint';
}

function toRegisters(caps: VtdCapabilities): VtdCapabilityRegisters {
  if (isRegisters(caps)) return caps;
  const cap = decodeCap(RECOMMENDED.cap);
  const ecap = decodeEcap(RECOMMENDED.ecap);
  const capWords = encode(CAP, { ...cap, ...caps.cap });
  const ecapWords = encode(ECAP, { ...ecap, ...caps.ecap });
  return {
    ver: caps.ver ?? RECOMMENDED.ver,
    cap: u64(capWords[0] as number, capWords[1] as number),
    ecap: u64(ecapWords[0] as number, ecapWords[1] as number),
  };
}

function largestAwOf(sagaw: number): number {
  if (sagaw & 8) return 3;
  if (sagaw & 4) return 2;
  return sagaw & 2 ? 1 : 0;
}

/**
 * Derive the features.
 *
 * Named fields are checked against the specification's rules. Raw register values are taken as a
 * real machine reports them: bits that older revisions used otherwise are shown to software and
 * have no effect.
 *
 * @param hawBits host address width, 32 to 52
 * @throws {RangeError} when named fields contradict each other, or the width is out of range
 */
export function featuresOf(caps: VtdCapabilities = RECOMMENDED, hawBits?: number): Features {
  const registers = toRegisters(caps);
  if (!isRegisters(caps)) checkRules(registers.cap, registers.ecap);
  const cap = decodeCap(registers.cap);
  const ecap = decodeEcap(registers.ecap);
  const haw = hawBits ?? Math.min(DEFAULT_HAW_BITS, cap.MGAW + 1);
  if (!Number.isInteger(haw) || haw < 32 || haw > 52)
    throw new RangeError(`hostAddressWidthBits is ${haw}, expected 32 to 52`);
  const qi = ecap.QI === 1;
  const scalable = qi && ecap.SMTS === 1;
  const deviceTlb = qi && ecap.DT === 1;
  const sm = (bit: number) => scalable && bit === 1;
  const dt = (bit: number) => deviceTlb && bit === 1;
  const ir = (bit: number) => qi && ecap.IR === 1 && bit === 1;
  const largestAw = largestAwOf(cap.SAGAW);
  const firstStage = sm(ecap.FSTS);
  const fs5Level = firstStage && cap.FS5LP === 1;
  const scalableCoherent = sm(ecap.SMPWCS);
  return {
    ver: registers.ver & 0xff,
    major: decode(VER, [registers.ver & 0xff]).MAX,
    capLo: lo32(registers.cap),
    capHi: hi32(registers.cap),
    ecapLo: lo32(registers.ecap),
    ecapHi: hi32(registers.ecap),
    hawBits: haw,
    didBits: 4 + 2 * Math.min(cap.ND, 6),
    sagaw: cap.SAGAW & 0xe,
    largestAw,
    largestAgawBits: Math.max(
      30 + 9 * Math.max(largestAw, 1),
      firstStage ? (fs5Level ? 57 : 48) : 0,
    ),
    mgawBits: cap.MGAW + 1,
    plmr: cap.PLMR === 1,
    phmr: cap.PHMR === 1,
    cachingMode: cap.CM === 1,
    keepsFaults: cap.CM === 1,
    zeroLengthRead: cap.ZLR === 1,
    ss2M: (cap.SSLPS & 1) !== 0,
    ss1G: (cap.SSLPS & 2) !== 0,
    pageSelective: cap.PSI === 1,
    mamv: cap.MAMV,
    fs1G: cap.FS1GP === 1,
    fs5Level,
    esrtps: cap.ESRTPS === 1,
    rwbf: cap.RWBF === 1 && !scalable,
    enhancedCommands: cap.ECMDS === 1,
    frcdOffset: cap.FRO * 16,
    frcdCount: cap.NFR + 1,
    ivaOffset: ecap.IRO * 16,
    coherent: ecap.C === 1,
    qi,
    deviceTlb,
    interruptRemapping: ir(1),
    passThrough: ecap.PT === 1,
    snoopControl: ecap.SC === 1,
    memoryTypes: sm(ecap.MTS),
    nested: sm(ecap.NEST) && sm(ecap.FSTS) && sm(ecap.SSTS),
    pageRequests: sm(ecap.PRS) && deviceTlb,
    supervisor: sm(ecap.SRS),
    noWriteFlag: dt(ecap.NWFS),
    extendedAccessed: firstStage && ecap.EAFS === 1,
    pasid: sm(ecap.PASID),
    pasidBits: sm(ecap.PASID) ? Math.min(ecap.PSS + 1, 20) : 0,
    throttle: dt(ecap.DIT),
    pageRequestDrain: dt(ecap.PDS),
    scalable,
    virtualCommands: sm(ecap.VCS),
    ssAccessedDirty: sm(ecap.SSADS) && sm(ecap.SSTS),
    secondStage: sm(ecap.SSTS),
    firstStage,
    scalableCoherent,
    ridPasid: sm(ecap.RPS),
    abortDma: ecap.ADMS === 1,
    ridPriv: sm(ecap.RPRIVS) && sm(ecap.SRS),
    translatedPasid: dt(ecap.PTRS) && sm(ecap.PASID),
    stopMarker: dt(ecap.SMS),
    resourceDirector: ecap.RDTS === 1,
    ssIoRights: sm(ecap.SSIRWS) && sm(ecap.SSTS),
    hostPermission: sm(ecap.HPTS) && deviceTlb,
    hostPermission1G: sm(ecap.HPTS) && deviceTlb && ecap.HPT1GPS === 1,
    extendedInterrupts: ir(ecap.EIM),
    extendedInterruptsRequired: ir(ecap.EIM) && ecap.EIMER === 1,
    remappingRequired: ir(ecap.IRREQ),
    postedInterrupts: ir(cap.PI),
    esirtps: ir(cap.ESIRTPS),
  };
}
