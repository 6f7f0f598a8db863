/**
 * From a stale cache entry to the finding that names its cause and the command that was due.
 */
import { hex } from '@iommukit/bits';
import type { IotlbEntry } from '@iommukit/pgtable-fast';
import type { HardwareMemory } from './memory.ts';
import { changeOf, dueFor, TABLE_LAYOUTS } from './sanitizer-due.ts';
import type { LoggedCommand, Provenance, SanitizerFinding } from './sanitizer-findings.ts';

/** A finding before its cause is known. */
export type StaleFacts = Omit<SanitizerFinding, 'verdict' | 'change' | 'due' | 'seen' | 'text'>;

const isAbout = (command: LoggedCommand, { domain, rid }: StaleFacts): boolean =>
  command.domain === domain ||
  command.rid === rid ||
  (command.domain < 0 && command.rid < 0 && command.implicit !== true);

/**
 * A stale entry with its cause.
 * @param log commands seen so far
 */
export const staleFinding = (
  memory: HardwareMemory,
  facts: StaleFacts,
  provenance: Provenance | undefined,
  log: readonly (LoggedCommand & { readonly ordinal: number })[],
): SanitizerFinding => {
  const change = changeOf(memory, provenance?.structures ?? []);
  const due = dueFor(change, facts);
  const since = provenance?.ordinal ?? 0;
  const seen = log
    .filter((command) => command.ordinal > since && isAbout(command, facts))
    .map(({ text }) => text);
  const verdict = seen.length > 0 ? 'partial' : 'missing';
  const where = change
    ? `${change.structure} at ${hex(change.address)} changed`
    : 'what leads there changed';
  const text = `${facts.kind} of DeviceID ${hex(facts.rid)}: cache says ${facts.cached}, tables say ${facts.fresh}; ${where}; ${verdict}: ${due.join(', then ')}`;
  return { ...facts, verdict, change, due, seen, text };
};

/**
 * PDE=0 on an entry that a changed table entry led to; undefined when only leaves changed.
 * @param command the command in words
 */
export const hintFinding = (
  memory: HardwareMemory,
  entry: IotlbEntry,
  provenance: Provenance | undefined,
  command: string,
): SanitizerFinding | undefined => {
  const change = changeOf(memory, provenance?.structures ?? []);
  if (change === undefined || !TABLE_LAYOUTS.has(change.structure)) return undefined;
  const due = `${command} PDE`;
  const rid = provenance?.rid ?? 0;
  return {
    kind: 'wrong-hint',
    verdict: 'partial',
    found: 'command',
    rid,
    pasid: entry.pasid,
    iovaPfn: entry.iovaPfn,
    domain: entry.source,
    cached: hex(entry.outPfn * 4096),
    fresh: 'a table entry that changed',
    change,
    due: [due],
    seen: [command],
    text: `wrong-hint for DeviceID ${hex(rid)}: ${change.structure} at ${hex(change.address)} changed; partial: ${due}`,
  };
};
