/**
 * A machine as its firmware describes it.
 *
 * @spec AMD IOMMU 5.2
 * @linux drivers/iommu/amd/init.c (init_iommu_from_acpi, get_highest_supported_ivhd_type)
 */
import {
  createMachine,
  type Endpoint,
  type EndpointOptions,
  formatRid,
  type Machine,
  type MachineOptions,
  parseRid,
  refuse,
} from '@iommukit/core';
import { type AmdviIommuUnit, type AmdviOptions, amdvi } from '../amdvi.ts';
import type { UnityMap } from '../host/reserved-regions.ts';
import { efrOfFeatures } from './feature-field.ts';
import {
  IVHD,
  IVHD_ENTRY,
  IVHD_FLAG,
  IVMD,
  IVMD_FLAG,
  type Ivhd,
  type Ivmd,
  type IvrsTable,
} from './structures.ts';

/** What a table does not say about a machine. */
export interface IvrsMachineOptions extends MachineOptions {
  /** Devices on the bus; default none but those the table names. */
  readonly devices?: readonly EndpointOptions[];
  /** Also make a device of every one that the table names alone; default true. */
  readonly namedDevices?: boolean;
  /** The PCI segment to build, of those in the table; default 0. */
  readonly segment?: number;
  /** Options of a unit. */
  readonly unit?: (unit: Ivhd, index: number) => Omit<AmdviOptions, 'unityMaps'>;
}

/** A unit of a machine. */
export interface IvrsUnit {
  readonly ivhd: Ivhd;
  readonly unit: AmdviIommuUnit;
  readonly endpoints: readonly Endpoint[];
}

/** A machine built from a table. */
export interface IvrsMachine {
  readonly machine: Machine;
  /** In the order of their blocks. */
  readonly units: readonly IvrsUnit[];
  /** Devices that no unit of the table has: their DMA is not translated. */
  readonly withoutUnit: readonly Endpoint[];
}

/** IVinfo.PAsize, and the width that host halves can do with. */
const PA_SIZE_SHIFT = 8;
const PA_SIZE_MASK = 0x7f;
const LEAST_ADDRESS_BITS = 40;
const MOST_ADDRESS_BITS = 52;

/**
 * Build the machine that a table describes: a unit for each IOMMU, by its block of the highest
 * type, with its devices and the memory that must stay mapped for them.
 *
 * @throws {IommuError} EINVAL for a table without unit in the segment; what `amdvi` throws
 */
export const machineFromIvrs = (
  table: IvrsTable,
  options: IvrsMachineOptions = {},
): IvrsMachine => {
  const segment = options.segment ?? 0;
  const blocks = unitsOf(table, segment);
  if (blocks.length === 0) {
    throw refuse('EINVAL', 'machineFromIvrs', 'ivrs-units', `no IVHD of segment ${segment}`, {
      value: segment,
      accepted: 'a segment that the table describes',
    });
  }
  const machine = createMachine(options);
  for (const device of devicesOf(blocks, options)) machine.addEndpoint(device);
  const unityMaps = unityMapsOf(table, segment);
  const hostAddressBits = addressBits(table);
  const units = blocks.map((ivhd, index): IvrsUnit => {
    const endpoints = machine.endpoints.filter(({ rid }) => serves(ivhd, rid));
    const own: AmdviOptions = {
      capabilities: capabilitiesOf(ivhd),
      hostAddressBits,
      ...options.unit?.(ivhd, index),
      unityMaps,
    };
    const free = endpoints.filter((endpoint) => !machine.unitOf(endpoint));
    return { ivhd, unit: machine.addUnit(amdvi(own), free) as AmdviIommuUnit, endpoints: free };
  });
  const withoutUnit = machine.endpoints.filter((endpoint) => !machine.unitOf(endpoint));
  return { machine, units, withoutUnit };
};

/** One block for each unit of a segment: that of the highest type. */
const unitsOf = ({ blocks }: IvrsTable, segment: number): Ivhd[] => {
  const best = new Map<number, Ivhd>();
  for (const block of blocks) {
    if (block.kind !== 'IVHD' || block.segment !== segment) continue;
    const known = best.get(block.deviceId);
    if (!known || known.type < block.type) best.set(block.deviceId, block);
  }
  return [...best.values()];
};

const capabilitiesOf = ({ type, flags, features, efr, efr2 }: Ivhd) => ({
  efr: type === IVHD.FIXED ? efrOfFeatures(features, flags) : (efr ?? 0n),
  efr2: efr2 ?? 0n,
  iotlbSup: (flags & IVHD_FLAG.IOTLB_SUP) !== 0,
});

const addressBits = ({ ivInfo }: IvrsTable): number => {
  const bits = (ivInfo >>> PA_SIZE_SHIFT) & PA_SIZE_MASK;
  return Math.min(Math.max(bits, LEAST_ADDRESS_BITS), MOST_ADDRESS_BITS);
};

const { ALL, SELECT, RANGE_START, RANGE_END, ALIAS, ALIAS_RANGE, EXT_SELECT, EXT_RANGE } =
  IVHD_ENTRY;
const SINGLE: readonly number[] = [SELECT, ALIAS, EXT_SELECT, IVHD_ENTRY.SPECIAL, IVHD_ENTRY.ACPI];
const RANGES: readonly number[] = [RANGE_START, ALIAS_RANGE, EXT_RANGE];

/** Whether a unit's block names a device, alone or in a range. */
const serves = ({ entries }: Ivhd, rid: number): boolean =>
  entries.some((entry, at) => {
    if (entry.type === ALL) return true;
    if (SINGLE.includes(entry.type)) return entry.deviceId === rid;
    if (!RANGES.includes(entry.type)) return false;
    const end = entries.slice(at + 1).find(({ type }) => type !== IVHD_ENTRY.PAD);
    return end?.type === RANGE_END && entry.deviceId <= rid && rid <= end.deviceId;
  });

const ridOf = ({ rid }: EndpointOptions): number => (typeof rid === 'number' ? rid : parseRid(rid));

/** Devices of the caller, and those that the table names alone. */
const devicesOf = (
  blocks: readonly Ivhd[],
  { devices = [], namedDevices = true }: IvrsMachineOptions,
): EndpointOptions[] => {
  const wanted = new Map(devices.map((device) => [ridOf(device), device]));
  if (!namedDevices) return [...wanted.values()];
  for (const { entries } of blocks) {
    for (const { type, deviceId } of entries) {
      if (!SINGLE.includes(type) || wanted.has(deviceId)) continue;
      wanted.set(deviceId, { rid: formatRid(deviceId) });
    }
  }
  return [...wanted.values()];
};

/** Exclusion blocks too: Linux maps them one to one. */
const unityMapsOf = ({ blocks }: IvrsTable, segment: number): UnityMap[] =>
  blocks
    .filter((block): block is Ivmd => block.kind === 'IVMD' && block.segment === segment)
    .filter(({ flags, lengthBytes }) => (flags & USED_FLAGS) !== 0 && lengthBytes > 0n)
    .map((block) => ({
      start: Number(block.start),
      last: Number(block.start + block.lengthBytes) - 1,
      ...ridsOf(block),
    }));

const USED_FLAGS = IVMD_FLAG.UNITY | IVMD_FLAG.EXCLUSION;

const ridsOf = ({ type, deviceId, endDeviceId }: Ivmd) => {
  if (type === IVMD.ALL) return { firstRid: 0, lastRid: 0xffff };
  return { firstRid: deviceId, lastRid: type === IVMD.RANGE ? endDeviceId : deviceId };
};
