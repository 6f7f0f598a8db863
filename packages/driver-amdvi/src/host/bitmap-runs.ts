/** Turns bitmaps of frames into runs; runs that touch are one, also from one bitmap to the next. */
export class BitmapRuns {
  readonly #visit: (start: number, count: number) => void;
  #start = -1;
  #end = -1;

  /** @param visit called with (first frame, count) of each run, ascending */
  constructor(visit: (start: number, count: number) => void) {
    this.#visit = visit;
  }

  /** The bits of `count` frames from `first` on; bitmaps come in ascending order. */
  add(bitmap: Uint8Array, first: number, count: number): void {
    let at = 0;
    while (at < count) {
      const byte = bitmap[at >>> 3] as number;
      if (byte === 0) {
        at = (at | 7) + 1;
      } else if (byte === 0xff && (at & 7) === 0 && at + 8 <= count) {
        this.#extend(first + at, 8);
        at += 8;
      } else {
        if (byte & (1 << (at & 7))) this.#extend(first + at, 1);
        at++;
      }
    }
  }

  /** Hand over the last run. */
  finish(): void {
    if (this.#start >= 0) this.#visit(this.#start, this.#end - this.#start);
    this.#start = -1;
    this.#end = -1;
  }

  #extend(start: number, count: number): void {
    if (start !== this.#end) {
      this.finish();
      this.#start = start;
    }
    this.#end = start + count;
  }
}
