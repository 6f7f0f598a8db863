/**
 * What a unit can do: identification registers in, plain numbers out.
 *
 * @spec SMMUv3 6.3.1 to 6.3.8
 */
import { decode, encode, type Layout } from '@iommukit/bits';
import {
  AIDR,
  IDR0,
  IDR1,
  IDR3,
  IDR4,
  IDR5,
  IIDR,
  STALL_MODEL,
  TTENDIAN,
  TTF,
} from '../spec/registers.ts';

type FieldsOf<R> = R extends { readonly fields: infer F }
  ? { readonly [N in keyof F]?: number }
  : never;

/** An identification register: fields to change from {@link DEFAULT_ID}, or the whole value. */
type IdChoice<R> = FieldsOf<R> | number;

/** The identification registers of a unit; what is left out is as in {@link DEFAULT_ID}. */
export interface SmmuCapabilities {
  readonly idr0?: IdChoice<typeof IDR0>;
  readonly idr1?: IdChoice<typeof IDR1>;
  readonly idr3?: IdChoice<typeof IDR3>;
  /** Implementation defined. */
  readonly idr4?: number;
  readonly idr5?: IdChoice<typeof IDR5>;
  /** Product, variant, revision and implementer; default 0. */
  readonly iidr?: number;
  /** Architecture version: 0x03 is v3.3; default 0x01. */
  readonly aidr?: number;
  /** Reserved bits in STEs and CDs make them invalid; default: they are ignored. */
  readonly strictReserved?: boolean;
  /** Stage-2 start levels that are reserved for the output size are invalid; default: accepted. */
  readonly strictStartLevels?: boolean;
}

/**
 * Both stages, 48-bit addresses, all granules, substreams, range invalidation, access flag and dirty
 * state by hardware; faults abort.
 */
export const DEFAULT_ID = {
  idr0: {
    S2P: 1,
    S1P: 1,
    TTF: TTF.AARCH64,
    COHACC: 1,
    ATS: 1,
    HTTU: 2,
    ASID16: 1,
    MSI: 1,
    PRI: 1,
    VMID16: 1,
    CD2L: 1,
    TTENDIAN: TTENDIAN.LITTLE,
    ATSRECERR: 1,
    STALL_MODEL: STALL_MODEL.TERMINATE_ONLY,
    TERM_MODEL: 1,
    ST_LEVEL: 1,
  },
  idr1: { SIDSIZE: 16, SSIDSIZE: 20, PRIQS: 19, EVENTQS: 19, CMDQS: 19 },
  idr3: { HAD: 1, PPS: 1, RIL: 1, XNX: 1 },
  idr5: { OAS: 5, GRAN4K: 1, GRAN16K: 1, GRAN64K: 1 },
} as const;

/** Output size codes (OAS, IPS, S2PS) in bits; 7 acts as 6. */
const ADDRESS_BITS = [32, 36, 40, 42, 44, 48, 52, 52] as const;
/** Codes above this act as it in v3.0. */
const MAX_CODE_V30 = 5;

/** Bits of an output size code. @param version minor architecture version */
export const addressBits = (code: number, version: number): number =>
  ADDRESS_BITS[version === 0 ? Math.min(code, MAX_CODE_V30) : code] ?? 52;

/** Fields that must keep the value they have in {@link DEFAULT_ID}: nothing else is modelled. */
const FIXED = {
  idr0: ['TTF', 'ATOS', 'VATOS', 'RME_IMPL'],
  idr1: ['REL', 'QUEUES_PRESET', 'TABLES_PRESET', 'ECMDQ'],
  idr3: ['MPAM'],
  idr5: ['D128'],
} as const;

/** Fields that are reserved without another one: they read 0 then. */
const RESERVED_WITHOUT = {
  S1P: ['HYP', 'NS1ATS', 'ASID16'],
  S2P: ['HYP', 'NS1ATS', 'VMID16', 'VMW'],
  ATS: ['NS1ATS', 'PRI', 'ATSRECERR'],
} as const;

