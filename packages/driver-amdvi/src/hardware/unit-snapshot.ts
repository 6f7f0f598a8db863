/**
 * Counters of a unit, and its state as plain data.
 */
import type { Caches } from './caches.ts';
import type { CommandBuffer } from './command-buffer.ts';
import type { CommandExecutor } from './commands.ts';
import type { AmdviSnapshot, AmdviStats } from './options.ts';
import type { RegisterBank } from './register-bank.ts';
import type { RegisterWindow } from './register-window.ts';
import type { RequestCounters } from './request-parts.ts';
import type { Sanitizer } from './sanitizer.ts';
import type { UnitLogs } from './unit-logs.ts';

/** The parts of a unit that count, or hold state. */
export interface StatefulParts {
  readonly bank: RegisterBank;
  readonly caches: Caches;
  readonly logs: UnitLogs;
  readonly commands: CommandBuffer;
  readonly executor: CommandExecutor;
  readonly counters: RequestCounters;
  readonly window: RegisterWindow;
  readonly sanitizer: Sanitizer | undefined;
}

/** Counters since the unit was made. */
export const statsOf = (parts: StatefulParts): AmdviStats => {
  const { caches, logs, commands, executor, counters } = parts;
  const { hits, misses } = caches.iotlb.statistics;
  return {
    iotlbHits: hits,
    iotlbMisses: misses,
    bypassed: counters.bypassed,
    refused: counters.refused,
    translationRequests: counters.translationRequests,
    translatedRequests: counters.translatedRequests,
    pageRequests: counters.pageRequests,
    pageRequestsLost: logs.pageRequests.lost,
    events: logs.events.written,
    eventsLost: logs.events.lost,
    commands: commands.executed,
    superfluousInvalidations: executor.superfluous,
    entriesInvalidated: executor.removed,
    pageResponses: executor.responses,
  };
};

/** State of a unit, without memory. */
export const saveUnit = ({ bank, caches, commands, sanitizer }: StatefulParts): AmdviSnapshot => ({
  registers: bank.save(),
  caches: caches.snapshot(),
  hung: commands.hung,
  ...(sanitizer && { sanitizer: sanitizer.snapshot() }),
});

/**
 * Put a state back.
 * @throws {RangeError} with nothing changed, when it comes from a unit with other registers or cache
 *   sizes
 */
export const restoreUnit = (parts: StatefulParts, state: AmdviSnapshot): void => {
  const { bank, caches, commands, window, sanitizer } = parts;
  bank.check(state.registers);
  caches.restore(state.caches);
  bank.load(state.registers);
  window.follow();
  commands.hung = state.hung;
  sanitizer?.restore(state.sanitizer);
};
