import { refuse } from '@iommukit/core';
import { FSTS, GCMD, GSTS } from '../spec/registers.ts';
import type { RegisterFile } from './register-file.ts';

/**
 * Bits of GSTS that a GCMD write repeats: the one-shot commands are left out, so that none of
 * them runs again.
 *
 * @spec VT-d 11.4.4.1
 */
const GSTS_KEPT = 0x96ff_ffff;

/** Polls of a status bit before the unit counts as dead. */
const MAX_POLLS = 1000;

/** Global commands, each followed by its status handshake. */
export class GlobalCommands {
  readonly #registers: RegisterFile;

  constructor(registers: RegisterFile) {
    this.#registers = registers;
  }

  /** Whether a level is on: TES, QIES, IRES. */
  isOn(statusMask: number): boolean {
    return (this.#registers.read32(GSTS.offset) & statusMask) !== 0;
  }

  /** Switch a level on or off and wait for its status. */
  setLevel(commandMask: number, on: boolean): void {
    const kept = this.#registers.read32(GSTS.offset) & GSTS_KEPT;
    const command = on ? kept | commandMask : kept & ~commandMask;
    this.#registers.write32(GCMD.offset, command >>> 0);
    this.#await(commandMask, on);
  }

  /** Run a one-shot command whose status bit becomes 1 when it is done (SRTP). */
  pulse(commandMask: number): void {
    const kept = this.#registers.read32(GSTS.offset) & GSTS_KEPT;
    this.#registers.write32(GCMD.offset, (kept | commandMask) >>> 0);
    this.#await(commandMask, true);
  }

  /** Flush the write buffer; only units with CAP.RWBF need it. */
  flushWriteBuffer(): void {
    const kept = this.#registers.read32(GSTS.offset) & GSTS_KEPT;
    this.#registers.write32(GCMD.offset, (kept | GCMD.fields.WBF.mask) >>> 0);
    this.#await(GSTS.fields.WBFS.mask, false);
  }

  #await(statusMask: number, set: boolean): void {
    for (let poll = 0; poll < MAX_POLLS; poll++) {
      if (((this.#registers.read32(GSTS.offset) & statusMask) !== 0) === set) return;
    }
    throw refuse(
      'EIO',
      'global-command',
      'hardware-timeout',
      `GSTS bit ${31 - Math.clz32(statusMask)} did not become ${set ? 1 : 0}`,
      { value: this.#registers.read32(GSTS.offset) },
    );
  }
}

/** Write back the write-one-to-clear bits named by `mask` of FSTS. */
export const clearFaultStatus = (registers: RegisterFile, mask: number): void =>
  registers.write32(FSTS.offset, mask);
