/**
 * The register page: which writes are taken, what they start, and the Run bits that follow enables.
 *
 * @spec AMD IOMMU 3.4 (registers and the side effects of writing them)
 */
import type { Register } from '@iommukit/bits';
import * as spec from '../spec/registers.ts';
import type { Caches } from './caches.ts';
import type { Features } from './capabilities.ts';
import type { CommandBuffer } from './command-buffer.ts';
import type { DualLog } from './dual-log.ts';
import type { RegisterBank } from './register-bank.ts';
import { type ControlFields, maskControl, readControl, reloadState } from './register-state.ts';
import type { UnitLogs } from './unit-logs.ts';
import type { UnitState } from './unit-state.ts';

/** What register writes reach. */
export interface WindowParts {
  readonly bank: RegisterBank;
  readonly state: UnitState;
  readonly features: Features;
  readonly logs: UnitLogs;
  readonly commands: CommandBuffer;
  readonly caches: Caches;
}

/** Enables as last written: only their edge restarts what an overflow or error stopped. */
interface Wanted {
  events: boolean;
  pageRequests: boolean;
  commands: boolean;
  guestTables: boolean;
}

const GA_LOG_RUN = spec.STATUS.fields.GA_LOG_RUN.mask;

/** Registers as software sees them. */
export class RegisterWindow {
  readonly #parts: WindowParts;
  readonly #wanted: Wanted = {
    events: false,
    pageRequests: false,
    commands: false,
    guestTables: false,
  };
  /** The log whose Run bit keeps a register from being written. */
  readonly #owner: ReadonlyMap<Register, DualLog | CommandBuffer>;

  constructor(parts: WindowParts) {
    this.#parts = parts;
    const { events, pageRequests } = parts.logs;
    this.#owner = new Map<Register, DualLog | CommandBuffer>([
      [spec.CMD_BUF_BASE, parts.commands],
      [spec.CMD_BUF_HEAD, parts.commands],
      [spec.EVENT_LOG_BASE, events],
      [spec.EVENT_LOG_TAIL, events],
      [spec.EVENT_LOG_B_BASE, events],
      [spec.EVENT_LOG_B_TAIL, events],
      [spec.PPR_LOG_BASE, pageRequests],
      [spec.PPR_LOG_TAIL, pageRequests],
      [spec.PPR_LOG_B_BASE, pageRequests],
      [spec.PPR_LOG_B_TAIL, pageRequests],
    ]);
  }

  /** Read a dword; 0 where there is no register. */
  read32(offset: number): number {
    return this.#parts.bank.read(offset);
  }

  /** Write a dword. */
  write32(offset: number, value: number): void {
    const { bank } = this.#parts;
    const register = bank.at(offset);
    if (register === undefined || !this.#accepts(register, offset, value)) return;
    bank.write(offset, value);
    this.#afterWrite(register);
  }

  /** Write an aligned qword in one access. */
  write64(offset: number, lo: number, hi: number): void {
    const { bank } = this.#parts;
    const register = bank.at(offset);
    if (register === undefined || register.words === 1) {
      this.write32(offset, lo);
      this.write32(offset + 4, hi);
      return;
    }
    if (!this.#accepts(register, offset, lo) || !this.#accepts(register, offset + 4, hi)) return;
    bank.write(offset, lo);
    bank.write(offset + 4, hi);
    this.#afterWrite(register);
  }

  /** Rings that run keep their place; a length below 2^8 entries is reserved. */
  #accepts(register: Register, offset: number, value: number): boolean {
    if (this.#owner.get(register)?.running === true) return false;
    // Read-only with every bit, also those that this model has no name for.
    if (register === spec.EFR || register === spec.EFR2) return false;
    if (register === spec.CMD_BUF_TAIL) {
      return offset !== register.offset || value >>> 0 < this.#parts.logs.commands.bytes;
    }
    return !this.#parts.logs.byBase.has(register) || hasRingLength(register, offset, value);
  }

  #afterWrite(register: Register): void {
    const { logs, commands, bank, features, state } = this.#parts;
    const ring = logs.byBase.get(register);
    if (ring !== undefined) {
      ring.reload();
      ring.rewind();
    } else if (register === spec.CONTROL) this.#controlChanged();
    else if (register === spec.CMD_BUF_TAIL) commands.process();
    else reloadState(bank, features, state);
  }

  /** Bits of absent features read back 0; the rings follow their enables. */
  #controlChanged(): void {
    const { bank, features, state } = this.#parts;
    maskControl(bank, features);
    const control = readControl(bank);
    reloadState(bank, features, state);
    this.#guestTablesChanged();
    this.#logsChanged(control);
    const commands = state.enabled && control.CMD_BUF_EN === 1;
    if (commands === this.#wanted.commands) return;
    this.#wanted.commands = commands;
    this.#parts.commands.setRunning(commands);
  }

  /** GTEn decides what entries mean, and was decoded when they were cached. */
  #guestTablesChanged(): void {
    const { guestTables } = this.#parts.state;
    if (guestTables === this.#wanted.guestTables) return;
    this.#wanted.guestTables = guestTables;
    this.#parts.caches.devices.invalidateAll();
  }

  #logsChanged(control: ControlFields): void {
    const { logs, state, bank } = this.#parts;
    const wanted = this.#wanted;
    const events = state.enabled && control.EVENT_LOG_EN === 1;
    const pageRequests = state.enabled && control.PPR_LOG_EN === 1;
    logs.events.select(control.DUAL_EVENT_LOG_EN);
    logs.pageRequests.select(control.DUAL_PPR_LOG_EN);
    if (events !== wanted.events) logs.events.setEnabled(events);
    if (pageRequests !== wanted.pageRequests) logs.pageRequests.setEnabled(pageRequests);
    wanted.events = events;
    wanted.pageRequests = pageRequests;
    const status = bank.words(spec.STATUS);
    const guestApic = state.enabled && control.GA_LOG_EN === 1;
    status[0] = ((status[0] as number) & ~GA_LOG_RUN) | (guestApic ? GA_LOG_RUN : 0);
  }

  /** Registers as after power-on. */
  reset(): void {
    const { bank, features, logs } = this.#parts;
    bank.reset();
    bank.words(spec.EFR).set([features.efrLo, features.efrHi]);
    bank.words(spec.EFR2).set([features.efr2Lo, features.efr2Hi]);
    logs.reload();
    logs.events.select(spec.DUAL_LOG.A);
    logs.pageRequests.select(spec.DUAL_LOG.A);
    this.follow();
  }

  /** Take over register values that were put there as a whole; nothing is started. */
  follow(): void {
    const { bank, features, state, logs } = this.#parts;
    reloadState(bank, features, state);
    const control = readControl(bank);
    const wanted = this.#wanted;
    wanted.events = state.enabled && control.EVENT_LOG_EN === 1;
    wanted.pageRequests = state.enabled && control.PPR_LOG_EN === 1;
    wanted.commands = state.enabled && control.CMD_BUF_EN === 1;
    wanted.guestTables = state.guestTables;
    logs.reload();
    logs.events.select(control.DUAL_EVENT_LOG_EN);
    logs.pageRequests.select(control.DUAL_PPR_LOG_EN);
  }
}

/** Ring lengths stand in the high dword; a write of the low one alone leaves it. */
const hasRingLength = (register: Register, offset: number, value: number): boolean => {
  const length = register.fields['LEN'];
  if (length === undefined || offset === register.offset) return true;
  return (value & length.mask) >>> length.shift >= 8;
};
