/**
 * What `explain` listens to: each structure that a request makes the unit read.
 */
import type { Layout } from '@iommukit/bits';

/** Receives the steps of a translation. Absent in normal operation. */
export interface TraceSink {
  /** A structure was read; `words` are the dwords at `address`. */
  read(layout: Layout, address: number, words: ArrayLike<number>, what: string): void;
  /** Nothing answered at `address`. */
  busError(layout: Layout, address: number): void;
  /** A cache was consulted. */
  cache(name: string, hit: boolean, detail: string): void;
  /** A rule decided. */
  rule(text: string): void;
}
