/**
 * What a unit can do: identification registers in, plain numbers out.
 *
 * @spec SMMUv3 6.3.1 to 6.3.8
 */
import { decode, encode, type Layout } from '@iommukit/bits';
import { AIDR, IDR0, IDR1, IDR3, IDR5, STALL_MODEL, TTF } from '../spec/registers.ts';

type FieldsOf<R> = R extends { readonly fields: infer F }
  ? { readonly [N in keyof F]?: number }
  : never;

/** Fields of the identification registers to change from {@link DEFAULT_ID}. */
export interface SmmuCapabilities {
  readonly idr0?: FieldsOf<typeof IDR0>;
  readonly idr1?: FieldsOf<typeof IDR1>;
  readonly idr3?: FieldsOf<typeof IDR3>;
  readonly idr5?: FieldsOf<typeof IDR5>;
}

/** Both stages, 48-bit addresses, all granules, substreams, range invalidation; faults abort. */
export const DEFAULT_ID = {
  idr0: {
    S2P: 1,
    S1P: 1,
    TTF: TTF.AARCH64,
    COHACC: 1,
    ATS: 1,
    ASID16: 1,
    MSI: 1,
    PRI: 1,
    VMID16: 1,
    CD2L: 1,
    TTENDIAN: 2,
    ATSRECERR: 1,
    STALL_MODEL: STALL_MODEL.TERMINATE_ONLY,
    TERM_MODEL: 1,
    ST_LEVEL: 1,
  },
  idr1: { SIDSIZE: 16, SSIDSIZE: 20, PRIQS: 19, EVENTQS: 19, CMDQS: 19 },
  idr3: { HAD: 1, PPS: 1, RIL: 1 },
  idr5: { OAS: 5, GRAN4K: 1, GRAN16K: 1, GRAN64K: 1 },
} as const;

/** Output size codes (OAS, IPS, S2PS) in bits; 7 acts as 6. */
export const ADDRESS_BITS = [32, 36, 40, 42, 44, 48, 52, 52] as const;

/** Fields that must keep the value they have in {@link DEFAULT_ID}: nothing else is modelled. */
const FIXED = {
  idr0: [
    'TTF',
    'BTM',
    'HTTU',
    'HYP',
    'SEV',
    'ATOS',
    'VMW',
    'VATOS',
    'TTENDIAN',
    'STALL_MODEL',
    'TERM_MODEL',
    'RME_IMPL',
  ],
  idr1: ['ATTR_PERMS_OVR', 'ATTR_TYPES_OVR', 'REL', 'QUEUES_PRESET', 'TABLES_PRESET', 'ECMDQ'],
  idr3: ['PBHA', 'XNX', 'MPAM', 'FWB', 'STT', 'E0PD'],
  idr5: ['DS', 'D128', 'STALL_MAX'],
} as const;

/** The capabilities as plain numbers and booleans. */
export interface Features {
  /** Values of IDR0 to IDR5 and AIDR by offset. */
  readonly registers: readonly (readonly [offset: number, value: number])[];
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
  readonly sidBits: number;
  readonly ssidBits: number;
  readonly eventQueueLg2: number;
  readonly commandQueueLg2: number;
  readonly had: boolean;
  readonly rangeInvalidation: boolean;
  /** Bits of an output address (OAS); also of an IPA (IAS). */
  readonly oaBits: number;
  /** Granule shifts there are: 12, 14, 16. */
  readonly granules: readonly number[];
  /** 52-bit virtual addresses with the 64K granule. */
  readonly va52: boolean;
}

/**
 * @throws {RangeError} for a field value that is not modelled or does not fit its field
 */
export const resolveFeatures = (capabilities: SmmuCapabilities = {}): Features => {
  const idr0 = withoutAtsExtras(merge(IDR0, 'idr0', capabilities.idr0));
  const idr1 = merge(IDR1, 'idr1', { ...capabilities.idr1, ...(idr0.PRI === 0 && { PRIQS: 0 }) });
  const idr3 = merge(IDR3, 'idr3', capabilities.idr3);
  const idr5 = merge(IDR5, 'idr5', capabilities.idr5);
  if (idr0.S1P === 0 && idr0.S2P === 0)
    throw new RangeError('IDR0 needs S1P or S2P: a unit has at least one stage');
  return {
    registers: [
      [IDR0.offset, word(IDR0, idr0)],
      [IDR1.offset, word(IDR1, idr1)],
      [IDR3.offset, word(IDR3, idr3)],
      [IDR5.offset, word(IDR5, idr5)],
      [AIDR.offset, 1],
    ],
    stage1: idr0.S1P === 1,
    stage2: idr0.S2P === 1,
    asid16: idr0.ASID16 === 1,
    vmid16: idr0.VMID16 === 1,
    cdTwoLevel: idr0.CD2L === 1,
    streamTwoLevel: idr0.ST_LEVEL === 1,
    msi: idr0.MSI === 1,
    ats: idr0.ATS === 1,
    splitStageAts: idr0.NS1ATS === 0 && idr0.S1P === 1 && idr0.S2P === 1,
    recordsAtsErrors: idr0.ATSRECERR === 1,
    pri: idr0.PRI === 1,
    answersWithPasid: idr3.PPS === 1,
    pageRequestQueueLg2: Math.min(idr1.PRIQS, 19),
    sidBits: Math.min(idr1.SIDSIZE, 32),
    ssidBits: Math.min(idr1.SSIDSIZE, 20),
    eventQueueLg2: Math.min(idr1.EVENTQS, 19),
    commandQueueLg2: Math.min(idr1.CMDQS, 19),
    had: idr3.HAD === 1,
    rangeInvalidation: idr3.RIL === 1,
    oaBits: ADDRESS_BITS[idr5.OAS] ?? 52,
    granules: [
      ...(idr5.GRAN4K === 1 ? [12] : []),
      ...(idr5.GRAN16K === 1 ? [14] : []),
      ...(idr5.GRAN64K === 1 ? [16] : []),
    ],
    va52: idr5.VAX === 1,
  };
};

/** Fields that read as 0 without ATS, or without both stages. */
const withoutAtsExtras = (idr0: IdValues<typeof IDR0>): IdValues<typeof IDR0> => ({
  ...idr0,
  NS1ATS: idr0.S1P & idr0.S2P & idr0.ATS & idr0.NS1ATS,
  PRI: idr0.ATS & idr0.PRI,
  ATSRECERR: idr0.ATS & idr0.ATSRECERR,
});

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
  changes: Readonly<Record<string, number | undefined>> = {},
): IdValues<R> => {
  const base: Readonly<Record<string, number>> = DEFAULT_ID[name];
  for (const field of FIXED[name]) {
    const value = changes[field];
    if (value === undefined || value === (base[field] ?? 0)) continue;
    throw new RangeError(
      `${register.name}.${field} = ${value} is not modelled: use ${base[field] ?? 0}`,
    );
  }
  const given = Object.entries(changes).filter(([, value]) => value !== undefined);
  const layout: Layout = register;
  const words = encode(layout, { ...base, ...Object.fromEntries(given) });
  return decode(layout, words) as IdValues<R>;
};

const word = (register: Layout, values: Readonly<Record<string, number>>): number =>
  encode(register, values)[0] as number;
