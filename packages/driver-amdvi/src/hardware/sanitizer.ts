/**
 * Finds missing invalidations: compares what caches hold with what the tables say now.
 *
 * Checked on every use of a cached translation, and over all cache entries when asked. A finding
 * names the entry, the structure that changed (address, old and new words), the command that was
 * due, and whether it was missing, partial (something was invalidated, not this), or came late.
 *
 * @spec AMD IOMMU 2.4 (invalidation commands), 2.2.5 (caching)
 */
import { hex, type Layout } from '@iommukit/bits';
import type { IotlbEntry } from '@iommukit/pgtable-fast';
import type { Caches } from './caches.ts';
import type { HardwareMemory } from './memory.ts';
import { changeOf } from './sanitizer-due.ts';
import type {
  LoggedCommand,
  Provenance,
  SanitizerFinding,
  SanitizerSnapshot,
  SeenStructure,
} from './sanitizer-findings.ts';
import { deviceKey, guestKey, ProvenanceStore, pageKey } from './sanitizer-provenance.ts';
import { hintFinding, type StaleFacts, staleFinding } from './sanitizer-report.ts';
import { FreshWalk } from './sanitizer-walk.ts';
import type { TraceSink } from './trace.ts';
import type { Translator } from './translate.ts';
import { needOf } from './translation-request.ts';

const LOG_LIMIT = 1024;

/** Watches one unit. */
export class Sanitizer implements TraceSink {
  readonly findings: SanitizerFinding[] = [];
  /** Commands after which no stale entry was gone. */
  superfluous = 0;
  /** Commands seen. */
  commands = 0;

  readonly #memory: HardwareMemory;
  readonly #caches: Caches;
  readonly #fresh: FreshWalk;
  readonly #log: (LoggedCommand & { readonly ordinal: number })[] = [];
  readonly #from = new ProvenanceStore();
  /** Findings whose entry is still cached. */
  readonly #open = new Map<string, SanitizerFinding>();
  #reads: SeenStructure[] = [];
  #rid = 0;
  #staleBefore = 0;

  /**
   * @param unit the unit's translator, whose reads are followed
   * @param fresh a dry translator that uses no cache
   */
  constructor(memory: HardwareMemory, caches: Caches, unit: Translator, fresh: Translator) {
    this.#memory = memory;
    this.#caches = caches;
    this.#fresh = new FreshWalk(fresh);
    unit.trace = this;
    unit.onGuestKept = (domain, pasid) => this.#filledGuest(domain, pasid);
  }

  /** A request starts. */
  begin(rid: number): void {
    this.#reads = [];
    this.#rid = rid;
  }

  /** A structure was read. */
  read(layout: Layout, address: number, words: ArrayLike<number>): void {
    const seen = { structure: layout.name, address, words: Array.from(words, (w) => w >>> 0) };
    this.#reads.push(seen);
    if (layout.name === 'DTE') this.#from.devices.set(this.#rid, this.#provenance([seen]));
  }

  /** A step: nothing answered. */
  busError(): void {}
  /** A step: a cache was consulted. */
  cache(): void {}
  /** A step: a rule decided. */
  rule(): void {}

  #provenance(structures: readonly SeenStructure[]): Provenance {
    return { rid: this.#rid, structures, ordinal: this.commands };
  }

