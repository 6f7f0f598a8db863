import type { Endpoint } from '@iommukit/core';
import type { ReservedMemory } from '../host/reserved-regions.ts';
import type { DeviceScope } from './device-scope.ts';
import type { PciTopology } from './pci-topology.ts';
import type { Rmrr } from './rmrr.ts';

const PAGE_BYTES = 4096;

/** RIDs of the devices that scopes mean. */
export const ridsOf = (
  scopes: readonly DeviceScope[],
  topology: PciTopology,
  endpoints: readonly Endpoint[],
): number[] =>
  endpoints
    .map(({ rid }) => rid)
    .filter((rid) => scopes.some((scope) => topology.covers(scope, rid)));

/**
 * An RMRR as the host half takes it: one region, or two when only some of its devices can do
 * without it. None when the range is not made of pages, or concerns no device.
 */
export const toReservedMemory = (
  { start, last }: Rmrr,
  rids: readonly number[],
  relaxable: (rid: number) => boolean = () => false,
): ReservedMemory[] => {
  if (start % PAGE_BYTES !== 0 || (last + 1) % PAGE_BYTES !== 0 || last <= start) return [];
  const kept = rids.filter((rid) => !relaxable(rid));
  const relaxed = rids.filter((rid) => relaxable(rid));
  return [
    ...(kept.length > 0 ? [{ start, last, rids: kept }] : []),
    ...(relaxed.length > 0 ? [{ start, last, rids: relaxed, relaxable: true }] : []),
  ];
};
