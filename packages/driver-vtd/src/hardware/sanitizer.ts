/**
 * Finds missing invalidations: compares what caches hold with what the tables say now.
 *
 * Checked on every use of a cached translation, and over all cache entries when asked. A finding
 * names the entry, the structure that changed (address, old and new words), the command that was
 * due, and whether it was missing, partial (something was invalidated, not this), or came late.
 *
 * @spec VT-d 6.5.3 (which invalidation after which change)
 */
import { hex, type Layout } from '@iommukit/bits';
import { ACCESS } from '@iommukit/core';
import { PGTT } from '../spec/pasid-entry.ts';
import { TTM } from '../spec/registers.ts';
import type { Caches } from './caches.ts';
import { CONTEXT } from './context-cache.ts';
import { type IotlbEntry, sourceOf, spreadOf, TLB } from './iotlb.ts';
import { type HardwareMemory, readDwords } from './memory.ts';
import { PASID_INFO } from './pasid-cache.ts';
import type {
  LoggedCommand,
  SanitizerFinding,
  SeenStructure,
  StructureChange,
} from './sanitizer-findings.ts';
import { RIGHT } from './second-stage-walker.ts';
import type { TraceSink } from './trace.ts';
import { ADDRESS_TYPE, type TranslationRequest, type Translator } from './translate.ts';

interface Provenance {
  readonly structures: readonly SeenStructure[];
  readonly ordinal: number;
}

const LOG_LIMIT = 1024;
const TABLES_OF: Readonly<Record<string, 'root' | 'context' | 'directory' | 'pasid'>> = {
  ROOT_ENTRY: 'root',
  SM_ROOT_ENTRY: 'root',
  CONTEXT_ENTRY: 'context',
  SM_CONTEXT_ENTRY: 'context',
  PASID_DIR_ENTRY: 'directory',
  PASID_ENTRY: 'pasid',
};

/** Requester and PASID of a packed IOTLB source. */
function unpackSource(source: number): { rid: number; pasid: number; priv: number } {
  const priv = ((source % 2) + 2) % 2;
  const whole = (source - priv) / 2;
  const pasid = Math.floor(whole / 0x1_0000);
  return { rid: whole - pasid * 0x1_0000, pasid, priv };
}

const pageKey = (source: number, sizeLg2: number, page: number) => `${source}/${sizeLg2}/${page}`;
const pasidKey = (rid: number, pasid: number) => `${rid}/${pasid}`;

/** Watches one unit. */
export class Sanitizer implements TraceSink {
  readonly findings: SanitizerFinding[] = [];
  /** Commands after which no stale entry was gone. */
  superfluous = 0;
  /** Commands seen. */
  commands = 0;

  readonly #memory: HardwareMemory;
  readonly #caches: Caches;
  readonly #unit: Translator;
  readonly #fresh: Translator;
  readonly #log: (LoggedCommand & { ordinal: number })[] = [];
  readonly #pages = new Map<string, Provenance>();
  readonly #contexts = new Map<number, Provenance>();
  readonly #pasids = new Map<string, Provenance>();
  /** Findings whose entry is still cached. */
  readonly #open = new Map<string, SanitizerFinding>();
  #reads: SeenStructure[] = [];
  #rid = 0;
  #pasid = -1;
  #staleBefore = 0;

  /**
   * @param unit the unit's translator, whose reads are followed
   * @param fresh a dry translator that uses no cache
   */
  constructor(memory: HardwareMemory, caches: Caches, unit: Translator, fresh: Translator) {
    this.#memory = memory;
    this.#caches = caches;
    this.#unit = unit;
    this.#fresh = fresh;
    unit.trace = this;
  }

  /** A request starts. */
  begin(rid: number, pasid: number): void {
    this.#reads = [];
    this.#rid = rid;
    this.#pasid = pasid;
  }

  /** A structure was read. */
  read(layout: Layout, address: number, words: ArrayLike<number>): void {
    const structure = { structure: layout.name, address, words: Array.from(words, (w) => w >>> 0) };
    const table = TABLES_OF[layout.name];
    this.#reads.push(structure);
    if (table === 'context') this.#contexts.set(this.#rid, this.#provenance(this.#reads.slice(-2)));
    if (table === 'pasid') this.#keepPasid();
  }

