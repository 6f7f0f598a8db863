/**
 * A slow, obvious translator to compare with: bigint throughout, one read at a time, no cache, no
 * shared code with the model but the layouts' field places. Requests read or write, untranslated.
 */
import { decode, type Layout } from '@iommukit/bits';
import type { Features } from '../../src/hardware/index.ts';
import * as spec from '../../src/spec/index.ts';
import { referencePermission } from './reference-permissions.ts';

export interface ReferenceRequest {
  readonly rid: number;
  readonly pasid: number;
  readonly pfn: number;
  readonly write: boolean;
  readonly priv: boolean;
}

/** A frame, or a fault reason as a negative number. */
export type ReferenceResult = number;

class Fault extends Error {
  readonly reason: number;
  constructor(reason: number) {
    super(`fault ${reason.toString(16)}`);
    this.reason = reason;
  }
}

type Read = (pa: bigint) => bigint | undefined;
type Fields = Record<string, number>;

const bit = (value: bigint, n: number) => ((value >> BigInt(n)) & 1n) === 1n;
const bits = (value: bigint, hi: number, lo: number) =>
  (value >> BigInt(lo)) & ((1n << BigInt(hi - lo + 1)) - 1n);

export class Reference {
  readonly #read: Read;
  readonly #f: Features;
  readonly #root: bigint;
  readonly #ttm: number;
  #owed: { secondStage: boolean; writable: boolean }[] = [];
  #pwsnp = false;

  constructor(read: Read, features: Features, rtaddr: bigint) {
    this.#read = read;
    this.#f = features;
    this.#root = rtaddr & ~0xfffn;
    this.#ttm = Number(bits(rtaddr, 11, 10));
  }

  translate(request: ReferenceRequest): ReferenceResult {
    this.#owed = [];
    try {
      const pfn = this.#ttm === 1 ? this.#scalable(request) : this.#legacy(request);
      this.#settle();
      return Number(pfn);
    } catch (error) {
      if (error instanceof Fault) return -error.reason;
      throw error;
    }
  }

  #settle(): void {
    for (const { secondStage, writable } of this.#owed) {
      if (!writable) throw new Fault(0x77);
      if (!(this.#pwsnp && this.#f.scalableCoherent)) throw new Fault(secondStage ? 0x7c : 0x90);
    }
  }

  #words(pa: bigint, count: number, reason: number): bigint[] {
    return Array.from({ length: count }, (_, i) => {
      const word = this.#read(pa + BigInt(8 * i));
      if (word === undefined) throw new Fault(reason);
      return word;
    });
  }

