/**
 * A slow, obvious translator to compare with: bigint throughout, one read at a time, no cache, no
 * shared code with the model but the layouts' field places. Untranslated requests only.
 */
import { decode } from '@iommukit/bits';
import { CD, IDR0, IDR1, IDR3, IDR5, L1CD, L1STD, STE } from '../../src/spec/index.ts';
import { type Idr, isCdLegal, isSteLegal, type World } from './reference-rules.ts';

/** A request as a device sends it. */
export interface ReferenceRequest {
  readonly sid: number;
  readonly ssid: number;
  readonly address: bigint;
  readonly read: boolean;
  readonly write: boolean;
  readonly exec: boolean;
  readonly priv: boolean;
}

/** What comes of one. */
export interface ReferenceResult {
  readonly outcome: 'ok' | 'abort' | 'raz' | 'stall';
  readonly pa?: bigint;
  /** Record, without a tag. */
  readonly event?: readonly bigint[];
}

/** Registers that count. */
export interface ReferenceRegisters {
  readonly strtab: bigint;
  readonly log2size: number;
  readonly split: number;
  readonly twoLevel: boolean;
  readonly e2h: boolean;
}

type Words = bigint[];
type Fields = Record<string, number>;
interface Stage2 {
  ste: Fields;
  ttb: bigint;
}
interface Access {
  read: boolean;
  write: boolean;
  exec: boolean;
  priv: boolean;
}

/** The event numbers by name. */
const CODE = {
  C_BAD_STREAMID: 2,
  F_STE_FETCH: 3,
  C_BAD_STE: 4,
  F_STREAM_DISABLED: 6,
  C_BAD_SUBSTREAMID: 8,
  F_CD_FETCH: 9,
  C_BAD_CD: 10,
  F_WALK_EABT: 11,
  F_TRANSLATION: 16,
  F_ADDR_SIZE: 17,
  F_ACCESS: 18,
  F_PERMISSION: 19,
} as const;
type Code = keyof typeof CODE;
const CLASS = { CD: 0n, TT: 1n, IN: 2n } as const;
type ClassName = keyof typeof CLASS;

interface Place {
  s2?: boolean;
  cls?: ClassName;
  address?: bigint;
  ttRead?: boolean;
}
interface Terms {
  r: boolean;
  s: boolean;
  a: boolean;
}

class Fault extends Error {
  readonly code: Code;
  readonly at: Place;
  readonly terms: Terms;
  constructor(code: Code, at: Place = {}, terms: Terms = { r: true, s: false, a: true }) {
    super(code);
    this.code = code;
    this.at = at;
    this.terms = terms;
  }
}

const bit = (value: bigint, n: number) => ((value >> BigInt(n)) & 1n) === 1n;
const bits = (value: bigint, hi: number, lo: number) =>
  (value >> BigInt(lo)) & ((1n << BigInt(hi - lo + 1)) - 1n);
const swap = (value: bigint) => {
  let out = 0n;
  for (let n = 0; n < 8; n++) out = (out << 8n) | ((value >> BigInt(8 * n)) & 0xffn);
  return out;
};
const SIZES = [32, 36, 40, 42, 44, 48, 52, 52];

export class Reference {
  readonly #load: (pa: bigint) => bigint | undefined;
  readonly #regs: ReferenceRegisters;
  readonly idr: Idr;
  /** Descriptors that hardware has updated, by address. */
  readonly writes = new Map<bigint, bigint>();
  #request!: ReferenceRequest;
  #priv = false;
  #exec = false;

  /** @param idr values of IDR0, 1, 3, 5 and AIDR */
  constructor(
    load: (pa: bigint) => bigint | undefined,
    idr: readonly [number, number, number, number, number],
    regs: ReferenceRegisters,
  ) {
    this.#load = load;
    this.#regs = regs;
    this.idr = {
      ...decode(IDR0, [idr[0]]),
      ...decode(IDR1, [idr[1]]),
      ...decode(IDR3, [idr[2]]),
      ...decode(IDR5, [idr[3]]),
      version: idr[4],
    } as unknown as Idr;
  }

