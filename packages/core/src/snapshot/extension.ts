/**
 * Files and objects that core does not know: who made them carries them.
 * @module
 */
import type { Machine } from '../bus/machine.ts';
import type { IommufdContext } from '../iommufd/index.ts';

/** Numbers of things in the snapshot being made. */
export interface SaveRefs {
  /** Number of a context; it becomes part of the snapshot by being asked for. */
  context(context: IommufdContext): number;
}

/** Things of the snapshot being restored. */
export interface LoadRefs {
  readonly machine: Machine;
  /**
   * The context of a number. Its objects are there, those that extensions carry perhaps not yet.
   *
   * @throws {IommuError} EINVAL when no context has it
   */
  context(number: number): IommufdContext;
}

/**
 * Carries open files, pinnable files and iommufd objects (kind SELFTEST) of somebody's own through
 * a snapshot. An `IoctlExtension` brings its own; others are given to save and restore.
 */
export interface SnapshotExtension {
  /** Told apart by it. */
  readonly name: string;
  /** Bytes of a thing; undefined = none of its own. */
  save(thing: object, refs: SaveRefs): Uint8Array | undefined;
  /**
   * The thing again; RAM and its counts are as they were, and nothing may be taken or counted.
   * Of an object the user count is set by the caller.
   *
   * @throws {IommuError} EINVAL for damaged bytes
   */
  load(bytes: Uint8Array, refs: LoadRefs): object;
}