  #fields(layout: unknown, words: bigint[]): Fields {
    const halves = words.flatMap((w) => [Number(w & 0xffff_ffffn), Number(w >> 32n)]);
    return decode(layout as Layout, halves) as unknown as Fields;
  }

  /** A pointer with bits at and above the host address width. */
  #wide(pointer: number): boolean {
    return BigInt(pointer) >> BigInt(this.#f.hawBits) !== 0n;
  }

  #undeclared(layout: { reservedMasks: readonly number[] }, words: bigint[]): boolean {
    return layout.reservedMasks.some(
      (mask, i) =>
        (bits(words[i >> 1] as bigint, (i & 1) * 32 + 31, (i & 1) * 32) & BigInt(mask)) !== 0n,
    );
  }

  #legacy({ rid, pasid, pfn, write }: ReferenceRequest): bigint {
    if (pasid >= 0) throw new Fault(0x31);
    const root = this.#words(this.#root + BigInt(rid >> 8) * 16n, 2, 8);
    const r = this.#fields(spec.ROOT_ENTRY, root);
    if (!r['P']) throw new Fault(1);
    if (this.#undeclared(spec.ROOT_ENTRY, root) || this.#wide(r['CTP'] as number))
      throw new Fault(0xa);
    const words = this.#words(BigInt(r['CTP'] as number) + BigInt(rid & 255) * 16n, 2, 9);
    const c = this.#fields(spec.CONTEXT_ENTRY, words);
    if (!c['P']) throw new Fault(2);
    if (this.#undeclared(spec.CONTEXT_ENTRY, words) || this.#wide(c['SSPTPTR'] as number))
      throw new Fault(0xb);
    if ((c['DID'] as number) >> this.#f.didBits !== 0) throw new Fault(0xb);
    const { TT, AW } = c as { TT: number; AW: number };
    if (TT === 3 || (TT === 1 && !this.#f.deviceTlb)) throw new Fault(3);
    if (TT === 2) {
      if (!this.#f.passThrough || AW !== this.#f.largestAw) throw new Fault(3);
      return this.#output(this.#identity(BigInt(pfn), 4), 0xe);
    }
    if (AW < 1 || AW > 3 || ((this.#f.sagaw >> AW) & 1) === 0) throw new Fault(3);
    if (BigInt(pfn) >> BigInt(this.#limitBits(AW) - 12) !== 0n) throw new Fault(4);
    const reasons = { root: 3, deep: 7, empty: write ? 5 : 6, reserved: 0xc, w: 5, r: 6 };
    const wants = { r: !write, w: write };
    const page = this.#second(
      BigInt(c['SSPTPTR'] as number),
      AW + 2,
      BigInt(pfn),
      wants,
      false,
      write,
      reasons,
    );
    return this.#output(page.pfn, 0xe);
  }

  #limitBits(aw: number): number {
    return Math.min(this.#f.mgawBits, 30 + 9 * aw);
  }

  #identity(pfn: bigint, reason: number): bigint {
    if (pfn >> BigInt(this.#f.hawBits - 12) !== 0n) throw new Fault(reason);
    return pfn;
  }

  #output(pfn: bigint, reason: number): bigint {
    if (pfn >= 0xfee00n && pfn <= 0xfeeffn) throw new Fault(reason);
    return pfn;
  }

  /** A translated request without execute: the frame itself, or a reason. Scalable mode. */
  translated(rid: number, pasid: number, pfn: number, access: number): ReferenceResult {
    try {
      const c = this.#contextEntry(rid);
      if (c['EPTR'] && !c['PASIDE']) throw new Fault(0x43);
      if (!c['DTE']) throw new Fault(0x44);
      if (pasid >= 0) {
        if (pasid >= 2 ** this.#f.pasidBits) throw new Fault(0x89);
        if (!c['EPTR']) throw new Fault(0x49);
        this.#explicitPasid(c, pasid);
      }
      const entry = c['HPTE']
        ? this.#checkedEntry(this.#entryWords(c, pasid >= 0 ? pasid : (c['RID_PASID'] as number)))
        : undefined;
      this.#output(this.#identity(BigInt(pfn), 0x83), 0x87);
      const reason = entry
        ? referencePermission(this.#read, this.#f, entry, BigInt(pfn), access)
        : 0;
      return reason === 0 ? pfn : -reason;
    } catch (error) {
      if (error instanceof Fault) return -error.reason;
      throw error;
    }
  }

  #explicitPasid(c: Fields, pasid: number): void {
    if (pasid >= 2 ** ((c['PDTS'] as number) + 13)) throw new Fault(0x46);
    if (pasid === c['RID_PASID']) throw new Fault(0x48);
  }

  #contextEntry(rid: number): Fields {
    const f = this.#f;
    const half = ((rid >> 7) & 1) === 1 ? 8n : 0n;
    const [root] = this.#words(this.#root + BigInt(rid >> 8) * 16n + half, 1, 0x38) as [bigint];
    if (!bit(root, 0)) throw new Fault(0x39);
    if (bits(root, 11, 1) !== 0n || bits(root, 63, f.hawBits) !== 0n) throw new Fault(0x3a);
    const words = this.#words((root & ~0xfffn) + BigInt(rid & 127) * 32n, 4, 0x40);
    const c = this.#fields(spec.SM_CONTEXT_ENTRY, words);
    if (!c['P']) throw new Fault(0x41);
    if (this.#undeclared(spec.SM_CONTEXT_ENTRY, words) || this.#wide(c['PASIDDIRPTR'] as number))
      throw new Fault(0x42);
    if ((c['HPTE'] && !f.hostPermission) || (c['EPTR'] && !f.translatedPasid))
      throw new Fault(0x42);
    if ((c['PRE'] && !c['DTE']) || (c['RID_PASID'] as number) >= 2 ** ((c['PDTS'] as number) + 13))
      throw new Fault(0x43);
    return c;
  }

  #scalable({ rid, pasid, pfn, write, priv }: ReferenceRequest): bigint {
    const c = this.#contextEntry(rid);
    if (c['EPTR'] && !c['PASIDE'] && pasid < 0) throw new Fault(0x43);
    if (pasid >= 0) {
      if (pasid >= 2 ** this.#f.pasidBits) throw new Fault(0x89);
      if (!c['PASIDE']) throw new Fault(0x45);
      this.#explicitPasid(c, pasid);
    }
    const entry = this.#entryWords(c, pasid >= 0 ? pasid : (c['RID_PASID'] as number));
    const supervisor = pasid >= 0 ? priv : c['RID_PRIV'] === 1;
    return this.#pasidEntry(entry, BigInt(pfn), write, supervisor);
  }

  #entryWords(c: Fields, id: number): bigint[] {
    const f = this.#f;
    const directory = BigInt(c['PASIDDIRPTR'] as number) + BigInt(id >> 6) * 8n;
    const [dir] = this.#words(directory, 1, 0x50) as [bigint];
    if (!bit(dir, 0)) throw new Fault(0x51);
    if (bits(dir, 11, 2) !== 0n || bits(dir, 63, f.hawBits) !== 0n) throw new Fault(0x52);
    return this.#words((dir & ~0xfffn) + BigInt(id & 63) * 64n, 8, 0x58);
  }

  /** Fields of a PASID entry that is present and legal. */
  #checkedEntry(words: bigint[]): Fields {
    const f = this.#f;
    const e = this.#fields(spec.PASID_ENTRY, words);
    if (!e['P']) throw new Fault(0x59);
    const pgtt = e['PGTT'] as number;
    const usesSecond = pgtt !== 1 && pgtt !== 4;
    const usesFirst = pgtt !== 2 && pgtt !== 4;
    const reserved =
      this.#undeclared(spec.PASID_ENTRY, words) ||
      (usesSecond && this.#wide(e['SSPTPTR'] as number)) ||
      (usesFirst && this.#wide(e['FSPTPTR'] as number)) ||
      e['CD'] ||
      e['EMTE'] ||
      e['PAT'] ||
      (!f.hostPermission && (e['HPTSZ'] || e['HPTPFD'] || e['HPTPTR'] || e['HPTDID'])) ||
      this.#wide(e['HPTPTR'] as number) ||
      (e['HPTDID'] as number) >> f.didBits !== 0 ||
      (e['DID'] as number) >> f.didBits !== 0;
    if (reserved) throw new Fault(0x5a);
    const AW = e['AW'] as number;
    if (pgtt < 1 || pgtt > 4) throw new Fault(0x5b);
    if (usesSecond && (AW < 1 || AW > 3)) throw new Fault(0x5b);
    if (usesFirst && (e['FSPM'] as number) > 1) throw new Fault(0x5b);
    const gpaBits = this.#limitBits(AW);
    if (pgtt === 3 && BigInt(e['FSPTPTR'] as number) >> BigInt(gpaBits) !== 0n)
      throw new Fault(0x5b);
    return e;
  }

  #pasidEntry(words: bigint[], pfn: bigint, write: boolean, supervisor: boolean): bigint {
    const e = this.#checkedEntry(words);
    const pgtt = e['PGTT'] as number;
    const AW = e['AW'] as number;
    const level5 = e['FSPM'] === 1;
    const gpaBits = this.#limitBits(AW);
    if (supervisor && !e['SRE']) throw new Fault(0x5d);
    this.#pwsnp = e['PWSNP'] === 1;
    if (pgtt === 4) return this.#output(this.#identity(pfn, 0x83), 0x87);
    const ss = BigInt(e['SSPTPTR'] as number);
    const keep = e['SSADE'] === 1;
    const wants = { r: !write, w: write };
    if (pgtt === 2) {
      if (pfn >> BigInt(gpaBits - 12) !== 0n) throw new Fault(0x84);
      return this.#output(this.#second(ss, AW + 2, pfn, wants, keep, write, SCALABLE).pfn, 0x87);
    }
    const nested = pgtt === 3 ? { ss, levels: AW + 2, keep, gpaBits } : undefined;
    return this.#output(this.#first(e, pfn, write, supervisor, level5, nested), 0x87);
  }

  #first(
    e: Fields,
    pfn: bigint,
    write: boolean,
    supervisor: boolean,
    level5: boolean,
    nested: { ss: bigint; levels: number; keep: boolean; gpaBits: number } | undefined,
  ): bigint {
    const width = level5 ? 57 : 48;
    const top = bits(pfn, 51, width - 13);
    if (top !== 0n && top !== (1n << BigInt(65 - width)) - 1n) throw new Fault(0x80);
    const accessed = e['EAFE'] ? [5, 10] : [5];
    let table = BigInt(e['FSPTPTR'] as number);
    let user = true;
    let writable = true;
    for (let level = level5 ? 4 : 3; ; level--) {
      const isTop = level === (level5 ? 4 : 3);
      let canUpdate = true;
      if (nested) {
        const want = { r: true, w: nested.keep };
        const denied = isTop ? 0x75 : 0x76;
        const reasons = { ...SCALABLE, r: denied, w: denied };
        const page = this.#second(
          nested.ss,
          nested.levels,
          table >> 12n,
          want,
          nested.keep,
          nested.keep,
          reasons,
        );
        table = page.pfn << 12n;
        canUpdate = page.w;
      }
      const index = bits(pfn, 9 * level + 8, 9 * level);
      const [entry] = this.#words(table + index * 8n, 1, isTop ? 0x73 : 0x70) as [bigint];
      if (!bit(entry, 0)) throw new Fault(0x71);
      const leaf = level === 0 || bit(entry, 7);
      let reserved = bits(entry, 51, this.#f.hawBits) !== 0n;
      if (leaf && level > 2) reserved = true;
      if (leaf && level === 2 && !this.#f.fs1G) reserved = true;
      if (leaf && level > 0 && level < 3 && bits(entry, 11 + 9 * level, 13) !== 0n) reserved = true;
      if (reserved) throw new Fault(0x72);
      const address = entry & 0xf_ffff_ffff_f000n;
      if (nested && address >> BigInt(nested.gpaBits) !== 0n) throw new Fault(0x74);
      user &&= bit(entry, 2);
      writable &&= bit(entry, 1);
      const missing = accessed.some((n) => !bit(entry, n));
      if (!leaf) {
        if (missing) this.#owed.push({ secondStage: false, writable: canUpdate });
        table = address;
        continue;
      }
      if (!supervisor && !user) throw new Fault(0x81);
      const mayWrite = writable || (supervisor && !e['WPE']);
      if (write && !mayWrite) throw new Fault(0x85);
      const offset = bits(pfn, 9 * level + 8, 0) & ((1n << BigInt(9 * level)) - 1n);
      let page = ((address >> BigInt(12 + 9 * level)) << BigInt(9 * level)) | offset;
      if (nested) {
        const wants = { r: !write, w: write };
        page = this.#second(
          nested.ss,
          nested.levels,
          page,
          wants,
          nested.keep,
          write,
          SCALABLE,
        ).pfn;
      }
      if (missing || (write && !bit(entry, 6)))
        this.#owed.push({ secondStage: false, writable: canUpdate });
      return page;
    }
  }

  #second(
    root: bigint,
    levels: number,
    pfn: bigint,
    want: { r: boolean; w: boolean },
    keep: boolean,
    write: boolean,
    reasons: typeof SCALABLE,
  ): { pfn: bigint; w: boolean } {
    let table = root;
    let r = true;
    let w = true;
    for (let level = levels - 1; ; level--) {
      const index = bits(pfn, 9 * level + 8, 9 * level);
      const deny = level === levels - 1 ? reasons.root : reasons.deep;
      const [entry] = this.#words(table + index * 8n, 1, deny) as [bigint];
      if (!bit(entry, 0) && !bit(entry, 1)) throw new Fault(reasons.empty);
      const leaf = level === 0 || bit(entry, 7);
      if (this.#reservedSecond(entry, level, leaf)) throw new Fault(reasons.reserved);
      r &&= bit(entry, 0);
      w &&= bit(entry, 1);
      if (!r && !w) throw new Fault(reasons.empty);
      if (want.w && !w) throw new Fault(reasons.w);
      if (want.r && !r) throw new Fault(reasons.r);
      const dirty = leaf && write && w && !bit(entry, 9);
      if (keep && (!bit(entry, 8) || dirty)) this.#owed.push({ secondStage: true, writable: true });
      const address = entry & 0xf_ffff_ffff_f000n;
      if (!leaf) {
        table = address;
        continue;
      }
      const offset = pfn & ((1n << BigInt(9 * level)) - 1n);
      return { pfn: (address >> 12n) | offset, w };
    }
  }

  #reservedSecond(entry: bigint, level: number, leaf: boolean): boolean {
    if (bits(entry, 51, this.#f.hawBits) !== 0n || bit(entry, 62)) return true;
    if (bit(entry, 11) && (!leaf || !this.#f.snoopControl)) return true;
    if (!leaf || level === 0) return false;
    if (level > 2 || (level === 1 && !this.#f.ss2M) || (level === 2 && !this.#f.ss1G)) return true;
    return bits(entry, 11 + 9 * level, 12) !== 0n;
  }
}

const SCALABLE = { root: 0x7b, deep: 0x78, empty: 0x79, reserved: 0x7a, w: 0x85, r: 0x86 };
