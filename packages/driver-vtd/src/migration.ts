/**
 * A whole unit in a snapshot of its machine: both halves.
 */
import {
  type DriverObject,
  decodeState,
  encodeState,
  type MigrationOps,
  type PreparedUnit,
} from '@iommukit/core';
import type { VtdHardware } from './hardware/index.ts';
import { badState, type MigratingUnit, PreparedHost, saveHostState } from './host/migration.ts';
import { type HardwareState, UNIT_STATE } from './host/migration-state.ts';
import { CAP, ECAP } from './spec/registers.ts';

/** Saving and preparing of one unit. */
export class VtdMigration implements MigrationOps {
  readonly #hardware: VtdHardware;
  readonly #host: MigratingUnit;

  constructor(hardware: VtdHardware, host: MigratingUnit) {
    this.#hardware = hardware;
    this.#host = host;
  }

  save(numbers: ReadonlyMap<DriverObject, number>): Uint8Array {
    const host = saveHostState(this.#host, numbers);
    return encodeState(UNIT_STATE, { host, hardware: hardwareState(this.#hardware) });
  }

  prepare(bytes: Uint8Array): PreparedUnit {
    const { host, hardware } = decodeState(UNIT_STATE, bytes, 'restoreSnapshot');
    checkHardware(hardware, hardwareState(this.#hardware));
    const prepared = new PreparedHost(this.#host, host);
    return {
      objects: prepared.objects,
      link: (objectAt) => {
        const commit = prepared.link(objectAt);
        return () => {
          commit();
          this.#hardware.restore(hardware);
        };
      },
      discard: () => prepared.discard(),
    };
  }
}

const hardwareState = (hardware: VtdHardware): HardwareState => {
  const { caches, interruptEntries, pasids, ...state } = hardware.snapshot();
  const iotlb = caches.iotlb.map(({ numbers, words, ...array }) => ({
    ...array,
    numbers: [...numbers],
    words: [...words],
  }));
  const hostPermission = caches.hostPermission.map((entry) => ({
    ...entry,
    words: [...entry.words],
  }));
  return {
    ...state,
    caches: { ...caches, iotlb, hostPermission },
    interruptEntries: interruptEntries.map(({ index, words }) => ({ index, words: [...words] })),
    pasids: [...pasids],
  };
};

/** Sizes of arrays that depend on the unit's options only. */
const sizes = ({ registers, caches }: HardwareState): number[] => {
  const { context, pasid, iotlb } = caches;
  return [
    registers.length,
    context.placeOf.length,
    ...Object.values(pasid).map(({ length }) => length),
    ...iotlb.flatMap(({ numbers, words, nextWay }) => [
      ...[...numbers, ...words].map(({ length }) => length),
      nextWay.length,
    ]),
  ];
};

/** @throws {IommuError} EINVAL for hardware of another size or with other capabilities */
const checkHardware = (saved: HardwareState, here: HardwareState): void => {
  if (sizes(saved).join() !== sizes(here).join()) {
    throw badState('the hardware has registers or caches of other sizes', saved.registers.length);
  }
  for (const { offset } of [CAP, ECAP]) {
    for (const at of [offset / 4, offset / 4 + 1]) {
      const value = saved.registers[at] as number;
      if (value !== here.registers[at]) throw badState(`register dword ${at} differs`, value);
    }
  }
  const fourWords = ({ words }: { readonly words: readonly number[] }) => words.length === 4;
  const permissions = saved.caches.hostPermission;
  if (!permissions.every((entry) => fourWords(entry) && entry.level >= 1 && entry.level <= 4)) {
    throw badState(
      'a host permission table entry has four words and level 1 to 4',
      permissions.length,
    );
  }
  if (!saved.interruptEntries.every((entry) => fourWords(entry) && entry.index <= 0xffff)) {
    throw badState('an interrupt entry has four words and a 16-bit index', permissions.length);
  }
  const { placeOf, count, info, did, ridPasid, pointer } = saved.caches.context;
  const places = [info, did, ridPasid, pointer].every(({ length }) => length === info.length);
  if (!places || count > info.length || placeOf.some((place) => place > count)) {
    throw badState('the context cache contradicts itself', count);
  }
};