  /** The cache of guest CR3s took an entry. */
  #filledGuest(domain: number, pasid: number): void {
    const reads = this.#reads.filter(({ structure }) => structure !== 'DTE');
    this.#from.guests.set(guestKey(domain, pasid), this.#provenance(reads));
    this.#open.delete(guestKey(domain, pasid));
  }

  /** The IOTLB took an entry. @param pfn any 4 KiB frame of the page */
  filled(domain: number, pasid: number, pfn: number, sizeLg2: number): void {
    const key = pageKey(domain, pasid, sizeLg2, pfn - (pfn % 2 ** (sizeLg2 - 12)));
    const device = this.#from.devices.get(this.#rid)?.structures ?? [];
    const guest = this.#from.guests.get(guestKey(domain, pasid))?.structures ?? [];
    const tables = this.#reads.filter(({ structure }) => structure !== 'DTE');
    this.#from.pages.set(key, this.#provenance([...device, ...guest, ...tables]));
    this.#open.delete(key);
  }

  /** A cached translation is used for an access. */
  used(rid: number, pasid: number, pfn: number, access: number, target: number): void {
    const code = this.#fresh.walk(rid, pasid, pfn, needOf(pasid, access));
    const stale = code !== 0 || this.#fresh.translator.pfn !== target;
    if (!stale && !this.#fresh.owesDirty()) return;
    const entry = this.#entryOf(rid, pasid, pfn);
    if (entry === undefined) return;
    this.#report(entry, rid, stale ? 'stale-translation' : 'stale-dirty', 'use', code, target);
  }

  #entryOf(rid: number, pasid: number, pfn: number): IotlbEntry | undefined {
    const { iotlb, devices } = this.#caches;
    const at = devices.lookup(rid, -1);
    if (at < 0) return undefined;
    const domain = (devices.words[at + 2] as number) & 0xffff;
    for (const tag of pasid < 0 ? [pasid, 0] : [pasid]) {
      const entry = iotlb.describe(iotlb.find(domain, tag, pfn, 0));
      if (entry !== undefined) return entry;
    }
    return undefined;
  }

  /**
   * Compare every cache entry with the tables as they are now.
   * @returns findings of this audit; they are in {@link findings} too
   */
  audit(): readonly SanitizerFinding[] {
    const before = this.findings.length;
    for (const entry of this.#caches.iotlb.entries()) this.#auditPage(entry);
    for (const { source } of this.#caches.devices.entries()) this.#auditDevice(source);
    for (const { source, pasid } of this.#caches.guests.entries()) this.#auditGuest(source, pasid);
    return this.findings.slice(before);
  }

  /** A device for whose requests an entry counts; undefined = no device has its DomainID any more. */
  #userOf(entry: IotlbEntry): number | undefined {
    const maker = this.#provenanceOf(entry)?.rid;
    const domain = entry.source;
    if (maker !== undefined && this.#fresh.domainOf(maker) === domain) return maker;
    for (const rid of this.#from.devices.keys()) {
      if (this.#fresh.domainOf(rid) === domain) return rid;
    }
    return undefined;
  }

  #provenanceOf(entry: IotlbEntry): Provenance | undefined {
    return this.#from.pages.get(keyOf(entry));
  }

  #auditPage(entry: IotlbEntry): void {
    const rid = this.#userOf(entry);
    const maker = this.#provenanceOf(entry)?.rid ?? 0;
    if (rid === undefined) {
      this.#report(entry, maker, 'stale-translation', 'audit', -1, entry.outPfn);
      return;
    }
    const verdict = this.#fresh.staleness(entry, rid);
    if (verdict === undefined) return;
    this.#report(entry, rid, verdict.kind, 'audit', verdict.code, entry.outPfn);
  }

  #auditDevice(rid: number): void {
    if (this.#fresh.isDeviceFresh(this.#caches, rid)) return;
    const at = this.#caches.devices.lookup(rid, -1);
    const domain = (this.#caches.devices.words[at + 2] as number) & 0xffff;
    const now = this.#fresh.domainOf(rid);
    const facts: StaleFacts = {
      kind: 'stale-device',
      found: 'audit',
      rid,
      pasid: -1,
      iovaPfn: -1,
      domain,
      cached: `device table entry of DomainID ${domain}`,
      fresh: now < 0 ? 'no entry' : `another entry, DomainID ${now}`,
    };
    this.#add(deviceKey(rid), facts, this.#from.devices.get(rid));
  }

  #auditGuest(domain: number, pasid: number): void {
    const key = guestKey(domain, pasid);
    const provenance = this.#from.guests.get(key);
    if (changeOf(this.#memory, provenance?.structures ?? []) === undefined) return;
    const facts: StaleFacts = {
      kind: 'stale-guest',
      found: 'audit',
      rid: provenance?.rid ?? 0,
      pasid,
      iovaPfn: -1,
      domain,
      cached: `CR3 of PASID ${hex(pasid)}`,
      fresh: 'another one',
    };
    this.#add(key, facts, provenance);
  }

  #report(
    entry: IotlbEntry,
    rid: number,
    kind: 'stale-translation' | 'stale-dirty',
    found: 'use' | 'audit',
    code: number,
    target: number,
  ): void {
    const dirty = kind === 'stale-dirty' ? ', page counted as dirty' : '';
    const address = hex(this.#fresh.translator.pfn * 4096);
    const facts: StaleFacts = {
      kind,
      found,
      rid,
      pasid: entry.pasid,
      iovaPfn: entry.iovaPfn,
      domain: entry.source,
      cached: `${hex(target * 4096)}${dirty}`,
      fresh: code < 0 ? 'no device has this DomainID' : code === 0 ? address : `event ${code}`,
    };
    this.#add(keyOf(entry), facts, this.#provenanceOf(entry));
  }

  #add(key: string, facts: StaleFacts, provenance: Provenance | undefined): void {
    if (this.#open.has(key)) return;
    const finding = staleFinding(this.#memory, facts, provenance, this.#log);
    this.findings.push(finding);
    this.#open.set(key, finding);
  }

  /** A command is about to run. */
  commandStarts(command: LoggedCommand): void {
    if (command.implicit === true) return;
    this.#staleBefore = this.#countStale();
    if (command.leavesOnly === true) this.#checkHint(command);
  }

  /** PDE=0 promises that only leaf entries changed. */
  #checkHint({ domain, text }: LoggedCommand): void {
    for (const entry of this.#caches.iotlb.entries()) {
      if (entry.source !== domain) continue;
      const finding = hintFinding(this.#memory, entry, this.#provenanceOf(entry), text);
      if (finding !== undefined) this.findings.push(finding);
    }
  }

  /** It ran. */
  commandDone(command: LoggedCommand): void {
    this.commands++;
    this.#log.push({ ...command, ordinal: this.commands });
    if (this.#log.length > LOG_LIMIT) this.#log.shift();
    if (command.implicit !== true && this.#countStale() >= this.#staleBefore) this.superfluous++;
    this.#closeFindings();
  }

  #countStale(): number {
    const before = this.findings.length;
    const open = new Map(this.#open);
    this.#open.clear();
    this.audit();
    const stale = this.findings.length - before;
    this.findings.length = before;
    this.#open.clear();
    for (const [key, finding] of open) this.#open.set(key, finding);
    return stale;
  }

  /** Findings whose entry is gone now: the command came, but late. */
  #closeFindings(): void {
    if (this.#open.size === 0) return;
    const { iotlb, devices, guests } = this.#caches;
    const live = new Set<string>();
    for (const entry of iotlb.entries()) live.add(keyOf(entry));
    for (const { source } of devices.entries()) live.add(deviceKey(source));
    for (const { source, pasid } of guests.entries()) live.add(guestKey(source, pasid));
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

const keyOf = ({ source, pasid, sizeLg2, iovaPfn }: IotlbEntry): string =>
  pageKey(source, pasid, sizeLg2, iovaPfn);
