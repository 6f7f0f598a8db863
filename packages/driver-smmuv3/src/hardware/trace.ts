/**
 * What `explain` and the sanitizer listen to: each structure that a request makes the unit read.
 */
import type { Layout } from '@iommukit/bits';

/** Receives the steps of a request. */
export interface TraceSink {
  /** A structure was read; `words` are the dwords at `address`, `what` says its part in the walk. */
  read(layout: Layout, address: number, words: Uint32Array, what: string): void;
  /** Nothing answered at `address`. */
  busError(layout: Layout, address: number): void;
  /** A cache was consulted. */
  cache(name: string, hit: boolean, detail: string): void;
  /** A rule was applied. */
  rule(text: string): void;
}