/** The capabilities as plain numbers and booleans. */
export interface Features {
  /** Values of the identification registers by offset. */
  readonly registers: readonly (readonly [offset: number, value: number])[];
  /** Minor architecture version. */
  readonly version: number;
  readonly stage1: boolean;
  readonly stage2: boolean;
  readonly asid16: boolean;
  readonly vmid16: boolean;
  readonly cdTwoLevel: boolean;
  readonly streamTwoLevel: boolean;
  readonly msi: boolean;
  /** Translation requests and translated requests. */
  readonly ats: boolean;
  /** ATS that answers with an IPA (STE.EATS 2). */
  readonly splitStageAts: boolean;
  /** CR2.REC_CFG_ATS can be set. */
  readonly recordsAtsErrors: boolean;
  /** Page request queue. */
  readonly pri: boolean;
  /** Automatic answers to page requests repeat the PASID whatever the STE says (IDR3.PPS). */
  readonly answersWithPasid: boolean;
  readonly pageRequestQueueLg2: number;
  /** Events for waiting CPUs (SEV). */
  readonly sev: boolean;
  readonly sidBits: number;
  readonly ssidBits: number;
  readonly eventQueueLg2: number;
  readonly commandQueueLg2: number;
  /** Hardware updates: 0 none, 1 access flag, 2 dirty state too, 3 flag of tables too. */
  readonly httu: number;
  /** EL2 stream worlds. */
  readonly hyp: boolean;
  /** Invalidations may ignore low VMID bits. */
  readonly vmidWildcards: boolean;
  /** Faults may stall; they may do otherwise; it can be forbidden by stream. */
  readonly stalls: boolean;
  readonly terminates: boolean;
  readonly stallIsOptional: boolean;
  /** Stalled requests at most. */
  readonly stallMax: number;
  /** Terminated requests abort always (TERM_MODEL). */
  readonly abortsOnly: boolean;
  /** Byte orders of tables there are. */
  readonly littleEndian: boolean;
  readonly bigEndian: boolean;
  /** PRIVCFG and INSTCFG count. */
  readonly overridesPermissions: boolean;
  readonly had: boolean;
  readonly e0pd: boolean;
  readonly epan: boolean;
  readonly xnx: boolean;
  readonly forcedWriteBack: boolean;
  readonly smallTables: boolean;
  readonly rangeInvalidation: boolean;
  /** Bits of an output address (OAS); also of an IPA (IAS). */
  readonly oaBits: number;
  /** Granule shifts there are: 12, 14, 16. */
  readonly granules: readonly number[];
  /** 52-bit addresses with the 4K and 16K granules. */
  readonly ds: boolean;
  /** 52-bit virtual addresses. */
  readonly va52: boolean;
  readonly strictReserved: boolean;
  readonly strictStartLevels: boolean;
}

/**
 * @throws {RangeError} for a field value that is not modelled or does not fit its field
 */
export const resolveFeatures = (capabilities: SmmuCapabilities = {}): Features => {
  const idr0 = withoutReserved(merge(IDR0, 'idr0', capabilities.idr0));
  const idr1 = { ...merge(IDR1, 'idr1', capabilities.idr1), ...(idr0.PRI === 0 && { PRIQS: 0 }) };
  const idr3 = merge(IDR3, 'idr3', capabilities.idr3);
  const idr5 = merge(IDR5, 'idr5', capabilities.idr5);
  const { iidr = 0, aidr = 1, idr4 = 0 } = capabilities;
  checkCombination(idr0, idr1, idr5);
  return {
    registers: [
      [IDR0.offset, word(IDR0, idr0)],
      [IDR1.offset, word(IDR1, idr1)],
      [IDR3.offset, word(IDR3, idr3)],
      [IDR4.offset, idr4],
      [IDR5.offset, word(IDR5, idr5)],
      [IIDR.offset, iidr],
      [AIDR.offset, aidr],
    ],
    version: aidr & AIDR.fields.MINOR.mask,
    ...featuresOfIdr0(idr0),
    answersWithPasid: idr3.PPS === 1,
    pageRequestQueueLg2: Math.min(idr1.PRIQS, 19),
    sidBits: Math.min(idr1.SIDSIZE, 32),
    ssidBits: Math.min(idr1.SSIDSIZE, 20),
    eventQueueLg2: Math.min(idr1.EVENTQS, 19),
    commandQueueLg2: Math.min(idr1.CMDQS, 19),
    overridesPermissions: idr1.ATTR_PERMS_OVR === 1,
    had: idr3.HAD === 1,
    e0pd: idr3.E0PD === 1,
    epan: idr3.EPAN === 1,
    xnx: idr3.XNX === 1,
    forcedWriteBack: idr3.FWB === 1,
    smallTables: idr3.STT === 1,
    rangeInvalidation: idr3.RIL === 1,
    stallMax: idr0.STALL_MODEL === STALL_MODEL.TERMINATE_ONLY ? 0 : idr5.STALL_MAX,
    oaBits: addressBits(idr5.OAS, aidr & AIDR.fields.MINOR.mask),
    granules: [
      ...(idr5.GRAN4K === 1 ? [12] : []),
      ...(idr5.GRAN16K === 1 ? [14] : []),
      ...(idr5.GRAN64K === 1 ? [16] : []),
    ],
    ds: idr5.DS === 1,
    va52: idr5.VAX === 1,
    strictReserved: capabilities.strictReserved ?? false,
    strictStartLevels: capabilities.strictStartLevels ?? false,
  };
};

