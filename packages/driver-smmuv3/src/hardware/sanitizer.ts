/**
 * Finds missing invalidations: compares what caches hold with what the tables say now.
 *
 * Checked on every use of something cached, and over all caches when asked. A finding names the
 * entry, the structure that changed (address, old and new words), the commands that were due, and
 * whether they were missing, partial (something was invalidated, not this), or came late.
 *
 * @spec SMMUv3 3.17, 3.21 (which invalidation after which change)
 */
import { hex, type Layout } from '@iommukit/bits';
import { ENTRY_KIND, type IotlbEntry } from '@iommukit/pgtable-fast';
import { type Caches, NO_INDEX } from './caches.ts';
import type { Stage1Config, StreamConfig } from './configuration.ts';
import type { HardwareMemory } from './memory.ts';
import { CacheAudit } from './sanitizer-audit.ts';
import { changeOf } from './sanitizer-due.ts';
import type {
  LoggedCommand,
  Provenance,
  SanitizerFinding,
  SeenStructure,
} from './sanitizer-findings.ts';
import { type DeviceTranslation, FreshWalk, type WatchedUnit } from './sanitizer-fresh.ts';
import { type FindingFacts, FindingLog } from './sanitizer-log.ts';
import {
  type CachedConfiguration,
  configurationKey,
  DeviceRecords,
  pageKey,
  SanitizerRecords,
} from './sanitizer-records.ts';
import type { TraceSink } from './trace.ts';
import type { UnitState } from './unit-state.ts';

const NONE = -1;

/** What of a request is known while it runs. */
interface Current {
  sid: number;
  ssid: number;
  stream: StreamConfig | undefined;
  context: Stage1Config | undefined;
  /** Structures that led to the configuration in use. */
  configuration: readonly SeenStructure[];
  reads: SeenStructure[];
}

const idle = (sid = 0, ssid = NONE): Current => ({
  sid,
  ssid,
  stream: undefined,
  context: undefined,
  configuration: [],
  reads: [],
});

/** Watches one unit. */
export class Sanitizer implements TraceSink {
  /** Commands after which no stale entry was gone. */
  superfluous = 0;
  readonly #memory: HardwareMemory;
  readonly #state: UnitState;
  readonly #caches: Caches;
  readonly #fresh: FreshWalk;
  readonly #records = new SanitizerRecords();
  readonly #devices = new DeviceRecords();
  readonly #audit: CacheAudit;
  readonly #log: FindingLog;
  #current = idle();
  /** What was stale before the command that runs, and whether it is there. */
  #stale: (() => boolean)[] = [];

  constructor(unit: WatchedUnit, caches: Caches) {
    this.#memory = unit.memory;
    this.#state = unit.state;
    this.#caches = caches;
    this.#fresh = new FreshWalk(unit);
    this.#audit = new CacheAudit(caches, this.#records, this.#fresh);
    this.#log = new FindingLog(unit.memory);
  }

  /** Missing invalidations, oldest first. */
  get findings(): SanitizerFinding[] {
    return this.#log.findings;
  }

  /** Invalidation commands seen. */
  get commands(): number {
    return this.#log.commands;
  }

  /** A request starts, perhaps inside another. @returns what {@link end} wants back */
  begin(sid: number, ssid: number): unknown {
    const outer = this.#current;
    this.#current = idle(sid, ssid);
    return outer;
  }

  /** It is over. */
  end(outer: unknown): void {
    this.#current = outer as Current;
  }

  /** A structure was read. */
  read(layout: Layout, address: number, words: Uint32Array, what: string): void {
    this.#current.reads.push({ structure: layout.name, address, words: [...words], what });
  }

  /** A step: nothing answered. */
  busError(): void {}
  /** A step: a cache was consulted. */
  cache(): void {}
  /** A step: a rule decided. */
  rule(): void {}

