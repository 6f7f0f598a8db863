/**
 * A whole unit in a snapshot of its machine: both halves.
 */
import {
  type DriverObject,
  decodeState,
  encodeState,
  type MigrationOps,
  type PreparedUnit,
  snapshotCodec,
  type VeventSink,
} from '@iommukit/core';
import type { SmmuHardware } from './hardware/index.ts';
import { HARDWARE_STATE } from './hardware/unit-snapshot.ts';
import { type MigratingUnit, PreparedHost, saveHostState } from './host/migration.ts';
import { HOST_STATE } from './host/migration-state.ts';

const UNIT_STATE = snapshotCodec.struct({ host: HOST_STATE, hardware: HARDWARE_STATE });

/** Saving and preparing of one unit. */
export class SmmuMigration implements MigrationOps {
  readonly #hardware: SmmuHardware;
  readonly #host: MigratingUnit;

  constructor(hardware: SmmuHardware, host: MigratingUnit) {
    this.#hardware = hardware;
    this.#host = host;
  }

  save(numbers: ReadonlyMap<DriverObject, number>): Uint8Array {
    const host = saveHostState(this.#host, numbers);
    return encodeState(UNIT_STATE, { host, hardware: this.#hardware.saveState() });
  }

  prepare(bytes: Uint8Array, eventsOf: (number: number) => VeventSink): PreparedUnit {
    const { host, hardware } = decodeState(UNIT_STATE, bytes, 'restoreSnapshot');
    this.#hardware.checkState(hardware);
    const prepared = new PreparedHost(this.#host, host, eventsOf);
    return {
      objects: prepared.objects,
      link: (objectAt) => {
        const commit = prepared.link(objectAt);
        return () => {
          commit();
          this.#hardware.loadState(hardware);
        };
      },
      discard: () => prepared.discard(),
    };
  }
}
