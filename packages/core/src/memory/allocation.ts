/**
 * Allocations that a kernel could fail. Nothing here runs out of memory by itself, so a test says
 * which one does: it sets `PhysicalMemory.shouldFail`, which every such place asks first.
 * @module
 */
import { type IommuError, refuse } from '../errors.ts';

/**
 * Asked before every allocation that Linux could fail; true = fail this one. For tests that fail
 * each allocation in turn.
 *
 * @param site what is about to be made: `'object'`, `'area'`, `'frames'`
 */
export type AllocationHook = (site: string) => boolean;

/** Memory whose allocations can be let fail. */
export interface FallibleMemory {
  readonly shouldFail: AllocationHook | undefined;
}

/** Whether an allocation is to fail; one comparison when no hook is set. */
export const failsAllocation = ({ shouldFail }: FallibleMemory, site: string): boolean =>
  shouldFail?.(site) ?? false;

/** The refusal of a call that found no memory for `site`. */
export const allocationRefusal = (op: string, site: string): IommuError =>
  refuse('ENOMEM', op, 'out-of-memory', `no memory for ${site}`);

/**
 * Make sure that there is memory for something.
 *
 * @throws {IommuError} ENOMEM when the hook of this memory says so
 */
export const checkAllocation = (memory: FallibleMemory, op: string, site: string): void => {
  if (failsAllocation(memory, site)) throw allocationRefusal(op, site);
};
