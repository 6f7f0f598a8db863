/**
 * A conformance case, as data.
 * @module
 */
import type { ConformanceBench } from './bench.ts';
import type { ConformanceNeed } from './target.ts';

/** One case. */
export interface ConformanceCase {
  /** What must hold, as a sentence. */
  readonly name: string;
  /** Where that is written down. */
  readonly spec: string;
  /** What the driver must be able to for the case to make sense. */
  readonly needs: readonly ConformanceNeed[];
  /** Throws when it does not hold. */
  run(bench: ConformanceBench): void;
}
