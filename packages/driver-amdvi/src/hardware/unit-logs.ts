/**
 * The rings of a unit: command buffer, event log and PPR log, with log B of each.
 */
import type { Register } from '@iommukit/bits';
import * as spec from '../spec/registers.ts';
import type { Features } from './capabilities.ts';
import { EVENT_LOG_BITS, EventLog, type HardwareEventWords } from './event-log.ts';
import type { InterruptMessages } from './interrupt-messages.ts';
import type { HardwareMemory } from './memory.ts';
import { PPR_LOG_BITS, PprLog } from './ppr-log.ts';
import type { RegisterBank } from './register-bank.ts';
import { Ring } from './ring.ts';
import type { UnitState } from './unit-state.ts';

/** What the logs are built on. */
export interface LogEnvironment {
  readonly memory: HardwareMemory;
  readonly bank: RegisterBank;
  readonly state: UnitState;
  readonly features: Features;
  readonly messages: InterruptMessages;
}

/** Makes and owns them. */
export class UnitLogs {
  readonly commands: Ring;
  readonly events: EventLog;
  readonly pageRequests: PprLog;
  /** The ring of each base register. */
  readonly byBase: ReadonlyMap<Register, Ring>;

  constructor(environment: LogEnvironment) {
    const { bank } = environment;
    const ring = (base: typeof spec.CMD_BUF_BASE, head: Register, tail: Register) =>
      new Ring(bank, base, head, tail);
    this.commands = ring(spec.CMD_BUF_BASE, spec.CMD_BUF_HEAD, spec.CMD_BUF_TAIL);
    const eventsA = ring(spec.EVENT_LOG_BASE, spec.EVENT_LOG_HEAD, spec.EVENT_LOG_TAIL);
    const eventsB = ring(spec.EVENT_LOG_B_BASE, spec.EVENT_LOG_B_HEAD, spec.EVENT_LOG_B_TAIL);
    const pprA = ring(spec.PPR_LOG_BASE, spec.PPR_LOG_HEAD, spec.PPR_LOG_TAIL);
    const pprB = ring(spec.PPR_LOG_B_BASE, spec.PPR_LOG_B_HEAD, spec.PPR_LOG_B_TAIL);
    this.events = eventLog(environment, eventsA, eventsB);
    this.pageRequests = pprLog(environment, pprA, pprB);
    this.byBase = new Map<Register, Ring>([
      [spec.CMD_BUF_BASE, this.commands],
      [spec.EVENT_LOG_BASE, eventsA],
      [spec.EVENT_LOG_B_BASE, eventsB],
      [spec.PPR_LOG_BASE, pprA],
      [spec.PPR_LOG_B_BASE, pprB],
    ]);
  }

  /** Take over all base registers. */
  reload(): void {
    for (const ring of this.byBase.values()) ring.reload();
  }
}

const eventLog = (
  { memory, bank, state, features, messages }: LogEnvironment,
  ringA: Ring,
  ringB: Ring,
): EventLog => {
  const copy: HardwareEventWords = {
    lo: bank.words(spec.HW_EVENT_LO),
    hi: bank.words(spec.HW_EVENT_HI),
    status: bank.words(spec.HW_EVENT_STATUS),
  };
  const parts = {
    memory,
    ringA,
    ringB,
    status: bank.words(spec.STATUS),
    bits: EVENT_LOG_BITS,
    interrupt: () => state.eventInterrupt && messages.general(),
  };
  return new EventLog(parts, features.hardwareErrors ? copy : undefined, () => state.enabled);
};

const pprLog = (
  { memory, bank, state, messages }: LogEnvironment,
  ringA: Ring,
  ringB: Ring,
): PprLog => {
  const parts = {
    memory,
    ringA,
    ringB,
    status: bank.words(spec.STATUS),
    bits: PPR_LOG_BITS,
    interrupt: () => state.pprInterrupt && messages.pageRequests(),
  };
  return new PprLog(parts, {
    registers: [bank.words(spec.PPR_OVERFLOW_EARLY), bank.words(spec.PPR_OVERFLOW_EARLY_B)],
    interrupt: () => messages.pageRequests(),
  });
};