  get #oas(): number {
    return SIZES[this.idr.OAS] as number;
  }

  #read(pa: bigint): bigint | undefined {
    return this.writes.get(pa) ?? this.#load(pa);
  }

  translate(request: ReferenceRequest): ReferenceResult {
    this.#request = request;
    this.#priv = request.priv;
    this.#exec = request.exec && !request.write;
    try {
      return { outcome: 'ok', pa: this.#translate() };
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      if (error.message === 'silent') return { outcome: 'abort' };
      const { r, s, a } = error.terms;
      const outcome = s ? 'stall' : a ? 'abort' : 'raz';
      return r || s ? { outcome, event: this.#event(error) } : { outcome };
    }
  }

  #event({ code, at, terms }: Fault): bigint[] {
    const { sid, ssid, address, write } = this.#request;
    const ssv = ssid >= 0 && code !== 'C_BAD_SUBSTREAMID' ? 1n << 11n : 0n;
    const w0 =
      BigInt(CODE[code]) | ssv | (ssid >= 0 ? BigInt(ssid) << 12n : 0n) | (BigInt(sid) << 32n);
    if (code === 'F_STE_FETCH' || code === 'F_CD_FETCH') {
      return [w0, 0n, 0n, (at.address as bigint) & ~7n];
    }
    if (CODE[code] < CODE.F_WALK_EABT) return [w0, 0n, 0n, 0n];
    let w1 =
      (terms.s ? 1n << 31n : 0n) | (this.#priv ? 1n << 33n : 0n) | (this.#exec ? 1n << 34n : 0n);
    if (!write) w1 |= 1n << 35n;
    if (at.s2) w1 |= 1n << 39n;
    w1 |= CLASS[at.cls ?? 'IN'] << 40n;
    if (at.ttRead) w1 |= 1n << 44n;
    const w3 =
      code === 'F_WALK_EABT'
        ? (at.address as bigint) & ~7n
        : at.s2
          ? (at.address as bigint) & ~0xfffn
          : 0n;
    return [w0, w1, address, w3];
  }

  #translate(): bigint {
    const { sid, address } = this.#request;
    const words = this.#fetchSte(sid);
    const ste = fieldsOf(STE, words);
    if (ste['V'] === 0) throw new Fault('C_BAD_STE');
    const config = ste['CONFIG'] as number;
    if (config < 4) throw silent();
    if (
      !isSteLegal(
        ste,
        bits(words[3] as bigint, 51, 4) << 4n,
        bits(words[0] as bigint, 51, 6) << 6n,
        this.idr,
      )
    )
      throw new Fault('C_BAD_STE');
    const index = this.#contextIndex(ste, config);
    this.#override(ste);
    const access: Access = {
      ...this.#request,
      priv: this.#priv,
      exec: this.#exec || (this.#request.exec && !this.#request.write),
    };
    access.exec = this.#exec;
    const stage2: Stage2 | undefined =
      config >= 6 ? { ste, ttb: bits(words[3] as bigint, 51, 4) << 4n } : undefined;
    if (index === undefined) {
      if (address >= 1n << BigInt(this.#oas)) throw new Fault('F_ADDR_SIZE', { cls: 'IN' });
      return stage2 ? this.#stage2(stage2, address, access, 'IN') : address;
    }
    const cd = this.#fetchCd(words, ste, index, stage2);
    const ipa = this.#stage1(cd, ste, stage2, access);
    return stage2 ? this.#stage2(stage2, ipa, access, 'IN') : ipa;
  }

  #fetchSte(sid: number): Words {
    const { strtab, log2size, split, twoLevel } = this.#regs;
    const size = Math.min(log2size, this.idr.SIDSIZE);
    if (sid >= 2 ** size) throw new Fault('C_BAD_STREAMID');
    let at = strtab + BigInt(sid) * 64n;
    if (twoLevel) {
      const l1 = strtab + BigInt(Math.floor(sid / 2 ** split)) * 8n;
      const value = this.#read(l1);
      if (value === undefined) throw new Fault('F_STE_FETCH', { address: l1 });
      const l1std = fieldsOf(L1STD, [value]);
      const span = l1std['SPAN'] as number;
      const index = sid % 2 ** split;
      if (span === 0 || span > 11 || span > split + 1 || index >= 2 ** (span - 1))
        throw new Fault('C_BAD_STREAMID');
      at =
        ((bits(value, 51, 6) << 6n) & ~(64n * (1n << BigInt(span - 1)) - 1n)) + BigInt(index) * 64n;
    }
    return this.#fetch(at, 'F_STE_FETCH');
  }

  #fetch(at: bigint, code: Code): Words {
    const words: Words = [];
    for (let n = 0n; n < 8n; n++) {
      const value = at >= 1n << BigInt(this.#oas) ? undefined : this.#read(at + n * 8n);
      if (value === undefined) throw new Fault(code, { address: at });
      words.push(value);
    }
    return words;
  }

  #contextIndex(ste: Fields, config: number): number | undefined {
    const { ssid } = this.#request;
    const max = this.idr.SSIDSIZE === 0 ? 0 : (ste['S1CDMAX'] as number);
    const s1 = config === 5 || config === 7;
    if (ssid >= 0) {
      if (!s1 || max === 0 || ssid >= 2 ** max) throw new Fault('C_BAD_SUBSTREAMID');
      if (ssid === 0 && ste['S1DSS'] === 2) throw new Fault('F_STREAM_DISABLED');
      return ssid;
    }
    if (!s1) return undefined;
    if (max === 0 || ste['S1DSS'] === 2) return 0;
    if (ste['S1DSS'] === 1) return undefined;
    throw new Fault('F_STREAM_DISABLED');
  }

  #override(ste: Fields): void {
    if (this.idr.ATTR_PERMS_OVR === 0) return;
    if (ste['PRIVCFG'] === 2) this.#priv = false;
    if (ste['PRIVCFG'] === 3) this.#priv = true;
    if (this.#request.write) return;
    if (ste['INSTCFG'] === 2) this.#exec = false;
    if (ste['INSTCFG'] === 3) this.#exec = true;
  }

  #fetchCd(ste: Words, fields: Fields, index: number, stage2: Stage2 | undefined): Words {
    const pointer = bits(ste[0] as bigint, 51, 6) << 6n;
    const max = this.idr.SSIDSIZE === 0 ? 0 : (fields['S1CDMAX'] as number);
    const format = fields['S1FMT'] as number;
    let at = (pointer & ~((64n << BigInt(max)) - 1n)) + BigInt(index) * 64n;
    if (max > 0 && (format === 1 || format === 2)) {
      const leaf = format === 1 ? 6 : 10;
      const l1 = this.#through(stage2, pointer + BigInt(index >> leaf) * 8n);
      const value = this.#read(l1);
      if (value === undefined) throw new Fault('F_CD_FETCH', { address: l1 });
      const l2 = bits(value, 51, 12) << 12n;
      if (fieldsOf(L1CD, [value])['V'] === 0 || l2 >= 1n << BigInt(this.#oas))
        throw new Fault('C_BAD_SUBSTREAMID');
      at = (l2 & ~((64n << BigInt(leaf)) - 1n)) + BigInt(index & (2 ** leaf - 1)) * 64n;
    }
    const words: Words = [];
    const pa = this.#through(stage2, at);
    for (let n = 0n; n < 8n; n++) {
      const value = this.#read(pa + n * 8n);
      if (value === undefined) throw new Fault('F_CD_FETCH', { address: pa });
      words.push(value);
    }
    const cd = fieldsOf(CD, words);
    const ttb = [
      bits(words[1] as bigint, 51, 4) << 4n,
      bits(words[2] as bigint, 51, 4) << 4n,
    ] as const;
    if (!isCdLegal(cd, ttb, fields, this.#worldOf(fields), this.idr)) throw new Fault('C_BAD_CD');
    return words;
  }

  #through(stage2: Stage2 | undefined, ipa: bigint): bigint {
    const access = { read: true, write: false, exec: false, priv: false };
    return stage2 ? this.#stage2(stage2, ipa, access, 'CD') : ipa;
  }

  #worldOf(ste: Fields): World {
    if (ste['CONFIG'] !== 5 || this.idr.HYP === 0 || ste['STRW'] !== 2) return 'el1';
    return this.#regs.e2h ? 'e2h' : 'el2';
  }

  #stage1(words: Words, ste: Fields, stage2: Stage2 | undefined, access: Access): bigint {
    const cd = fieldsOf(CD, words);
    const world = this.#worldOf(ste);
    const terms = { r: cd['R'] === 1, s: cd['S'] === 1, a: cd['A'] === 1 };
    const fail = (code: Code) => new Fault(code, { cls: 'IN' }, terms);
    const { address } = this.#request;
    const upper = bit(address, 55);
    const tbi = cd[upper ? 'TBI1' : 'TBI0'] === 1;
    if (upper ? world === 'el2' || cd['EPD1'] === 1 : world !== 'el2' && cd['EPD0'] === 1)
      throw fail('F_TRANSLATION');
    const n = 64 - (cd[upper ? 'T1SZ' : 'T0SZ'] as number);
    const top = tbi ? 55 : 63;
    if (bits(address, top, n) !== (upper ? (1n << BigInt(top - n + 1)) - 1n : 0n))
      throw fail('F_TRANSLATION');
    if (
      world !== 'el2' &&
      this.idr.E0PD === 1 &&
      cd[upper ? 'E0PD1' : 'E0PD0'] === 1 &&
      !access.priv
    )
      throw fail('F_TRANSLATION');
    const g = upper ? [0, 14, 12, 16][cd['TG1'] as number] : [12, 16, 14][cd['TG0'] as number];
    const ttb = bits(words[upper ? 2 : 1] as bigint, 51, 4) << 4n;
    const had = this.idr.HAD === 1 && cd[upper ? 'HAD1' : 'HAD0'] === 1;
    const ps = Math.min(SIZES[cd['IPS'] as number] as number, this.#oas);
    return this.#walk({
      g: g as number,
      n,
      start: undefined,
      ttb,
      ps,
      input: bits(address, n - 1, 0),
      ds: this.idr.DS === 1 && cd['DS'] === 1 && g !== 16,
      big: cd['ENDI'] === 1,
      had,
      stage2,
      ha: cd['HA'] === 1,
      hd: cd['HA'] === 1 && cd['HD'] === 1,
      haft: cd['HAFT'] === 1 && this.idr.HTTU === 3,
      affd: cd['AFFD'] === 1,
      access,
      fail,
      device: () => false,
      permits: (leaf, table) => s1Permits(leaf, table, cd, world, access, this.idr),
      dirty: (leaf) => leaf & ~(1n << 7n),
      clean: (leaf, table) => bit(leaf, 7) && !table.readOnly,
      abort: (at) => new Fault('F_WALK_EABT', { cls: 'TT', address: at }),
    });
  }

  #stage2({ ste, ttb }: Stage2, ipa: bigint, access: Access, cls: ClassName): bigint {
    const terms = { r: ste['S2R'] === 1, s: ste['S2S'] === 1, a: true };
    const fail = (code: Code) =>
      new Fault(
        code,
        {
          s2: true,
          cls,
          address: ipa,
          ttRead: code === 'F_PERMISSION' && cls === 'TT' && !access.write,
        },
        terms,
      );
    const n = 64 - (ste['S2T0SZ'] as number);
    if (ipa >= 1n << BigInt(n)) throw fail('F_TRANSLATION');
    const g = [12, 16, 14][ste['S2TG'] as number] as number;
    const ds = this.idr.DS === 1 && ste['S2DS'] === 1 && g !== 16;
    const sl = ste['S2SL0'] as number;
    const start =
      g === 12 ? (ds && ste['S2SL0_2'] === 1 ? -1 : [2, 1, 0, 3][sl]) : [3, 2, 1, 0][sl];
    const ps = Math.min(
      SIZES[ste['S2PS'] as number] as number,
      this.#oas,
      ds || (g === 16 && this.#oas === 52) ? 52 : 48,
    );
    const fwb = this.idr.FWB === 1 && ste['S2FWB'] === 1;
    return this.#walk({
      g,
      n,
      start: start as number,
      ttb,
      ps,
      input: ipa,
      ds,
      big: ste['S2ENDI'] === 1,
      had: true,
      stage2: undefined,
      ha: ste['S2HA'] === 1,
      hd: ste['S2HA'] === 1 && ste['S2HD'] === 1,
      haft: ste['S2HAFT'] === 1 && this.idr.HTTU === 3,
      affd: ste['S2AFFD'] === 1,
      access,
      fail,
      permits: (leaf) => s2Permits(leaf, access, this.idr),
      device: (leaf) =>
        cls !== 'IN' && ste['S2PTW'] === 1 && (fwb ? !bit(leaf, 4) : bits(leaf, 5, 4) === 0n),
      dirty: (leaf) => leaf | (1n << 7n),
      clean: (leaf) => !bit(leaf, 7),
      abort: (at) => new Fault('F_WALK_EABT', { s2: true, cls, address: at }),
    });
  }

  /** Walks until no update finds its descriptor changed, as one can be by the update of another. */
  #walk(w: Walk): bigint {
    for (;;) {
      const output = this.#descend(w);
      if (output !== undefined) return output;
    }
  }

  #descend(w: Walk): bigint | undefined {
    const stride = w.g - 3;
    const start = w.start ?? 4 - Math.ceil((w.n - w.g) / stride);
    const wide = w.ds || (w.g === 16 && this.#oas === 52);
    const shiftOf = (level: number) => w.g + (3 - level) * stride;
    const entries = 1n << BigInt(Math.max(w.n - shiftOf(start), 0));
    const align = max(entries * 8n, wide ? 64n : 16n);
    let table = w.ttb & ~(align - 1n);
    const above = { readOnly: false, noEl0: false, xn: false, pxn: false };
    for (let level = start; ; level++) {
      const index = bits(
        w.input,
        level === start ? w.n - 1 : shiftOf(level) + stride - 1,
        shiftOf(level),
      );
      const at = table + index * 8n;
      const leaf = this.#descriptor(w, at, false);
      const type = leaf & 3n;
      if (type === 3n && level < 3) {
        table = addressOf(leaf, w.g, w.g, w.ds, wide);
        if (table >= 1n << BigInt(w.ps)) throw w.fail('F_ADDR_SIZE');
        if (w.haft && !bit(leaf, 10) && !this.#update(w, at, leaf, leaf | (1n << 10n)))
          return undefined;
        if (!w.had) {
          above.noEl0 ||= bit(leaf, 61);
          above.readOnly ||= bit(leaf, 62);
          above.xn ||= bit(leaf, 60);
          above.pxn ||= bit(leaf, 59);
        }
        continue;
      }
      const block =
        level === 2 || (level === 1 && (w.g === 12 || wide)) || (level === 0 && w.g === 12 && wide);
      if (!(level === 3 ? type === 3n : type === 1n && block)) throw w.fail('F_TRANSLATION');
      const shift = shiftOf(level);
      const output = addressOf(leaf, w.g, shift, w.ds, wide);
      if (output >= 1n << BigInt(w.ps)) throw w.fail('F_ADDR_SIZE');
      if (!bit(leaf, 10) && !w.ha && !w.affd) throw w.fail('F_ACCESS');
      const dirtied = w.hd && bit(leaf, 51) && w.clean(leaf, above) ? w.dirty(leaf) : leaf;
      if (!w.permits(dirtied, above) || w.device(leaf)) throw w.fail('F_PERMISSION');
      const updated = (w.access.write ? dirtied : leaf) | (w.ha ? 1n << 10n : 0n);
      if (updated !== leaf && !this.#update(w, at, leaf, updated)) return undefined;
      return output | bits(w.input, shift - 1, 0);
    }
  }

  #place(w: Walk, at: bigint, write: boolean): bigint {
    if (!w.stage2) return at;
    return this.#stage2(w.stage2, at, { read: !write, write, exec: false, priv: false }, 'TT');
  }

  #descriptor(w: Walk, at: bigint, write: boolean): bigint {
    const pa = this.#place(w, at, write);
    const value = this.#read(pa);
    if (value === undefined) throw w.abort(pa);
    return w.big ? swap(value) : value;
  }

  /** @returns false when the descriptor is not what was read */
  #update(w: Walk, at: bigint, leaf: bigint, value: bigint): boolean {
    const pa = this.#place(w, at, true);
    const now = this.#read(pa);
    if (now === undefined) throw w.abort(pa);
    if ((w.big ? swap(now) : now) !== leaf) return false;
    this.writes.set(pa, w.big ? swap(value) : value);
    return true;
  }
}

