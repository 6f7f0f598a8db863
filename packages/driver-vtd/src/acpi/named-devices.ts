import type { EndpointOptions } from '@iommukit/core';
import { type DeviceScope, formatScopePath, SCOPE_TYPE } from './device-scope.ts';
import type { PciTopology } from './pci-topology.ts';
import type { DmarStructure } from './structures.ts';

/** A scope that leads nowhere on the emulated bus. */
export interface UnresolvedScope {
  readonly kind: DmarStructure['kind'];
  readonly scope: DeviceScope;
  /** One sentence for people. */
  readonly message: string;
}

/** What a table names on a bus. */
export interface NamedDevices {
  /** Devices by RID, in the order of the table. */
  readonly devices: ReadonlyMap<number, EndpointOptions>;
  readonly unresolved: readonly UnresolvedScope[];
}

/**
 * Every PCI endpoint and every ACPI device that some structure names; those with an address
 * translation cache (SATC) have ATS.
 *
 * @param structures of one segment, and the ANDDs
 */
export const namedDevices = (
  structures: readonly DmarStructure[],
  topology: PciTopology,
): NamedDevices => {
  const devices = new Map<number, EndpointOptions>();
  const unresolved: UnresolvedScope[] = [];
  const names = acpiNames(structures);
  for (const structure of structures) {
    if (!('scopes' in structure)) continue;
    for (const scope of structure.scopes) {
      if (scope.type === SCOPE_TYPE.IOAPIC || scope.type === SCOPE_TYPE.HPET) continue;
      const rid = topology.resolve(scope);
      if (rid === undefined) unresolved.push(notThere(structure.kind, scope));
      else if (scope.type !== SCOPE_TYPE.PCI_SUB_HIERARCHY) {
        const known = devices.get(rid) ?? deviceOf(rid, scope, names);
        devices.set(rid, structure.kind === 'SATC' ? { ...known, ats: true } : known);
      }
    }
  }
  return { devices, unresolved };
};

const acpiNames = (structures: readonly DmarStructure[]): Map<number, string> => {
  const names = new Map<number, string>();
  for (const one of structures) {
    if (one.kind === 'ANDD') names.set(one.acpiDeviceNumber, one.objectName);
  }
  return names;
};

const deviceOf = (
  rid: number,
  { type, enumerationId }: DeviceScope,
  names: ReadonlyMap<number, string>,
): EndpointOptions => {
  const name = type === SCOPE_TYPE.ACPI_NAMESPACE ? names.get(enumerationId) : undefined;
  return name === undefined ? { rid } : { rid, name };
};

const notThere = (kind: DmarStructure['kind'], scope: DeviceScope): UnresolvedScope => ({
  kind,
  scope,
  message:
    `the ${kind} scope ${formatScopePath(scope)} leads through a bridge that the bus does not ` +
    'have: list it in bridges',
});
