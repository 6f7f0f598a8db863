/**
 * What a snapshot is of, without restoring it: enough to build the machine it needs.
 * @module
 */
import { readSnapshot } from './restore-snapshot.ts';

/** What {@link inspectSnapshot} finds. */
export interface SnapshotSummary {
  /** Memory regions, ascending; `isRam` is false where the program gave the buffer. */
  readonly regions: readonly {
    readonly name: string;
    readonly base: number;
    readonly size: number;
    readonly isRam: boolean;
  }[];
  /** IOMMUs in the order they were added; `hasState` is false for those that will be rebuilt. */
  readonly units: readonly {
    readonly name: string;
    readonly driver: string;
    readonly hasState: boolean;
  }[];
  /** Devices in the order they were added; `unit` is a position in `units`, -1 = none. */
  readonly endpoints: readonly {
    readonly rid: number;
    readonly name: string;
    readonly unit: number;
    readonly group: string;
  }[];
  /** Devices under VFIO that are open, by RID. */
  readonly vfioDevices: readonly number[];
  /** Names of ioctl extensions and snapshot extensions that restore must be given. */
  readonly ioctlExtensions: readonly string[];
  readonly extensions: readonly string[];
  readonly processes: number;
  readonly contexts: number;
  /** Names of held PASID allocators and policies. */
  readonly held: readonly string[];
}

/**
 * Look into a snapshot.
 *
 * @throws {IommuError} EINVAL for bytes that are damaged or of another version
 */
export const inspectSnapshot = (bytes: Uint8Array): SnapshotSummary => {
  const state = readSnapshot(bytes);
  const { bus, contexts } = state;
  return {
    regions: state.memory.regions.map(({ name, base, size, frames }) => ({
      name,
      base,
      size,
      isRam: frames !== undefined,
    })),
    units: state.units.map(({ name, driver, state: own }) => ({
      name,
      driver,
      hasState: own !== undefined,
    })),
    endpoints: bus.endpoints.map(({ rid, name, unit, group }) => ({
      rid,
      name,
      unit,
      group: bus.groups[group]?.key ?? '',
    })),
    vfioDevices: state.vfioDevices.map(({ rid }) => rid),
    ioctlExtensions: [...new Set(contexts.flatMap(({ extensions }) => extensions))],
    extensions: [...new Set(state.foreign.map(({ extension }) => extension))],
    processes: state.processes.length,
    contexts: contexts.length,
    held: state.held.map(({ name }) => name),
  };
};
