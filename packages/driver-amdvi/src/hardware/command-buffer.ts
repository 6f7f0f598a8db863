/**
 * The command buffer: fetches commands and checks their bits; the first bad one stops it.
 *
 * @spec AMD IOMMU 2.4
 */
import { COMMAND_BYTES, COMMAND_LAYOUTS } from '../spec/commands.ts';
import { STATUS } from '../spec/registers.ts';
import { type CommandExecutor, RESULT } from './commands.ts';
import type { EventRecords } from './event-records.ts';
import { type HardwareMemory, readDwords } from './memory.ts';
import type { Ring } from './ring.ts';

const OPCODE_SHIFT = 28;
const RUN = STATUS.fields.CMD_BUF_RUN.mask;
const LOW_16 = 0xffff;

/** What the buffer works with. */
export interface CommandBufferParts {
  readonly memory: HardwareMemory;
  readonly events: EventRecords;
  readonly executor: CommandExecutor;
  /** Dwords of the status register. */
  readonly status: Uint32Array;
}

/** Processes commands while Status.CmdBufRun is set. */
export class CommandBuffer {
  readonly ring: Ring;
  /** Commands executed since the unit was made. */
  executed = 0;
  /** The command at the head waits for an answer that never comes (Control.InvTimeOut 0). */
  hung = false;
  readonly #parts: CommandBufferParts;
  readonly #words = new Int32Array(COMMAND_BYTES / 4);
  #busy = false;

  constructor(ring: Ring, parts: CommandBufferParts) {
    this.ring = ring;
    this.#parts = parts;
  }

  get running(): boolean {
    return ((this.#parts.status[0] as number) & RUN) !== 0;
  }

  /** Follow Control.CmdBufEn and IommuEn; the edge to 1 leaves an error stop. */
  setRunning(run: boolean): void {
    const { status } = this.#parts;
    const word = status[0] as number;
    status[0] = run ? word | RUN : word & ~RUN;
    this.hung = false;
    if (run) this.process();
  }

  /**
   * Execute everything between head and tail. An interrupt handler may write the tail meanwhile;
   * its commands are done by the outer call.
   */
  process(): void {
    if (this.#busy || this.hung) return;
    this.#busy = true;
    try {
      this.#drain();
    } finally {
      this.#busy = false;
    }
  }

  #drain(): void {
    const { ring } = this;
    while (this.running && ring.isSane && ring.head !== ring.tail) {
      const address = ring.base + ring.head;
      const result = this.#execute(address);
      if (result === RESULT.DONE) {
        this.executed++;
        ring.head = ring.after(ring.head);
      } else if (result === RESULT.HUNG) {
        this.hung = true;
        return;
      } else this.#stop(result, address);
    }
  }

  /** The head stays at the failing command. */
  #stop(result: number, address: number): void {
    const { status, events } = this.#parts;
    status[0] = (status[0] as number) & ~RUN;
    if (result === RESULT.ABORT) events.commandHardwareError(address);
    else if (result === RESULT.ILLEGAL) events.illegalCommand(address);
    else events.iotlbInvTimeout((this.#words[0] as number) & LOW_16, address);
  }

  #execute(address: number): number {
    const words = this.#words;
    if (!readDwords(this.#parts.memory, address, words, COMMAND_BYTES / 4)) return RESULT.ABORT;
    const opcode = (words[1] as number) >>> OPCODE_SHIFT;
    const layout = COMMAND_LAYOUTS[opcode];
    if (layout === undefined || hasReservedBits(words, layout.reservedMasks)) return RESULT.ILLEGAL;
    return this.#parts.executor.execute(opcode, words);
  }
}

const hasReservedBits = (words: Int32Array, reserved: readonly number[]): boolean => {
  for (let at = 0; at < words.length; at++) {
    if (((words[at] as number) & (reserved[at] as number)) !== 0) return true;
  }
  return false;
};
