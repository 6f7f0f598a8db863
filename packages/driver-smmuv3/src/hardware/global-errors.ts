/**
 * Global errors: hardware toggles a bit of GERROR when it is not active, software toggles GERRORN
 * to acknowledge.
 *
 * @spec SMMUv3 6.3.17, 7.5
 */
import { GERROR, GERRORN, GLOBAL_ERROR } from '../spec/registers.ts';
import type { RegisterBank } from './register-bank.ts';

/** GERROR and GERRORN. */
export class GlobalErrors {
  readonly #gerror: Uint32Array;
  readonly #gerrorn: Uint32Array;
  readonly #interrupt: () => void;

  /** @param interrupt called when an error becomes active */
  constructor(bank: RegisterBank, interrupt: () => void) {
    this.#gerror = bank.words(GERROR);
    this.#gerrorn = bank.words(GERRORN);
    this.#interrupt = interrupt;
  }

  /** @param bit one of GLOBAL_ERROR */
  isActive(bit: number): boolean {
    const difference = (this.#gerror[0] as number) ^ (this.#gerrorn[0] as number);
    return ((difference >>> bit) & 1) === 1;
  }

  /** Make an error active; one that is active already stays so. */
  raise(bit: number): void {
    if (this.isActive(bit)) return;
    this.#gerror[0] = ((this.#gerror[0] as number) ^ (1 << bit)) >>> 0;
    // The message of this very interrupt has just aborted.
    if (bit !== GLOBAL_ERROR.MSI_GERROR_ABT_ERR) this.#interrupt();
  }
}
