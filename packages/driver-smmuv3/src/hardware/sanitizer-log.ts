/**
 * The findings of a sanitizer, and the commands that may have been meant for them.
 */
import { hex } from '@iommukit/bits';
import type { IotlbEntry } from '@iommukit/pgtable-fast';
import type { HardwareMemory } from './memory.ts';
import { changeOf, dueFor } from './sanitizer-due.ts';
import type { LoggedCommand, Provenance, SanitizerFinding } from './sanitizer-findings.ts';

const LOG_LIMIT = 1024;
const EVERY_TARGET = -1;

/** A finding before its cause is known. */
export type FindingFacts = Omit<SanitizerFinding, 'verdict' | 'change' | 'due' | 'seen' | 'text'>;

/** A command with its number. */
type NumberedCommand = LoggedCommand & { readonly ordinal: number };

/** Findings, of which those whose entry is still cached are open. */
export class FindingLog {
  readonly findings: SanitizerFinding[] = [];
  /** Invalidation commands seen. */
  commands = 0;
  readonly #memory: HardwareMemory;
  readonly #log: NumberedCommand[] = [];
  readonly #open = new Map<string, SanitizerFinding>();

  constructor(memory: HardwareMemory) {
    this.#memory = memory;
  }

  /** Keys of open findings. */
  get openKeys(): string[] {
    return [...this.#open.keys()];
  }

  /** A command ran. */
  ran(command: LoggedCommand): void {
    this.commands++;
    this.#log.push({ ...command, ordinal: this.commands });
    if (this.#log.length > LOG_LIMIT) this.#log.shift();
  }

  /** The entry has been filled anew: what was found of the old one is history. */
  forget(key: string): void {
    this.#open.delete(key);
  }

  /** The entry is gone: the command came, but late. */
  close(key: string): void {
    const finding = this.#open.get(key);
    if (finding === undefined) return;
    finding.verdict = 'late';
    this.#open.delete(key);
  }

  /** One more finding, unless one of this entry is open. */
  add(
    key: string,
    provenance: Provenance | undefined,
    entry: IotlbEntry | undefined,
    facts: FindingFacts,
  ): void {
    if (this.#open.has(key)) return;
    const change = changeOf(this.#memory, provenance?.structures ?? []);
    const due = dueFor(change, { ...facts, entry });
    const seen = this.#seenSince(provenance?.ordinal ?? 0, facts);
    const verdict = seen.length > 0 ? 'partial' : 'missing';
    const where = change
      ? `${change.structure} at ${hex(change.address)} changed`
      : 'the stream table moved';
    const text = `${facts.kind} of SID ${hex(facts.rid)}: cache says ${facts.cached}, tables say ${facts.fresh}; ${where}; ${verdict}: ${due.join(', then ')}`;
    const finding: SanitizerFinding = { ...facts, verdict, change, due, seen, text };
    this.findings.push(finding);
    this.#open.set(key, finding);
  }

  /** Commands that could have been meant for this. */
  #seenSince(since: number, { kind, rid, vmid }: FindingFacts): string[] {
    const about =
      kind === 'stale-stream' || kind === 'stale-context'
        ? 'configuration'
        : kind === 'stale-device-tlb'
          ? 'device'
          : 'translations';
    const target = about === 'translations' ? vmid : rid;
    return this.#log
      .filter((command) => command.ordinal > since && command.about === about)
      .filter((command) => command.target === target || command.target === EVERY_TARGET)
      .map(({ text }) => text);
  }

  /** No finding is open any more; those that there are stay. */
  forgetAll(): void {
    this.#open.clear();
  }
}
