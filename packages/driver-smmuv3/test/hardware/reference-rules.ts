/** Validity of STE and CD once more, from the text of the rules, for {@link Reference}. */

type Fields = Record<string, number>;

/** Stream worlds. */
export type World = 'el1' | 'el2' | 'e2h';

/** Fields of the identification registers. */
export interface Idr {
  readonly [name: string]: number;
  readonly OAS: number;
  readonly SIDSIZE: number;
  readonly SSIDSIZE: number;
  readonly ATTR_PERMS_OVR: number;
  readonly HYP: number;
  readonly HTTU: number;
  readonly E0PD: number;
  readonly HAD: number;
  readonly DS: number;
  readonly FWB: number;
  readonly EPAN: number;
  readonly XNX: number;
}

const SIZES = [32, 36, 40, 42, 44, 48, 52, 52];
const grain = (g: number | undefined, idr: Idr) =>
  (g === 12 && idr['GRAN4K'] === 1) ||
  (g === 14 && idr['GRAN16K'] === 1) ||
  (g === 16 && idr['GRAN64K'] === 1);
const order = (big: number, idr: Idr) =>
  (big === 1 ? [0, 3] : [0, 2]).includes(idr['TTENDIAN'] as number);
const largest = (g: number, idr: Idr) => (idr['STT'] === 0 ? 39 : g === 16 ? 47 : 48);

/** Rules 2 to 19 of an STE that is valid and enabled. */
export const isSteLegal = (ste: Fields, ttb: bigint, pointer: bigint, idr: Idr): boolean => {
  const f = (name: string) => ste[name] as number;
  const config = f('CONFIG');
  const s1 = (config & 1) === 1;
  const s2 = (config & 2) === 2;
  if ((s1 && idr['S1P'] === 0) || (s2 && idr['S2P'] === 0)) return false;
  if (idr['ATS'] === 1 && config !== 4) {
    if (f('EATS') === 2 && !(config === 7 && f('S2S') === 0 && idr['NS1ATS'] === 0)) return false;
    if (f('EATS') === 1 && s2 && f('S2S') === 1) return false;
  }
  if (config === 5 && idr.HYP === 1 && (f('STRW') & 1) === 1) return false;
  if (s1) {
    if (f('S1STALLD') === 1 && idr['STALL_MODEL'] !== 0) return false;
    if (idr.SSIDSIZE > 0 && f('S1CDMAX') > idr.SSIDSIZE) return false;
    const twoLevel = f('S1FMT') === 1 || f('S1FMT') === 2;
    if (idr.SSIDSIZE > 0 && f('S1CDMAX') > 0 && twoLevel && idr['CD2L'] === 0) return false;
    if (config === 5 && pointer >= 1n << BigInt(SIZES[idr.OAS] as number)) return false;
  }
  const el2 = config === 5 && idr.HYP === 1 && f('STRW') === 2;
  if (config !== 4 && !el2 && idr['S2P'] === 1 && idr['VMID16'] === 0 && f('S2VMID') > 255)
    return false;
  return !s2 || isStage2Legal(f, ttb, idr);
};

const isStage2Legal = (f: (name: string) => number, ttb: bigint, idr: Idr): boolean => {
  const oas = SIZES[idr.OAS] as number;
  if (f('S2S') === 1 && idr['STALL_MODEL'] === 1) return false;
  if (f('S2S') === 0 && idr['STALL_MODEL'] === 2) return false;
  if (f('S2AA64') === 0) return false;
  if ((f('S2HA') === 1 && idr.HTTU === 0) || (f('S2HD') === 1 && idr.HTTU < 2)) return false;
  if (idr.HTTU === 3 && f('S2HAFT') === 1 && f('S2HA') === 0) return false;
  const g = [12, 16, 14][f('S2TG')];
  if (g === undefined || !grain(g, idr)) return false;
  const ds = f('S2DS') === 1 && idr.DS === 1 && g !== 16;
  const wide = ds || (g === 16 && oas === 52);
  const n = 64 - f('S2T0SZ');
  if (f('S2T0SZ') > largest(g, idr) || n > (wide ? 52 : 48) || n > oas) return false;
  const sl = f('S2SL0') + (g === 12 && ds && f('S2SL0_2') === 1 ? 4 : 0);
  const start = {
    12: [2, 1, 0, idr['STT'] === 1 ? 3 : undefined, -1],
    14: [3, 2, 1, ds ? 0 : undefined],
    16: [3, 2, 1],
  }[g]?.[sl];
  if (start === undefined) return false;
  const bottom = g + (3 - start) * (g - 3);
  if (n < bottom + 1 || n > bottom + (g - 3) + 4) return false;
  const ps = Math.min(SIZES[f('S2PS')] as number, oas, wide ? 52 : 48);
  return ttb < 1n << BigInt(ps) && order(f('S2ENDI'), idr);
};

/** Rules 1 to 11 of a CD. */
export const isCdLegal = (
  cd: Fields,
  ttb: readonly [bigint, bigint],
  ste: Fields,
  world: World,
  idr: Idr,
): boolean => {
  const f = (name: string) => cd[name] as number;
  if (f('V') === 0 || (ste['S1STALLD'] === 1 && f('S') === 1)) return false;
  if (idr['TERM_MODEL'] === 1 && f('A') === 0) return false;
  if (f('S') === 1 && idr['STALL_MODEL'] === 1) return false;
  if (f('S') === 0 && idr['STALL_MODEL'] === 2) return false;
  const lower = world === 'el2' || f('EPD0') === 0;
  const upper = world !== 'el2' && f('EPD1') === 0;
  if ((lower || upper) && !order(f('ENDI'), idr)) return false;
  if (f('AA64') === 0) return false;
  if ((f('HA') === 1 && idr.HTTU === 0) || (f('HD') === 1 && idr.HTTU < 2)) return false;
  if (idr.HTTU === 3 && f('HAFT') === 1 && f('HA') === 0) return false;
  if (world !== 'el2' && idr['ASID16'] === 0 && f('ASID') > 255) return false;
  const half = (g: number | undefined, tsz: number, base: bigint) => {
    if (g === undefined || g === 0 || !grain(g, idr)) return false;
    const oas = SIZES[idr.OAS] as number;
    const ds = f('DS') === 1 && idr.DS === 1 && g !== 16;
    const small = (idr['VAX'] as number) >= 1 && (g === 16 || ds) ? 12 : 16;
    if (tsz < small || tsz > largest(g, idr)) return false;
    const wide = ds || (g === 16 && oas === 52);
    return base < 1n << BigInt(Math.min(SIZES[f('IPS')] as number, oas, wide ? 52 : 48));
  };
  if (lower && !half([12, 16, 14][f('TG0')], f('T0SZ'), ttb[0])) return false;
  return !upper || half([0, 14, 12, 16][f('TG1')], f('T1SZ'), ttb[1]);
};
