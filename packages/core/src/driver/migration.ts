/**
 * Carrying a unit's state to a unit of another machine.
 * @module
 */
import type { Domain } from './domains.ts';
import type { VeventSink, ViommuBackend } from './viommu-backend.ts';

/** What core holds of a unit: a domain, or the driver's side of a vIOMMU. */
export type DriverObject = Domain | ViommuBackend;

/** A unit whose bytes were read and found good, before anything of it has changed. */
export interface PreparedUnit {
  /** The domains and vIOMMUs of the bytes, made anew, by number. */
  readonly objects: ReadonlyMap<number, DriverObject>;
  /**
   * Look at what other units made; nothing of this unit changes yet.
   *
   * @param objectAt an object of any unit, by number
   * @returns what puts the whole state in place; it cannot fail
   * @throws {IommuError} EINVAL when an object is not what the bytes say
   */
  link(objectAt: (number: number) => DriverObject | undefined): () => void;
  /** Give the objects back: the restore failed elsewhere. */
  discard(): void;
}

/**
 * A unit's state as bytes and back. RAM is not part of it: core carries every frame with its
 * contents, also those of {@link HostMemory}, which the restored unit adopts. Core numbers domains
 * and vIOMMUs; bytes refer to them by these numbers only.
 *
 * A unit without this group is rebuilt by calls of the contract: domains are allocated with the
 * same flags and data, filled, attached, tracking switched on. What only the hardware knew is lost
 * then: cached translations, dirty bits, pending faults and page requests, counters.
 */
export interface MigrationOps {
  /**
   * The state; nothing changes by it.
   *
   * @param numbers every domain and vIOMMU that core knows, of this unit and of others
   * @throws {IommuError} EBUSY when an object that core does not know is in use
   */
  save(numbers: ReadonlyMap<DriverObject, number>): Uint8Array;
  /**
   * Read bytes of a unit made with the same options on a machine with the same devices. vDEVICEs
   * and hardware queues of the vIOMMUs are made by core's calls before `link`.
   *
   * @param eventsOf where the events of a vIOMMU go, by its number
   * @throws {IommuError} EINVAL, with nothing changed, for damaged bytes or another kind of unit
   */
  prepare(bytes: Uint8Array, eventsOf: (number: number) => VeventSink): PreparedUnit;
}
