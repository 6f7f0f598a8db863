// What the benchmarks of all packages share.

/** Untimed runs in front, so that optimized code is what is measured. */
const WARM_UP_MS = 1500;

/**
 * Nanoseconds per unit of the fastest round.
 *
 * @param {number} rounds
 * @param {number} units that one run of `work` does
 * @param {() => void} work what is timed
 * @param {() => void} [before] runs untimed in front of it
 * @param {() => void} [after] runs untimed behind it
 */
export function minimum(rounds, units, work, before, after) {
  const once = () => {
    before?.();
    const start = process.hrtime.bigint();
    work();
    const ns = Number(process.hrtime.bigint() - start);
    after?.();
    return ns;
  };
  // Collect what building the table left behind now: marking it would go on beside the rounds.
  globalThis.gc?.();
  const warmUntil = performance.now() + WARM_UP_MS;
  while (performance.now() < warmUntil) once();
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < rounds; round++) best = Math.min(best, once());
  return best / units;
}

/**
 * 0 to `count - 1` in an order that is random, but the same in every run.
 *
 * @param {number} count
 */
export function shuffled(count) {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  let state = 0x9e3779b9;
  for (let i = count - 1; i > 0; i--) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const j = Math.floor((state / 2 ** 32) * (i + 1));
    const moved = order[i] ?? 0;
    order[i] = order[j] ?? 0;
    order[j] = moved;
  }
  return order;
}

/**
 * Print one measurement as a JSON line.
 *
 * @param {object} measurement
 */
export const print = (measurement) => console.log(JSON.stringify(measurement));

/**
 * A benchmark that measures nothing is worse than none.
 *
 * @param {unknown} condition
 * @param {string} what the promise that is not kept
 */
export function check(condition, what) {
  if (!condition) throw new Error(`the benchmark does not do what it says: ${what}`);
}
