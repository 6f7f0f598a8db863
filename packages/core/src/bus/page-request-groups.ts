/**
 * The page request groups of a device that wait for an answer.
 * @module
 */

const PRG_INDEXES = 512;

/** Told of the response code of a group. */
export type PageResponseListener = (code: number) => void;

/** Groups by their index (9 bits). */
export class PageRequestGroups {
  readonly #waiting = new Map<number, PageResponseListener>();
  #next = 0;

  /**
   * A group that waits from now on.
   *
   * @returns its index
   * @throws {RangeError} when every index waits
   */
  open(device: string, listener: PageResponseListener): number {
    if (this.#waiting.size === PRG_INDEXES) {
      throw new RangeError(`${device}: all ${PRG_INDEXES} page request groups await a response`);
    }
    while (this.#waiting.has(this.#next)) this.#next = (this.#next + 1) % PRG_INDEXES;
    const prgi = this.#next;
    this.#next = (prgi + 1) % PRG_INDEXES;
    this.#waiting.set(prgi, listener);
    return prgi;
  }

  /** The response to a group arrived; one that nobody waits for is dropped. */
  answer(prgi: number, code: number): void {
    const listener = this.#waiting.get(prgi);
    this.#waiting.delete(prgi);
    listener?.(code);
  }

  /**
   * Forget all; no listener hears of it. Indexes go on from where they were, so that a late answer
   * finds no newer group.
   */
  forget(): void {
    this.#waiting.clear();
  }

  /** For a snapshot. */
  save(): { waiting: number[]; nextPrgi: number } {
    return { waiting: [...this.#waiting.keys()], nextPrgi: this.#next };
  }

  /** @param onResponse told of answers to groups that were asked for before the snapshot */
  load(
    state: { readonly waiting: readonly number[]; readonly nextPrgi: number },
    onResponse: (prgi: number, code: number) => void,
  ): void {
    this.#waiting.clear();
    for (const prgi of state.waiting) this.#waiting.set(prgi, (code) => onResponse(prgi, code));
    this.#next = state.nextPrgi;
  }
}
