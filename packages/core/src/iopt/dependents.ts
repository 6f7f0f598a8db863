/**
 * Tables derived from an address space (software nesting) hear of every change of it, before an
 * unmapped page can be used for something else.
 * @module
 */
import type { U64 } from './address.ts';
import type { IoPagetable } from './io-pagetable.ts';

/** A table derived from an I/O address space. It may read the space, not change it. */
export interface IoptDependent {
  /** `[start, last]` is mapped now, by one area or more. A throw refuses the mapping. */
  mapped(op: string, start: bigint, last: bigint): void;
  /** The area `[start, last]` is about to go. A throw keeps it, with everything as before. */
  unmapping(op: string, start: bigint, last: bigint): void;
}

/** Tell of a new mapping; it goes again when a dependent refuses. */
export const announceMap = (iopt: IoPagetable, op: string, iova: U64, length: U64): void => {
  const start = BigInt(iova);
  const last = start + BigInt(length) - 1n;
  try {
    for (const dependent of iopt.dependents) dependent.mapped(op, start, last);
  } catch (error) {
    iopt.unmap(iova, length, op);
    throw error;
  }
};

/** Tell that the area at the tree's cursor goes; when one refuses, all have it back. */
export const announceUnmap = (iopt: IoPagetable, op: string): void => {
  const { areas, dependents } = iopt;
  const start = BigInt(areas.start);
  const last = BigInt(areas.last);
  let told = 0;
  try {
    for (; told < dependents.length; told++) {
      (dependents[told] as IoptDependent).unmapping(op, start, last);
    }
  } catch (error) {
    for (const dependent of dependents.slice(0, told)) {
      try {
        dependent.mapped(op, start, last);
      } catch {
        // The refusal that counts is the first; what cannot be derived again stays unmapped.
      }
    }
    throw error;
  }
};