  /** A step: nothing answered. */
  busError(): void {}
  /** A step: a cache was consulted. */
  cache(): void {}
  /** A step: a rule decided. */
  rule(): void {}

  #provenance(structures: readonly SeenStructure[]): Provenance {
    return { structures, ordinal: this.commands };
  }

  #keepPasid(): void {
    const pasid = this.#pasid >= 0 ? this.#pasid : this.#unit.context.ridPasid;
    this.#pasids.set(pasidKey(this.#rid, pasid), this.#provenance(this.#reads.slice(-2)));
  }

  /** The IOTLB took an entry. */
  filled(source: number, sizeLg2: number, page: number): void {
    const key = pageKey(source, sizeLg2, page);
    const context = this.#contexts.get(this.#rid)?.structures ?? [];
    const pasid = this.#pasids.get(pasidKey(this.#rid, this.#unit.pasidTag))?.structures ?? [];
    const tables = this.#reads.filter(({ structure }) => TABLES_OF[structure] === undefined);
    const above = this.#unit.ttm === TTM.SCALABLE ? [...context, ...pasid] : context;
    this.#pages.set(key, this.#provenance([...above, ...tables]));
    this.#open.delete(key);
  }

  /** A cached translation is used for an access. */
  used(rid: number, pasid: number, pfn: number, access: number, target: number): void {
    const priv = pasid >= 0 && (access & ACCESS.PRIV) !== 0 ? 1 : 0;
    const source = sourceOf(rid, pasid, priv);
    const entry = this.#entryAt(source, spreadOf(rid, pasid), pfn);
    if (entry === undefined) return;
    const offset = pfn - entry.iovaPfn;
    const reason = this.#walk(rid, pasid, pfn, access, priv === 1);
    const stale = reason !== 0 || this.#fresh.pfn !== target;
    if (stale) this.#report(entry, 'stale-translation', 'use', reason, offset);
    else if (this.#owesDirty(access)) this.#report(entry, 'stale-dirty', 'use', 0, offset);
  }

  #entryAt(source: number, spread: number, pfn: number): IotlbEntry | undefined {
    for (const pageLg2 of [12, 21, 30]) {
      const array = this.#caches.iotlb.arrayFor(pageLg2);
      const frames = 2 ** (pageLg2 - 12);
      const page = Math.floor(pfn / frames);
      const slot = array.find(source, spread, page);
      if (slot < 0) continue;
      return {
        source,
        pageLg2,
        iovaPfn: page * frames,
        pfn: array.target[slot] as number,
        meta: array.meta[slot] as number,
        did: array.did[slot] as number,
        pasid: array.pasid[slot] as number,
      };
    }
    return undefined;
  }

  /** Fresh walk; the result stands in the fresh translator. */
  #walk(rid: number, pasid: number, pfn: number, access: number, priv: boolean): number {
    const write = (access & (ACCESS.WRITE | ACCESS.ATOMIC)) !== 0;
    const read = !write || (access & (ACCESS.READ | ACCESS.ATOMIC)) !== 0;
    const request: TranslationRequest = {
      rid,
      pasid,
      pfn,
      want: (read ? RIGHT.R : 0) | (write ? RIGHT.W : 0),
      write,
      blameWrite: write,
      priv,
      exec: false,
      addressType: ADDRESS_TYPE.UNTRANSLATED,
    };
    if ((access & ACCESS.ZERO_LENGTH) !== 0 && !write) request.want = 0;
    this.#fresh.follow(this.#unit);
    return this.#fresh.resolve(request);
  }

  /** The fresh walk would set a dirty bit that the cached entry makes the unit skip. */
  #owesDirty(access: number): boolean {
    if ((access & (ACCESS.WRITE | ACCESS.ATOMIC)) === 0) return false;
    const { pending } = this.#fresh;
    for (let i = 0; i < pending.count; i++)
      if (((pending.bits[i] as number) & DIRTY_BITS) !== 0) return true;
    return false;
  }

  /**
   * Compare every cache entry with the tables as they are now.
   * @returns findings of this audit; they are in {@link findings} too
   */
  audit(): readonly SanitizerFinding[] {
    const before = this.findings.length;
    for (const entry of this.#caches.iotlb.entries()) this.#auditPage(entry);
    for (const rid of this.#caches.context.requesters()) this.#auditContext(rid);
    for (const { rid, pasid, place } of this.#caches.pasid.entries())
      this.#auditPasid(rid, pasid, place);
    return this.findings.slice(before);
  }

  #auditPage(entry: IotlbEntry): void {
    const verdict = this.#staleness(entry);
    if (verdict !== undefined) this.#report(entry, verdict.kind, 'audit', verdict.reason, 0);
  }

  /** How an IOTLB entry differs from a fresh walk with the rights that it grants. */
  #staleness(
    entry: IotlbEntry,
  ): { kind: 'stale-translation' | 'stale-dirty'; reason: number } | undefined {
    const { rid, pasid, priv } = unpackSource(entry.source);
    const { meta } = entry;
    const kept = meta >>> TLB.REASON_SHIFT;
    const writes = (meta & (TLB.W | TLB.CLEAN_WRITE)) === (TLB.W | TLB.CLEAN_WRITE);
    const reads = (meta & TLB.R) !== 0 ? ACCESS.READ : 0;
    const access = (writes ? ACCESS.WRITE : 0) | reads || ACCESS.WRITE;
    const reason = this.#walk(rid, pasid, entry.iovaPfn, access, priv === 1);
    if (kept !== 0) return reason !== 0 ? undefined : { kind: 'stale-translation', reason };
    if (reason !== 0 || this.#fresh.pfn !== entry.pfn) return { kind: 'stale-translation', reason };
    return this.#owesDirty(access) ? { kind: 'stale-dirty', reason } : undefined;
  }

  #auditContext(rid: number): void {
    const cache = this.#caches.context;
    const place = cache.find(rid);
    const info = cache.info[place] as number;
    const { context } = this.#fresh;
    this.#fresh.follow(this.#unit);
    const scalable = this.#unit.ttm === TTM.SCALABLE;
    const reason = context.find(rid, this.#unit.rootTable, scalable);
    const same =
      info >>> CONTEXT.REASON_SHIFT === reason &&
      (reason !== 0 ||
        (context.info === info &&
          context.did === cache.did[place] &&
          context.ridPasid === cache.ridPasid[place] &&
          context.pointer === cache.pointer[place]));
    if (same) return;
    this.#add(`context/${rid}`, {
      kind: 'stale-context',
      found: 'audit',
      rid,
      pasid: -1,
      iovaPfn: -1,
      did: cache.did[place] as number,
      cached: `context entry with table ${hex((cache.pointer[place] as number) * 4096)}`,
      fresh: reason === 0 ? `table ${hex(context.pointer * 4096)}` : `fault ${hex(reason)}`,
      provenance: this.#contexts.get(rid),
    });
  }

  #auditPasid(rid: number, pasid: number, place: number): void {
    const cache = this.#caches.pasid;
    const info = cache.info[place] as number;
    const fresh = this.#fresh;
    fresh.follow(this.#unit);
    const missing = fresh.context.find(rid, this.#unit.rootTable, true);
    const reason = missing !== 0 ? missing : fresh.pasidEntry(rid, pasid);
    const entry = fresh.pasid;
    const same =
      info >>> PASID_INFO.REASON_SHIFT === reason &&
      (reason !== 0 ||
        (entry.info === info &&
          entry.did === cache.did[place] &&
          entry.ssRoot === cache.ssRoot[place] &&
          entry.fsRoot === cache.fsRoot[place]));
    if (same) return;
    this.#add(`pasid/${pasidKey(rid, pasid)}`, {
      kind: 'stale-pasid',
      found: 'audit',
      rid,
      pasid,
      iovaPfn: -1,
      did: cache.did[place] as number,
      cached: `PASID entry ${hex(pasid)} of domain ${cache.did[place]}`,
      fresh: reason === 0 ? `domain ${entry.did}` : `fault ${hex(reason)}`,
      provenance: this.#pasids.get(pasidKey(rid, pasid)),
    });
  }

  #report(
    entry: IotlbEntry,
    kind: 'stale-translation' | 'stale-dirty',
    found: 'use' | 'audit',
    reason: number,
    offset: number,
  ): void {
    const { rid, pasid } = unpackSource(entry.source);
    const page = entry.iovaPfn / 2 ** (entry.pageLg2 - 12);
    const key = pageKey(entry.source, entry.pageLg2, page);
    this.#add(key, {
      kind,
      found,
      rid,
      pasid,
      iovaPfn: entry.iovaPfn,
      did: entry.did,
      cached: `${hex((entry.pfn + offset) * 4096)}${kind === 'stale-dirty' ? ', page counted as dirty' : ''}`,
      fresh: reason === 0 ? hex(this.#fresh.pfn * 4096) : `fault ${hex(reason)}`,
      provenance: this.#pages.get(key),
      entry,
    });
  }

  #add(
    key: string,
    what: Omit<SanitizerFinding, 'verdict' | 'change' | 'due' | 'seen' | 'text'> & {
      provenance: Provenance | undefined;
      entry?: IotlbEntry;
    },
  ): void {
    if (this.#open.has(key)) return;
    const { provenance, entry, ...facts } = what;
    const change = this.#changeOf(provenance);
    const due = this.#dueFor(change, facts.kind, facts.rid, facts.did, facts.pasid, entry);
    const since = provenance?.ordinal ?? 0;
    const seen = this.#log
      .filter(({ ordinal, did }) => ordinal > since && (did === facts.did || did === -1))
      .map(({ text }) => text);
    const verdict = seen.length > 0 ? 'partial' : 'missing';
    const where = change
      ? `${change.structure} at ${hex(change.address)} changed`
      : 'the table pointer changed';
    const text = `${facts.kind} of requester ${hex(facts.rid)}: cache says ${facts.cached}, tables say ${facts.fresh}; ${where}; ${verdict}: ${due.join(', then ')}`;
    const finding: SanitizerFinding = { ...facts, verdict, change, due, seen, text };
    this.findings.push(finding);
    this.#open.set(key, finding);
  }

  /** First structure on the way that no longer reads as it did. */
  #changeOf(provenance: Provenance | undefined): StructureChange | undefined {
    for (const { structure, address, words } of provenance?.structures ?? []) {
      const now = new Uint32Array(words.length);
      if (!readDwords(this.#memory, address, now, words.length)) continue;
      const newWords = [...now];
      const mask = ACCESSED_BITS[structure] ?? 0;
      const differs = newWords.some(
        (word, i) => ((word ^ (words[i] as number)) & ~(i === 0 ? mask : 0)) !== 0,
      );
      if (differs) return { structure, address, oldWords: words, newWords };
    }
    return undefined;
  }

  #dueFor(
    change: StructureChange | undefined,
    kind: SanitizerFinding['kind'],
    rid: number,
    did: number,
    pasid: number,
    entry: IotlbEntry | undefined,
  ): string[] {
    const scalable = this.#unit.ttm === TTM.SCALABLE;
    const table = change === undefined ? 'root' : TABLES_OF[change.structure];
    const context = `cc_inv device ${hex(rid)}`;
    const flush = `iotlb_inv domain ${did}`;
    const tag = entry?.pasid ?? Math.max(pasid, 0);
    if (table === 'root')
      return scalable
        ? ['cc_inv global', 'pc_inv global', 'iotlb_inv global']
        : ['cc_inv global', 'iotlb_inv global'];
    if (table === 'context')
      return scalable ? [context, `pc_inv domain ${did}`, flush] : [context, flush];
    if (table === 'directory' || table === 'pasid' || kind === 'stale-pasid')
      return [`pc_inv PASID ${hex(tag)} of domain ${did}`, flush];
    if (entry === undefined) return [flush];
    const pgtt = (entry.meta & TLB.PGTT_MASK) >>> TLB.PGTT_SHIFT;
    const page = `page ${hex(entry.iovaPfn * 4096)}`;
    const secondStage = change?.structure.startsWith('SS_') === true;
    if (pgtt === PGTT.FIRST_STAGE || (pgtt === PGTT.NESTED && !secondStage))
      return [`p_iotlb_inv ${page} PASID ${hex(tag)} of domain ${did}`];
    return [pgtt === PGTT.NESTED ? flush : `iotlb_inv ${page} of domain ${did}`];
  }

  /** A command is about to run. */
  commandStarts(command: LoggedCommand): void {
    this.#staleBefore = this.#countStale();
    if (command.hint) this.#checkHint(command);
  }

  /** IH=1 promises that only leaf entries changed. */
  #checkHint({ did, text }: LoggedCommand): void {
    for (const entry of this.#caches.iotlb.entries()) {
      if (entry.did !== did || this.#staleness(entry) === undefined) continue;
      const page = entry.iovaPfn / 2 ** (entry.pageLg2 - 12);
      const provenance = this.#pages.get(pageKey(entry.source, entry.pageLg2, page));
      const change = this.#changeOf(provenance);
      if (change === undefined || !TABLE_LAYOUTS.has(change.structure)) continue;
      const { rid, pasid } = unpackSource(entry.source);
      const due = `${text} with IH=0`;
      this.findings.push({
        kind: 'wrong-hint',
        verdict: 'partial',
        found: 'command',
        rid,
        pasid,
        iovaPfn: entry.iovaPfn,
        did,
        cached: hex(entry.pfn * 4096),
        fresh: 'a table entry that changed',
        change,
        due: [due],
        seen: [text],
        text: `wrong-hint for requester ${hex(rid)}: ${change.structure} at ${hex(change.address)} changed; partial: ${due}`,
      });
    }
  }

  /** It ran. */
  commandDone(command: LoggedCommand): void {
    this.commands++;
    this.#log.push({ ...command, ordinal: this.commands });
    if (this.#log.length > LOG_LIMIT) this.#log.shift();
    if (!command.implicit && this.#countStale() >= this.#staleBefore) this.superfluous++;
    this.#closeFindings();
  }

  #countStale(): number {
    const pages = this.#caches.iotlb.entries().filter((entry) => this.#staleness(entry));
    return pages.length + this.#countStaleConfiguration();
  }

  #countStaleConfiguration(): number {
    const before = this.findings.length;
    const open = new Map(this.#open);
    this.#open.clear();
    for (const rid of this.#caches.context.requesters()) this.#auditContext(rid);
    for (const { rid, pasid, place } of this.#caches.pasid.entries())
      this.#auditPasid(rid, pasid, place);
    const stale = this.findings.length - before;
    this.findings.length = before;
    this.#open.clear();
    for (const [key, finding] of open) this.#open.set(key, finding);
    return stale;
  }

  /** Findings whose entry is gone now: the command came, but late. */
  #closeFindings(): void {
    if (this.#open.size === 0) return;
    const live = new Set<string>();
    for (const { source, pageLg2, iovaPfn } of this.#caches.iotlb.entries())
      live.add(pageKey(source, pageLg2, iovaPfn / 2 ** (pageLg2 - 12)));
    for (const rid of this.#caches.context.requesters()) live.add(`context/${rid}`);
    for (const { rid, pasid } of this.#caches.pasid.entries())
      live.add(`pasid/${pasidKey(rid, pasid)}`);
    for (const [key, finding] of this.#open) {
      if (live.has(key)) continue;
      finding.verdict = 'late';
      this.#open.delete(key);
    }
  }
}

/** Dirty bits: first stage bit 6, second stage bit 9. */
const DIRTY_BITS = 0x240;

/** Entries that point to a table. */
const TABLE_LAYOUTS = new Set(['SS_PML_ENTRY', 'SS_TABLE_ENTRY', 'FS_PML_ENTRY', 'FS_TABLE_ENTRY']);

/** Bits of the low dword that hardware sets by itself. */
const ACCESSED_BITS: Readonly<Record<string, number>> = {
  SS_PML_ENTRY: 0x100,
  SS_TABLE_ENTRY: 0x100,
  SS_PDE_2M: 0x100,
  SS_PDPE_1G: 0x100,
  SS_PTE: 0x100,
  FS_PML_ENTRY: 0x420,
  FS_TABLE_ENTRY: 0x420,
  FS_PDE_2M: 0x420,
  FS_PDPE_1G: 0x420,
  FS_PTE: 0x420,
};
