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
import { TTM } from '../spec/registers.ts';
import type { Caches } from './caches.ts';
import type { HptCacheEntry } from './host-permission-cache.ts';
import type { InterruptCache } from './interrupt-cache.ts';
import type { InterruptRemapper, InterruptWatcher } from './interrupt-remapping.ts';
import { type IotlbEntry, sourceOf, spreadOf } from './iotlb.ts';
import type { HardwareMemory } from './memory.ts';
import { type StaleFacts, staleContext, stalePasid } from './sanitizer-audit.ts';
import { changeOf, dueFor, TABLE_LAYOUTS, TABLES_OF } from './sanitizer-due.ts';
import type {
  LoggedCommand,
  Provenance,
  SanitizerFinding,
  SanitizerSnapshot,
  SeenStructure,
} from './sanitizer-findings.ts';
import { wrongHint } from './sanitizer-hint.ts';
import { interruptKey, staleInterrupt } from './sanitizer-interrupts.ts';
import { liveKeys } from './sanitizer-live.ts';
import { permissionKey, stalePermission } from './sanitizer-permissions.ts';
import { ProvenanceStore, pageKey, pasidKey } from './sanitizer-provenance.ts';
import { FreshWalk, unpackSource } from './sanitizer-walk.ts';
import type { TraceSink } from './trace.ts';
import type { Translator } from './translate.ts';

const LOG_LIMIT = 1024;

/** Which commands a finding lists: those about the same kind of cache. */
const ABOUT: Readonly<Partial<Record<SanitizerFinding['kind'], LoggedCommand['about']>>> = {
  'stale-permission': 'permissions',
  'stale-interrupt': 'interrupts',
};

/** The caches that are watched. */
interface WatchedCaches {
  readonly dma: Caches;
  readonly interrupts: InterruptCache;
}

/** What fills and uses them. */
interface WatchedUnit {
  readonly translator: Translator;
  readonly interrupts: InterruptRemapper;
}

/** Watches one unit. */
export class Sanitizer implements TraceSink, InterruptWatcher {
  readonly findings: SanitizerFinding[] = [];
  /** Commands after which no stale entry was gone. */
  superfluous = 0;
  /** Commands seen. */
  commands = 0;

  readonly #memory: HardwareMemory;
  readonly #caches: Caches;
  readonly #interruptCache: InterruptCache;
  readonly #unit: Translator;
  readonly #interrupts: InterruptRemapper;
  readonly #fresh: FreshWalk;
  readonly #log: (LoggedCommand & { ordinal: number })[] = [];
  readonly #from = new ProvenanceStore();
  /** Findings whose entry is still cached. */
  readonly #open = new Map<string, SanitizerFinding>();
  #reads: SeenStructure[] = [];
  #rid = 0;
  #pasid = -1;
  #staleBefore = 0;

  /**
   * @param unit the unit's translator and remapper, whose reads are followed
   * @param fresh a dry translator that uses no cache
   */
  constructor(memory: HardwareMemory, caches: WatchedCaches, unit: WatchedUnit, fresh: Translator) {
    this.#memory = memory;
    this.#caches = caches.dma;
    this.#interruptCache = caches.interrupts;
    this.#unit = unit.translator;
    this.#interrupts = unit.interrupts;
    this.#fresh = new FreshWalk(unit.translator, fresh);
    unit.translator.trace = this;
    unit.translator.hostPermission.onFill = (entry) => this.#permissionFilled(entry);
    unit.interrupts.watcher = this;
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
    if (table === 'context')
      this.#from.contexts.set(this.#rid, this.#provenance(this.#reads.slice(-2)));
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
    this.#from.pasids.set(pasidKey(this.#rid, pasid), this.#provenance(this.#reads.slice(-2)));
  }

  /** The IOTLB took an entry. */
  filled(source: number, sizeLg2: number, page: number): void {
    this.#cameFrom(pageKey(source, sizeLg2, page));
  }