interface Above {
  readOnly: boolean;
  noEl0: boolean;
  xn: boolean;
  pxn: boolean;
}
interface Walk {
  g: number;
  n: number;
  start: number | undefined;
  ttb: bigint;
  ps: number;
  input: bigint;
  ds: boolean;
  big: boolean;
  had: boolean;
  stage2: Stage2 | undefined;
  ha: boolean;
  hd: boolean;
  haft: boolean;
  affd: boolean;
  access: Access;
  fail: (code: Code) => Fault;
  abort: (at: bigint) => Fault;
  permits: (leaf: bigint, above: Above) => boolean;
  device: (leaf: bigint) => boolean;
  dirty: (leaf: bigint) => bigint;
  clean: (leaf: bigint, above: Above) => boolean;
}

const silent = () => Object.assign(new Fault('C_BAD_STE'), { message: 'silent' });
const max = (a: bigint, b: bigint) => (a > b ? a : b);

const fieldsOf = (layout: Parameters<typeof decode>[0], words: Words): Fields => {
  const halves = words.flatMap((word) => [Number(word & 0xffff_ffffn), Number(word >> 32n)]);
  return decode(layout, halves) as Fields;
};

const addressOf = (leaf: bigint, g: number, shift: number, ds: boolean, wide: boolean): bigint => {
  let address = ds ? bits(leaf, 49, 12) << 12n : bits(leaf, 47, 12) << 12n;
  if (ds) address |= bits(leaf, 9, 8) << 50n;
  else if (wide && g === 16) address |= bits(leaf, 15, 12) << 48n;
  return (address >> BigInt(shift)) << BigInt(shift);
};

