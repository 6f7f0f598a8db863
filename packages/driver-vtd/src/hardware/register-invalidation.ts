/**
 * Register-based invalidation: CCMD, IVA and IOTLB registers (units before major version 6).
 *
 * @spec VT-d 6.5.1, 11.4.6
 */
import { CCMD, GSTS, IOTLB, IVA, TTM } from '../spec/registers.ts';
import type { Features } from './capabilities.ts';
import type { InvalidationCommands } from './invalidation-commands.ts';
import type { RegisterFile } from './register-file.ts';

const FIRST_WITHOUT = 6;
const C = CCMD.fields;
const I = IOTLB.fields;

/** Bits of the high dword of a 64-bit register. */
const high = (masks: readonly number[]) => masks[1] as number;

/** Executes what software starts by setting ICC or IVT. */
export class RegisterInvalidation {
  readonly #registers: RegisterFile;
  readonly #features: Features;
  readonly #commands: InvalidationCommands;

  constructor(registers: RegisterFile, features: Features, commands: InvalidationCommands) {
    this.#registers = registers;
    this.#features = features;
    this.#commands = commands;
  }

  /** Whether the registers do anything now. */
  #alive(ttm: number): boolean {
    const queued = (this.#registers.get(GSTS.offset) & GSTS.fields.QIES.mask) !== 0;
    return this.#features.major < FIRST_WITHOUT && ttm === TTM.LEGACY && !queued;
  }

  /** Software wrote the high dword of CCMD. */
  context(ttm: number): void {
    const registers = this.#registers;
    const lo = registers.get(CCMD.offset);
    const hi = registers.get(CCMD.offset + 4);
    if ((hi & high(C.ICC.masks)) === 0) return;
    const granularity = (hi & high(C.CIRG.masks)) >>> C.CIRG.shift;
    const done =
      this.#alive(ttm) && this.#commands.context(granularity, lo & 0xffff, lo >>> 16, hi & 3, ttm);
    registers.change(
      CCMD.offset + 4,
      done ? granularity << C.CAIG.shift : 0,
      high(C.ICC.masks) | high(C.CAIG.masks),
    );
  }

  /** Software wrote the high dword of IOTLB. */
  iotlb(ttm: number): void {
    const registers = this.#registers;
    const offset = this.#features.ivaOffset + IOTLB.offset;
    const hi = registers.get(offset + 4);
    if ((hi & high(I.IVT.masks)) === 0) return;
    const granularity = (hi & high(I.IIRG.masks)) >>> I.IIRG.shift;
    const done = this.#alive(ttm) && this.#invalidate(granularity, hi & 0xffff);
    registers.change(
      offset + 4,
      done ? granularity << I.IAIG.shift : 0,
      high(I.IVT.masks) | high(I.IAIG.masks),
    );
  }

  #invalidate(granularity: number, did: number): boolean {
    const { ivaOffset } = this.#features;
    const lo = this.#registers.get(ivaOffset);
    const hi = this.#registers.get(ivaOffset + 4);
    const pfn = hi * 0x10_0000 + (lo >>> 12);
    const addressMask = lo & IVA.fields.AM.mask;
    return this.#commands.watched({ text: `IOTLB granularity ${granularity}`, did }, () =>
      this.#commands.iotlb(granularity, did, pfn, addressMask),
    );
  }
}
