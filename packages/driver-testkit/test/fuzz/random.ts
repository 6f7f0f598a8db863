/** Numbers from a seed, and the values that programs get wrong. */

/** A small generator (xorshift32): the same numbers from the same seed, everywhere. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (Math.imul(seed + 1, 0x9e37_79b1) | 1) >>> 0;
    for (let i = 0; i < 4; i++) this.u32();
  }

  /** 32 random bits. */
  u32(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state;
  }

  /** A whole number below `end`. */
  below(end: number): number {
    return this.u32() % end;
  }

  /** True once in `n` times. */
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }

  /** One of a list that is not empty. */
  pick<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)] as Item;
  }
}

/** 64-bit values around every limit that a call may look at. */
export const EDGES: readonly bigint[] = [
  0n,
  1n,
  7n,
  0x7ffn,
  0x800n,
  0xfffn,
  0x1000n,
  0x1001n,
  0x1f_f000n,
  0x20_0000n,
  0xfee0_0000n,
  0xffff_ffffn,
  0x1_0000_0000n,
  (1n << 47n) - 0x1000n,
  1n << 47n,
  1n << 48n,
  (1n << 53n) - 1n,
  1n << 53n,
  (1n << 63n) - 1n,
  1n << 63n,
  (1n << 64n) - 0x1000n,
  (1n << 64n) - 0xfffn,
  (1n << 64n) - 2n,
  (1n << 64n) - 1n,
];