const s1Permits = (
  leaf: bigint,
  above: Above,
  cd: Fields,
  world: World,
  access: Access,
  idr: Idr,
): boolean => {
  const readOnly = bit(leaf, 7) || above.readOnly;
  const el0 = world === 'el2' || (bit(leaf, 6) && !above.noEl0);
  const xn = bit(leaf, 54) || above.xn || (cd['WXN'] === 1 && !readOnly);
  const pxn = bit(leaf, 53) || above.pxn || (cd['WXN'] === 1 && !readOnly);
  const data = access.read || access.write || !access.exec;
  if (access.write && readOnly) return false;
  if (world === 'el2') return !access.exec || !xn;
  if (!access.priv) return el0 && (!access.exec || !xn);
  const guarded = cd['PAN'] === 1 && (el0 || (idr.EPAN === 1 && cd['EPAN'] === 1 && !xn));
  if (data && guarded) return false;
  return !access.exec || !(pxn || (el0 && !readOnly));
};

const s2Permits = (leaf: bigint, access: Access, idr: Idr): boolean => {
  const code = Number(bits(leaf, 54, 53));
  const execute = idr.XNX === 0 ? code < 2 : access.priv ? code === 0 || code === 3 : code < 2;
  if ((access.read || (!access.write && !access.exec)) && !bit(leaf, 6)) return false;
  if (access.write && !bit(leaf, 7)) return false;
  return !access.exec || (bit(leaf, 6) && execute);
};
