/**
 * GCMD: what each bit starts, and the status in GSTS. Everything is done when the write is over.
 *
 * @spec VT-d 11.4.4 (global command and status), 6.6 (set root table pointer)
 */
import { GCMD, GSTS, IRTA, RTADDR } from '../spec/registers.ts';
import type { Features } from './capabilities.ts';
import type { FaultRecorder } from './fault-recording.ts';
import type { InterruptRemapper } from './interrupt-remapping.ts';
import type { InvalidationCommands } from './invalidation-commands.ts';
import type { InvalidationQueue } from './invalidation-queue.ts';
import { joinAddress } from './page-index.ts';
import type { RegisterFile } from './register-file.ts';
import type { RequestEngine } from './requests.ts';
import type { Translator } from './translate.ts';

const { SRTP, SIRTP, QIE, IRE, CFI, TE } = GCMD.fields;
const { TES, RTPS, IRTPS, QIES, IRES, CFIS } = GSTS.fields;
const SSIRWE = RTADDR.fields.SSIRWE.mask;
const PAGE = 0xffff_f000 | 0;

/** What GCMD reaches. */
export interface GlobalCommandParts {
  readonly registers: RegisterFile;
  readonly features: Features;
  readonly translator: Translator;
  readonly engine: RequestEngine;
  readonly queue: InvalidationQueue;
  readonly commands: InvalidationCommands;
  readonly interrupts: InterruptRemapper;
  readonly faults: FaultRecorder;
}

/** Executes global commands. */
export class GlobalCommand {
  readonly #parts: GlobalCommandParts;

  constructor(parts: GlobalCommandParts) {
    this.#parts = parts;
  }

  /** Bits act in the order SRTP, SIRTP, QIE, IRE and CFI, WBF, TE. */
  execute(command: number): void {
    const { registers, features, faults } = this.#parts;
    registers.set(GCMD.offset, 0);
    if ((command & SRTP.mask) !== 0) this.#setRootTablePointer();
    if ((command & SIRTP.mask) !== 0 && features.interruptRemapping)
      this.#setInterruptTablePointer();
    if (features.qi) this.#enableQueue((command & QIE.mask) !== 0);
    if (features.interruptRemapping) this.#remapInterrupts((command & IRE.mask) !== 0, command);
    this.#enableTranslation((command & TE.mask) !== 0);
    if ((registers.get(GSTS.offset) & (TES.mask | IRES.mask)) === 0) faults.nextIndex = 0;
  }

  /** Fetch descriptors, if the queue is on. */
  runQueue(): void {
    const { registers, queue, translator } = this.#parts;
    if ((registers.get(GSTS.offset) & QIES.mask) !== 0) queue.run(translator.ttm);
  }

  #setRootTablePointer(): void {
    const { registers, features, translator, commands } = this.#parts;
    const lo = registers.get(RTADDR.offset);
    translator.rootTable = joinAddress(lo & PAGE, registers.get(RTADDR.offset + 4));
    translator.ttm = (lo >>> RTADDR.fields.TTM.shift) & 3;
    translator.ssirwe = (lo & SSIRWE) !== 0;
    registers.change(GSTS.offset, RTPS.mask, 0);
    if (features.esrtps) commands.invalidateAll('SRTP with ESRTPS');
  }

  #setInterruptTablePointer(): void {
    const { registers, features, interrupts, commands } = this.#parts;
    const lo = registers.get(IRTA.offset);
    interrupts.table = {
      base: joinAddress(lo & PAGE, registers.get(IRTA.offset + 4)),
      entries: 2 ** ((lo & IRTA.fields.S.mask) + 1),
      extended: (lo & IRTA.fields.EIME.mask) !== 0,
    };
    registers.change(GSTS.offset, IRTPS.mask, 0);
    if (features.esirtps) commands.invalidateInterrupts('SIRTP with ESIRTPS');
  }

  #remapInterrupts(on: boolean, command: number): void {
    const { registers, features, engine, commands } = this.#parts;
    const was = (registers.get(GSTS.offset) & IRES.mask) !== 0;
    const status = (on ? IRES.mask : 0) | ((command & CFI.mask) !== 0 ? CFIS.mask : 0);
    registers.change(GSTS.offset, status, IRES.mask | CFIS.mask);
    if (was && !on && features.esirtps)
      commands.invalidateInterrupts('interrupt remapping disabled');
    engine.refresh();
  }

  #enableQueue(on: boolean): void {
    const { registers, queue } = this.#parts;
    const was = (registers.get(GSTS.offset) & QIES.mask) !== 0;
    if (was === on) return;
    registers.change(GSTS.offset, on ? QIES.mask : 0, QIES.mask);
    queue.reset();
    if (on) this.runQueue();
  }

  #enableTranslation(on: boolean): void {
    const { registers, features, engine, commands } = this.#parts;
    if (engine.state.enabled === on) return;
    registers.change(GSTS.offset, on ? TES.mask : 0, TES.mask);
    engine.state.enabled = on;
    if (!on && features.scalable) commands.invalidateAll('translation disabled');
    engine.refresh();
  }
}