  #permissionFilled(entry: HptCacheEntry): void {
    this.#cameFrom(permissionKey(entry));
  }

  /** An entry came from the structures of this request. */
  #cameFrom(key: string): void {
    const context = this.#from.contexts.get(this.#rid)?.structures ?? [];
    const pasid = this.#from.pasids.get(pasidKey(this.#rid, this.#unit.pasidTag))?.structures ?? [];
    const tables = this.#reads.filter(({ structure }) => TABLES_OF[structure] === undefined);
    const above = this.#unit.ttm === TTM.SCALABLE ? [...context, ...pasid] : context;
    this.#from.pages.set(key, this.#provenance([...above, ...tables]));
    this.#open.delete(key);
  }

  /** The interrupt entry cache took an entry. */
  interruptFilled(index: number, address: number, words: ArrayLike<number>): void {
    const key = interruptKey(index);
    const seen = { structure: 'IRTE', address, words: Array.from(words, (w) => w >>> 0) };
    this.#from.pages.set(key, this.#provenance([seen]));
    this.#open.delete(key);
  }

  /** A cached interrupt remapping table entry is used. */
  interruptUsed(index: number, words: ArrayLike<number>): void {
    this.#checkInterrupt(index, words, 'use');
  }

  #checkInterrupt(index: number, words: ArrayLike<number>, found: 'use' | 'audit'): void {
    const key = interruptKey(index);
    const facts = staleInterrupt(index, words, this.#interrupts, found);
    if (facts) this.#add(key, { ...facts, provenance: this.#from.pages.get(key) });
  }

  /** A cached host permission table entry decides, or leads to one that does. */
  permissionUsed(entry: HptCacheEntry): void {
    this.#checkPermission(entry, 'use');
  }

  #checkPermission(entry: HptCacheEntry, found: 'use' | 'audit'): void {
    const key = permissionKey(entry);
    const facts = stalePermission(entry, this.#unit, this.#fresh, found);
    if (facts) this.#add(key, { ...facts, provenance: this.#from.pages.get(key) });
  }

  /** A cached translation is used for an access. */
  used(rid: number, pasid: number, pfn: number, access: number, target: number): void {
    const priv = pasid >= 0 && (access & ACCESS.PRIV) !== 0 ? 1 : 0;
    const source = sourceOf(rid, pasid, priv);
    const entry = this.#caches.iotlb.entryAt(source, spreadOf(rid, pasid), pfn);
    if (entry === undefined) return;
    const offset = pfn - entry.iovaPfn;
    const reason = this.#fresh.walk(rid, pasid, pfn, access, priv === 1);
    const stale = reason !== 0 || this.#fresh.translator.pfn !== target;
    if (stale) this.#report(entry, 'stale-translation', 'use', reason, offset);
    else if (this.#fresh.owesDirty(access)) this.#report(entry, 'stale-dirty', 'use', 0, offset);
  }

  /**
   * Compare every cache entry with the tables as they are now.
   * @returns findings of this audit; they are in {@link findings} too
   */
  audit(): readonly SanitizerFinding[] {
    const before = this.findings.length;
    for (const entry of this.#caches.iotlb.entries()) this.#auditPage(entry);
    this.#auditOthers();
    return this.findings.slice(before);
  }

  /** Every cache but the IOTLB. */
  #auditOthers(): void {
    for (const rid of this.#caches.context.requesters()) this.#auditContext(rid);
    for (const { rid, pasid, place } of this.#caches.pasid.entries())
      this.#auditPasid(rid, pasid, place);
    for (const entry of this.#caches.hostPermission.entries())
      this.#checkPermission(entry, 'audit');
    for (const { index, words } of this.#interruptCache.entries())
      this.#checkInterrupt(index, words, 'audit');
  }

  #auditPage(entry: IotlbEntry): void {
    const verdict = this.#fresh.staleness(entry);
    if (verdict !== undefined) this.#report(entry, verdict.kind, 'audit', verdict.reason, 0);
  }

  #auditContext(rid: number): void {
    const facts = staleContext(this.#caches.context, this.#unit, this.#fresh, rid);
    if (facts) this.#add(`context/${rid}`, { ...facts, provenance: this.#from.contexts.get(rid) });
  }

  #auditPasid(rid: number, pasid: number, place: number): void {
    const facts = stalePasid(this.#caches.pasid, this.#unit, this.#fresh, rid, pasid, place);
    const key = pasidKey(rid, pasid);
    if (facts) this.#add(`pasid/${key}`, { ...facts, provenance: this.#from.pasids.get(key) });
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
      fresh: reason === 0 ? hex(this.#fresh.translator.pfn * 4096) : `fault ${hex(reason)}`,
      provenance: this.#from.pages.get(key),
      entry,
    });
  }

  #add(
    key: string,
    what: StaleFacts & {
      provenance: Provenance | undefined;
      entry?: IotlbEntry;
    },
  ): void {
    if (this.#open.has(key)) return;
    const { provenance, entry, ...facts } = what;
    const change = changeOf(this.#memory, provenance?.structures ?? []);
    const due = dueFor(change, { ...facts, entry }, this.#unit.ttm === TTM.SCALABLE);
    const since = provenance?.ordinal ?? 0;
    const seen = this.#log
      .filter(({ ordinal, did }) => ordinal > since && (did === facts.did || did === -1))
      .filter(({ about }) => about === ABOUT[facts.kind])
      .map(({ text }) => text);
    const verdict = seen.length > 0 ? 'partial' : 'missing';
    const where = change
      ? `${change.structure} at ${hex(change.address)} changed`
      : 'the table pointer changed';
    const whose = facts.rid < 0 ? '' : ` of requester ${hex(facts.rid)}`;
    const text = `${facts.kind}${whose}: cache says ${facts.cached}, tables say ${facts.fresh}; ${where}; ${verdict}: ${due.join(', then ')}`;
    const finding: SanitizerFinding = { ...facts, verdict, change, due, seen, text };
    this.findings.push(finding);
    this.#open.set(key, finding);
  }

  /** A command is about to run. */
  commandStarts(command: LoggedCommand): void {
    this.#staleBefore = this.#countStale();
    if (command.hint) this.#checkHint(command);
  }

  /** IH=1 promises that only leaf entries changed. */
  #checkHint({ did, text }: LoggedCommand): void {
    for (const entry of this.#caches.iotlb.entries()) {
      if (entry.did !== did || this.#fresh.staleness(entry) === undefined) continue;
      const page = entry.iovaPfn / 2 ** (entry.pageLg2 - 12);
      const provenance = this.#from.pages.get(pageKey(entry.source, entry.pageLg2, page));
      const change = changeOf(this.#memory, provenance?.structures ?? []);
      if (change !== undefined && TABLE_LAYOUTS.has(change.structure))
        this.findings.push(wrongHint(entry, change, text));
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
    const pages = this.#caches.iotlb.entries().filter((entry) => this.#fresh.staleness(entry));
    return pages.length + this.#countStaleConfiguration();
  }

  #countStaleConfiguration(): number {
    const before = this.findings.length;
    const open = new Map(this.#open);
    this.#open.clear();
    this.#auditOthers();
    const stale = this.findings.length - before;
    this.findings.length = before;
    this.#open.clear();
    for (const [key, finding] of open) this.#open.set(key, finding);
    return stale;
  }

  /** Findings whose entry is gone now: the command came, but late. */
  #closeFindings(): void {
    if (this.#open.size === 0) return;
    const live = liveKeys(this.#caches, this.#interruptCache);
    for (const [key, finding] of this.#open) {
      if (live.has(key)) continue;
      finding.verdict = 'late';
      this.#open.delete(key);
    }
  }

  /** Where the entries of the caches came from. */
  snapshot(): SanitizerSnapshot {
    return { commands: this.commands, log: [...this.#log], ...this.#from.save() };
  }

  /** Put a state back; without one nothing is known of the entries. Findings stay. */
  restore(state: SanitizerSnapshot | undefined): void {
    this.commands = state?.commands ?? 0;
    this.#log.splice(0, this.#log.length, ...(state?.log ?? []));
    this.#from.load(state);
    this.#open.clear();
  }
}
