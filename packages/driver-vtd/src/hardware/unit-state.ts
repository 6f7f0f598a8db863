/**
 * Counters of a unit, and its state as plain data.
 */
import { GSTS } from '../spec/registers.ts';
import type { Caches } from './caches.ts';
import type { FaultRecorder } from './fault-recording.ts';
import type { InterruptCache } from './interrupt-cache.ts';
import type { InterruptRemapper } from './interrupt-remapping.ts';
import type { InvalidationCommands } from './invalidation-commands.ts';
import type { InvalidationQueue } from './invalidation-queue.ts';
import type { VtdSnapshot, VtdStats } from './options.ts';
import type { PageRequestQueue } from './page-request-queue.ts';
import type { RegisterFile } from './register-file.ts';
import type { RequestEngine } from './requests.ts';
import type { Sanitizer } from './sanitizer.ts';
import type { Translator } from './translate.ts';
import { type PasidAllocator, PasidPool } from './virtual-command.ts';

/** The parts of a unit that count, or hold state. */
export interface StatefulParts {
  readonly registers: RegisterFile;
  readonly caches: Caches;
  readonly translator: Translator;
  readonly engine: RequestEngine;
  readonly faults: FaultRecorder;
  readonly queue: InvalidationQueue;
  readonly commands: InvalidationCommands;
  readonly pageRequests: PageRequestQueue;
  readonly pasids: PasidAllocator;
  readonly interrupts: InterruptRemapper;
  readonly interruptCache: InterruptCache;
  readonly sanitizer: Sanitizer | undefined;
}

/** Counters since the unit was made. */
export function statsOf(parts: StatefulParts): VtdStats {
  const { hits, misses, bypassed, translationRequests, translatedRequests, pageRequests } =
    parts.engine.state;
  return {
    translations: hits + misses,
    iotlbHits: hits,
    iotlbMisses: misses,
    bypassed,
    translationRequests,
    translatedRequests,
    pageRequests,
    pageRequestsOverflowed: parts.pageRequests.overflowed,
    faults: parts.faults.recorded,
    faultsDropped: parts.faults.dropped,
    descriptors: parts.queue.executed,
    superfluousInvalidations: parts.commands.superfluous,
    entriesInvalidated: parts.commands.removed,
    pageResponses: parts.commands.responses,
    interrupts: parts.interrupts.state.requests,
    interruptsPosted: parts.interrupts.posted,
    interruptsBlocked: parts.interrupts.state.blocked,
  };
}

/** State of a unit, without memory. */
export function saveUnit(parts: StatefulParts): VtdSnapshot {
  const { registers, caches, translator, faults, queue, pasids, sanitizer } = parts;
  const { rootTable, ttm, ssirwe } = translator;
  return {
    registers: registers.values.slice(),
    caches: caches.snapshot(),
    rootTable,
    ttm,
    ssirwe,
    nextFaultIndex: faults.nextIndex,
    timedOutSid: queue.timedOutSid,
    interruptTable: parts.interrupts.table,
    interruptEntries: parts.interruptCache.entries(),
    pasids: pasids instanceof PasidPool ? pasids.snapshot() : [],
    ...(sanitizer && { sanitizer: sanitizer.snapshot() }),
  };
}

/**
 * Put a state back.
 * @throws {RangeError} with nothing changed, when it comes from a unit with other register or cache
 *   sizes
 */
export function restoreUnit(parts: StatefulParts, state: VtdSnapshot): void {
  const { registers, caches, translator, faults, queue, pasids, engine } = parts;
  if (state.registers.length !== registers.values.length)
    throw new RangeError(
      `snapshot has ${state.registers.length} register dwords, this unit ${registers.values.length}`,
    );
  caches.restore(state.caches);
  registers.values.set(state.registers);
  translator.rootTable = state.rootTable;
  translator.ttm = state.ttm;
  translator.ssirwe = state.ssirwe;
  faults.nextIndex = state.nextFaultIndex;
  queue.timedOutSid = state.timedOutSid;
  parts.interrupts.table = state.interruptTable;
  parts.interruptCache.restore(state.interruptEntries);
  if (pasids instanceof PasidPool) pasids.restore(state.pasids);
  parts.sanitizer?.restore(state.sanitizer);
  engine.state.enabled = (registers.get(GSTS.offset) & GSTS.fields.TES.mask) !== 0;
}
