/**
 * Rules between the bits of CAP and ECAP.
 *
 * @spec VT-d 11.4.2, 11.4.3
 */
import { decode, hex, hi32, lo32 } from '@iommukit/bits';
import { CAP, ECAP } from '../spec/registers.ts';

/** Fields of a CAP value. */
export const decodeCap = (value: bigint) => decode(CAP, [lo32(value), hi32(value)]);
/** Fields of an ECAP value. */
export const decodeEcap = (value: bigint) => decode(ECAP, [lo32(value), hi32(value)]);
/** CAP by field. */
export type CapFields = ReturnType<typeof decodeCap>;
/** ECAP by field. */
export type EcapFields = ReturnType<typeof decodeEcap>;

interface Rule {
  readonly text: string;
  readonly broken: (cap: CapFields, ecap: EcapFields) => boolean;
}

function implies(name: keyof EcapFields, ...needed: readonly (keyof EcapFields)[]): Rule[] {
  return needed.map((other) => ({
    text: `ECAP.${name}=1 needs ECAP.${other}=1`,
    broken: (_, ecap) => ecap[name] !== 0 && ecap[other] === 0,
  }));
}

const NEEDS_SCALABLE = [
  'PASID',
  'RPS',
  'SMPWCS',
  'FSTS',
  'NEST',
  'MTS',
  'PRS',
  'SRS',
  'EAFS',
  'SSADS',
  'VCS',
  'HPTS',
] as const;

/** Rules between capability bits, and the features this model does not have. */
const RULES: readonly Rule[] = [
  ...implies('IR', 'QI'),
  ...implies('DT', 'QI'),
  ...implies('EIM', 'IR'),
  ...implies('EIMER', 'EIM'),
  ...implies('IRREQ', 'IR'),
  ...implies('SMTS', 'QI'),
  ...NEEDS_SCALABLE.flatMap((name) => implies(name, 'SMTS')),
  ...(['PRS', 'PDS', 'DIT', 'NWFS', 'PTRS', 'HPTS'] as const).flatMap((name) =>
    implies(name, 'DT'),
  ),
  ...implies('HPT1GPS', 'HPTS'),
  ...implies('NEST', 'FSTS', 'SSTS'),
  ...implies('EAFS', 'FSTS', 'SMPWCS'),
  ...implies('SSADS', 'SSTS', 'SMPWCS'),
  ...implies('RPRIVS', 'SRS'),
  ...implies('PTRS', 'PASID'),
  { text: 'CAP.ND is 0 to 6', broken: (cap) => cap.ND === 7 },
  { text: 'CAP.SAGAW has bits 1, 2 and 3 only', broken: (cap) => (cap.SAGAW & ~0xe) !== 0 },
  { text: 'CAP.SSLPS is 0, 1 or 3', broken: (cap) => ![0, 1, 3].includes(cap.SSLPS) },
  { text: 'CAP.AFL=0 (removed in revision 4.0)', broken: (cap) => cap.AFL !== 0 },
  { text: 'ECAP.PSS=0 without ECAP.PASID', broken: (_, e) => e.PASID === 0 && e.PSS !== 0 },
  { text: 'ECAP.PSS is at most 19 (20 bits)', broken: (_, ecap) => ecap.PSS > 19 },
  {
    text: 'CAP.PI=1 needs ECAP.IR=1',
    broken: (cap, ecap) => cap.PI !== 0 && ecap.IR === 0,
  },
  ...(['PMS', 'TDXCS'] as const).map((name) => ({
    text: `ECAP.${name}=0 (not part of this model)`,
    broken: (_: CapFields, ecap: EcapFields) => ecap[name] !== 0,
  })),
];

/** @throws {RangeError} naming the rule that the registers break */
export function checkRules(capRegister: bigint, ecapRegister: bigint): void {
  const cap = decodeCap(capRegister);
  const ecap = decodeEcap(ecapRegister);
  for (const rule of RULES)
    if (rule.broken(cap, ecap))
      throw new RangeError(
        `capabilities contradict each other: ${rule.text}; got CAP ${hex(capRegister)}, ECAP ${hex(ecapRegister)}`,
      );
}
