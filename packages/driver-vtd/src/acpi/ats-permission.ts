import type { PciTopology } from './pci-topology.ts';
import type { DmarStructure } from './structures.ts';

/**
 * Whether firmware lets a device use ATS: integrated devices may, devices behind a root port may
 * when an ATSR names the port. A SATC that says the cache is required leaves it to hardware in
 * legacy mode, and software keeps its hands off.
 *
 * @param structures of the device's segment
 * @param scalable whether its unit runs in scalable mode
 * @spec VT-d 8.5, 8.8
 * @linux drivers/iommu/intel/iommu.c (dmar_ats_supported)
 */
export const atsPermitted = (
  structures: readonly DmarStructure[],
  topology: PciTopology,
  rid: number,
  scalable: boolean,
): boolean => {
  for (const structure of structures) {
    if (structure.kind !== 'SATC') continue;
    if (structure.scopes.some((scope) => topology.covers(scope, rid))) {
      return scalable || !structure.atcRequired;
    }
  }
  const port = topology.rootPortOf(rid);
  if (port === undefined) return true;
  return structures.some(
    (structure) =>
      structure.kind === 'ATSR' &&
      (structure.allPorts || structure.scopes.some((scope) => topology.resolve(scope) === port)),
  );
};