  /** A configuration cache took an entry. */
  configured(sid: number, index: number, value: StreamConfig | Stage1Config): void {
    const current = this.#current;
    const structures = [...current.configuration, ...current.reads];
    const key = configurationKey(sid, index);
    this.#records.configurations.set(key, {
      sid,
      index,
      value,
      provenance: this.#provenance(structures),
    });
    this.#log.forget(key);
    this.#use(index, value, structures);
    current.reads = [];
  }

  /** A cached configuration is used. */
  configurationUsed(sid: number, index: number, value: StreamConfig | Stage1Config): void {
    const known = this.#records.configurations.get(configurationKey(sid, index));
    this.#use(index, value, known?.provenance.structures ?? []);
    if (known !== undefined) this.#checkConfiguration(known, 'use');
  }

  #use(
    index: number,
    value: StreamConfig | Stage1Config,
    structures: readonly SeenStructure[],
  ): void {
    const current = this.#current;
    if (index === NO_INDEX) current.stream = value as StreamConfig;
    else current.context = value as Stage1Config;
    current.configuration = structures;
  }

  /** The TLB took an entry. */
  filled(entry: IotlbEntry): void {
    const { stream, context, configuration, reads } = this.#current;
    if (stream === undefined) return;
    const key = pageKey(entry);
    const provenance = this.#provenance([...configuration, ...reads]);
    this.#records.pages.set(key, { stream, context, provenance });
    this.#log.forget(key);
  }

  /** A cached translation is used. @param need rights, in place */
  used(entry: IotlbEntry, pfn: number, need: number): void {
    const { stream, context } = this.#current;
    if (stream === undefined) return;
    this.#current.reads = [
      ...(this.#records.pages.get(pageKey(entry))?.provenance.structures ?? []),
    ];
    const stale = this.#fresh.staleness(entry, stream, context, pfn, need);
    if (stale !== undefined) this.#reportPage(entry, stale.kind, 'use', stale.fresh);
  }

  /** A device was given a translation. */
  granted(sid: number, given: DeviceTranslation): void {
    const { configuration, reads } = this.#current;
    this.#devices.add(sid, {
      ...given,
      provenance: this.#provenance([...configuration, ...reads]),
    });
  }

  /** A device uses a translation that it was given. */
  usedByDevice(sid: number, pfn: number, access: number): void {
    if (!this.#state.enabled) return;
    const given = this.#devices.thatLeadTo(sid, pfn, access);
    const answers = given.map((one) => this.#fresh.deviceStaleness(sid, one));
    const [first] = given;
    if (first === undefined || answers.includes(undefined)) return;
    this.#log.add(`device/${sid}/${first.ssid}/${first.iovaPfn}`, first.provenance, undefined, {
      kind: 'stale-device-tlb',
      found: 'use',
      rid: sid,
      pasid: first.ssid,
      iovaPfn: first.iovaPfn,
      vmid: NONE,
      asid: NONE,
      cached: hex(pfn * 4096),
      fresh: answers[0] ?? '',
    });
  }

  /** A device has dropped what an ATC_INV named. */
  deviceInvalidated(sid: number, ssid: number, pfn: number, sizeLg2: number): void {
    const gone = this.#devices.remove(sid, ssid, pfn, sizeLg2);
    for (const { iovaPfn, ssid: tag } of gone) this.#log.close(`device/${sid}/${tag}/${iovaPfn}`);
  }

  /** The caches were replaced by others: nothing is known of where their entries came from. */
  forget(): void {
    this.#records.configurations.clear();
    this.#records.pages.clear();
    this.#devices.clear();
    this.#log.forgetAll();
  }

  /**
   * Compare every cache entry with the tables as they are now. What devices hold is not looked at:
   * the unit does not hear of a device that forgets.
   *
   * @returns findings of this audit; they are in {@link findings} too
   */
  audit(): readonly SanitizerFinding[] {
    const before = this.findings.length;
    for (const known of this.#audit.liveConfigurations()) this.#checkConfiguration(known, 'audit');
    for (const entry of this.#caches.tlb.entries()) {
      const stale = this.#audit.staleness(entry);
      if (stale !== undefined) this.#reportPage(entry, stale.kind, 'audit', stale.fresh);
    }
    return this.findings.slice(before);
  }

  /** A command is about to run. */
  commandStarts(command: LoggedCommand): void {
    this.#stale = this.#staleEntries(command);
    if (command.leafOnly && command.about === 'translations') this.#checkLeaf(command);
  }

  /** It ran. */
  commandDone(command: LoggedCommand): void {
    this.#log.ran(command);
    if (this.#stale.every((isThere) => isThere())) this.superfluous++;
    this.#closeGone();
  }

  #provenance(structures: readonly SeenStructure[]): Provenance {
    const { sid, ssid } = this.#current;
    return { structures, ordinal: this.commands, sid, ssid };
  }

  #checkConfiguration(known: CachedConfiguration, found: 'use' | 'audit'): void {
    if (!this.#audit.isStaleConfiguration(known)) return;
    const { sid, index, value, provenance } = known;
    const fresh = this.#audit.freshConfiguration(known);
    const isStream = index === NO_INDEX;
    this.#log.add(configurationKey(sid, index), provenance, undefined, {
      kind: isStream ? 'stale-stream' : 'stale-context',
      found,
      rid: sid,
      pasid: isStream ? NONE : index,
      iovaPfn: NONE,
      vmid: 'vmid' in value ? value.vmid : NONE,
      asid: 'asid' in value ? value.asid : NONE,
      cached: configurationText(value),
      fresh: fresh === undefined ? 'nothing that can be read' : configurationText(fresh),
    });
  }

  /** Whether each stale entry of the kind that a command is about is still there. */
  #staleEntries({ about }: LoggedCommand): (() => boolean)[] {
    if (about === 'configuration') return this.#staleConfigurations();
    if (about === 'device') return this.#staleDeviceTranslations();
    const stale: (() => boolean)[] = [];
    const { tlb } = this.#caches;
    for (const entry of tlb.entries()) {
      if (this.#audit.staleness(entry) === undefined) continue;
      const key = pageKey(entry);
      stale.push(() => [...tlb.entries()].some((left) => pageKey(left) === key));
    }
    return stale;
  }

  #staleConfigurations(): (() => boolean)[] {
    const stale: (() => boolean)[] = [];
    for (const known of this.#audit.liveConfigurations())
      if (this.#audit.isStaleConfiguration(known)) stale.push(() => this.#audit.isLive(known));
    return stale;
  }

  #staleDeviceTranslations(): (() => boolean)[] {
    const stale: (() => boolean)[] = [];
    for (const [sid, given] of this.#devices.all())
      if (this.#fresh.deviceStaleness(sid, given) !== undefined)
        stale.push(() => this.#devices.holds(sid, given));
    return stale;
  }

  /** Leaf=1 promises that only last-level entries changed. */
  #checkLeaf({ target, text }: LoggedCommand): void {
    for (const entry of this.#caches.tlb.entries()) {
      const known = this.#records.pages.get(pageKey(entry));
      if (known === undefined || (target >= 0 && entry.tagA !== target)) continue;
      if (this.#audit.staleness(entry) === undefined) continue;
      const change = changeOf(this.#memory, known.provenance.structures);
      if (change?.structure !== 'TABLE_DESCRIPTOR') continue;
      const facts = this.#pageFacts(entry, 'wrong-leaf', 'command', 'a table descriptor changed');
      const due = [`${text} Leaf=0`];
      const sentence = `wrong-leaf for SID ${hex(facts.rid)}: ${change.structure} at ${hex(change.address)} changed; partial: ${due[0]}`;
      this.findings.push({
        ...facts,
        verdict: 'partial',
        change,
        due,
        seen: [text],
        text: sentence,
      });
    }
  }

  #reportPage(
    entry: IotlbEntry,
    kind: 'stale-translation' | 'stale-dirty',
    found: 'use' | 'audit',
    fresh: string,
  ): void {
    const key = pageKey(entry);
    const { provenance } = this.#records.pages.get(key) ?? {};
    this.#log.add(key, provenance, entry, this.#pageFacts(entry, kind, found, fresh));
  }

  #pageFacts(
    entry: IotlbEntry,
    kind: SanitizerFinding['kind'],
    found: SanitizerFinding['found'],
    fresh: string,
  ): FindingFacts {
    const { provenance } = this.#records.pages.get(pageKey(entry)) ?? {};
    return {
      kind,
      found,
      rid: provenance?.sid ?? this.#current.sid,
      pasid: provenance?.ssid ?? this.#current.ssid,
      iovaPfn: entry.iovaPfn,
      vmid: entry.tagA,
      asid: entry.kind === ENTRY_KIND.SECOND_STAGE ? NONE : entry.pasid,
      cached: `${hex(entry.outPfn * 4096)}${kind === 'stale-dirty' ? ', page counted as dirty' : ''}`,
      fresh,
    };
  }

  /** Findings whose entry is gone now: the command came, but late. */
  #closeGone(): void {
    const open = this.#log.openKeys;
    if (open.length === 0) return;
    const live = new Set<string>();
    for (const entry of this.#caches.tlb.entries()) live.add(pageKey(entry));
    for (const { sid, index } of this.#audit.liveConfigurations())
      live.add(configurationKey(sid, index));
    for (const key of open) {
      if (!live.has(key) && !key.startsWith('device/')) this.#log.close(key);
    }
  }
}

const configurationText = (value: StreamConfig | Stage1Config): string => {
  if (value.bad) return 'an entry that is not valid';
  if ('config' in value) return `Config=${value.config} VMID ${value.vmid}`;
  const root = value.lower ?? value.upper;
  return `ASID ${value.asid} table ${hex(root?.root ?? 0)}`;
};