const featuresOfIdr0 = (idr0: IdValues<typeof IDR0>) => ({
  stage1: idr0.S1P === 1,
  stage2: idr0.S2P === 1,
  asid16: idr0.ASID16 === 1,
  vmid16: idr0.VMID16 === 1,
  cdTwoLevel: idr0.CD2L === 1,
  streamTwoLevel: idr0.ST_LEVEL === 1,
  msi: idr0.MSI === 1,
  sev: idr0.SEV === 1,
  ats: idr0.ATS === 1,
  splitStageAts: idr0.NS1ATS === 0 && idr0.S1P === 1 && idr0.S2P === 1,
  recordsAtsErrors: idr0.ATSRECERR === 1,
  pri: idr0.PRI === 1,
  httu: idr0.HTTU,
  hyp: idr0.HYP === 1,
  vmidWildcards: idr0.VMW === 1,
  stalls: idr0.STALL_MODEL !== STALL_MODEL.TERMINATE_ONLY,
  terminates: idr0.STALL_MODEL !== STALL_MODEL.STALL_FORCED,
  stallIsOptional: idr0.STALL_MODEL === STALL_MODEL.BOTH,
  abortsOnly: idr0.TERM_MODEL === 1,
  littleEndian: idr0.TTENDIAN !== TTENDIAN.BIG,
  bigEndian: idr0.TTENDIAN === TTENDIAN.MIXED || idr0.TTENDIAN === TTENDIAN.BIG,
});

const withoutReserved = (idr0: IdValues<typeof IDR0>): IdValues<typeof IDR0> => {
  const values: Record<string, number> = { ...idr0 };
  for (const [field, dependent] of Object.entries(RESERVED_WITHOUT)) {
    if (values[field] === 0) for (const name of dependent) values[name] = 0;
  }
  return values as IdValues<typeof IDR0>;
};

/** What no unit has. */
const checkCombination = (
  idr0: IdValues<typeof IDR0>,
  idr1: IdValues<typeof IDR1>,
  idr5: IdValues<typeof IDR5>,
): void => {
  if (idr0.S1P === 0 && idr0.S2P === 0)
    throw new RangeError('IDR0 needs S1P or S2P: a unit has at least one stage');
  if (idr0.TTENDIAN === 1 || idr0.STALL_MODEL === 3)
    throw new RangeError(
      `IDR0.TTENDIAN = ${idr0.TTENDIAN} or STALL_MODEL = ${idr0.STALL_MODEL} is reserved: use TTENDIAN 0, 2 or 3, STALL_MODEL 0 to 2`,
    );
  if (idr0.STALL_MODEL !== STALL_MODEL.TERMINATE_ONLY && idr5.STALL_MAX === 0)
    throw new RangeError(
      'IDR5.STALL_MAX = 0 with a STALL_MODEL that stalls: use at least 1, or STALL_MODEL 1',
    );
  if (idr5.VAX > 1) throw new RangeError(`IDR5.VAX = ${idr5.VAX} is not modelled: use 0 or 1`);
  if (idr5.GRAN4K + idr5.GRAN16K + idr5.GRAN64K === 0)
    throw new RangeError('IDR5 needs GRAN4K, GRAN16K or GRAN64K: a unit has at least one granule');
  if (idr1.SIDSIZE > 32 || idr1.SSIDSIZE > 20)
    throw new RangeError(
      `IDR1.SIDSIZE = ${idr1.SIDSIZE}, SSIDSIZE = ${idr1.SSIDSIZE}: at most 32 and 20`,
    );
};

type IdName = keyof typeof FIXED;
type IdRegister = typeof IDR0 | typeof IDR1 | typeof IDR3 | typeof IDR5;
type IdValues<R extends IdRegister> = { readonly [N in keyof R['fields']]: number };

/**
 * Default values with changes, every field of the register named. The register is one of a union,
 * over which `encode` and `decode` cannot be called with its own field names.
 */
const merge = <R extends IdRegister>(
  register: R,
  name: IdName,
  choice: Readonly<Record<string, number | undefined>> | number = {},
): IdValues<R> => {
  const layout: Layout = register;
  const changes = typeof choice === 'number' ? wholeValue(layout, choice) : choice;
  const base: Readonly<Record<string, number>> = DEFAULT_ID[name];
  for (const field of FIXED[name]) {
    const value = changes[field];
    if (value === undefined || value === (base[field] ?? 0)) continue;
    throw new RangeError(
      `${register.name}.${field} = ${value} is not modelled: use ${base[field] ?? 0}`,
    );
  }
  const given = Object.entries(changes).filter(([, value]) => value !== undefined);
  const words = encode(layout, { ...base, ...Object.fromEntries(given) });
  return decode(layout, words) as IdValues<R>;
};

/** Fields of a register value as a machine shows it. */
const wholeValue = (layout: Layout, value: number): Readonly<Record<string, number>> => {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff)
    throw new RangeError(`${layout.name} = ${value} is no register value: it has 32 bits`);
  const unknown = (value & (layout.reservedMasks[0] as number)) >>> 0;
  if (unknown !== 0)
    throw new RangeError(
      `${layout.name} = 0x${value.toString(16)} has bits that are not modelled: clear 0x${unknown.toString(16)}`,
    );
  return decode(layout, [value]) as Readonly<Record<string, number>>;
};

const word = (register: Layout, values: Readonly<Record<string, number>>): number =>
  encode(register, values)[0] as number;
