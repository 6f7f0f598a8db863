import { hex } from '@iommukit/bits';
import {
  type DeviceScope,
  formatScopePath,
  type PathHop,
  SCOPE_TYPE,
  scopeBytes,
} from './device-scope.ts';
import { type DmarProblem, type Report, reporter } from './problems.ts';
import { codecOf, fixedBytes, type PlacedStructure, type ScopedStructure } from './structures.ts';

const { PCI_ENDPOINT, PCI_SUB_HIERARCHY, IOAPIC, HPET, ACPI_NAMESPACE } = SCOPE_TYPE;

/** Scope types that a structure may use. */
const ALLOWED: Readonly<Record<ScopedStructure['kind'], readonly number[]>> = {
  DRHD: [PCI_ENDPOINT, PCI_SUB_HIERARCHY, IOAPIC, HPET, ACPI_NAMESPACE],
  RMRR: [PCI_ENDPOINT, PCI_SUB_HIERARCHY, ACPI_NAMESPACE],
  ATSR: [PCI_SUB_HIERARCHY],
  SATC: [PCI_ENDPOINT, PCI_SUB_HIERARCHY],
  SIDP: [PCI_ENDPOINT, PCI_SUB_HIERARCHY],
};

/** With INCLUDE_PCI_ALL there is no need to name PCI devices. */
const ALLOWED_WITH_ALL: readonly number[] = [IOAPIC, HPET, ACPI_NAMESPACE];

const SIDP_FLAGS = 0x1f;

/** Offsets in a scope. */
const AT = { TYPE: 0, FLAGS: 2, ENUMERATION_ID: 4, PATH: 6 } as const;

/**
 * Device scopes: types and paths that can be, no device under two units, none left out.
 *
 * @spec VT-d 8.3.1
 */
export const checkScopes = (placed: readonly PlacedStructure[], problems: DmarProblem[]): void => {
  const owners = new Map<string, string>();
  for (const one of placed) {
    if (!isScoped(one)) continue;
    const report = reporter(problems, 'content', one.name);
    checkPresence(one, report);
    for (const [scope, at] of scopesWithOffsets(one)) {
      checkScope(one.structure, scope, at, report);
      if (one.structure.kind === 'DRHD') {
        claim(owners, one.name, one.structure.segment, scope, at, report);
      }
    }
  }
};

const isScoped = (one: PlacedStructure): one is PlacedStructure<ScopedStructure> =>
  'scopes' in one.structure;

function* scopesWithOffsets({
  structure,
  offset,
}: PlacedStructure<ScopedStructure>): Generator<[DeviceScope, number]> {
  const codec = codecOf(structure);
  let at = offset + (codec ? fixedBytes(codec) : 0);
  for (const scope of structure.scopes) {
    yield [scope, at];
    at += scopeBytes(scope);
  }
}

/** Whether there are scopes where there must be, and none where they mean nothing. */
const checkPresence = (
  { structure, offset }: PlacedStructure<ScopedStructure>,
  report: Report,
): void => {
  const all =
    (structure.kind === 'DRHD' && structure.includePciAll) ||
    (structure.kind === 'ATSR' && structure.allPorts);
  const count = structure.scopes.length;
  if (count === 0 && !all) {
    report(offset, {
      severity: 'warning',
      rule: 'no-scope',
      value: 0,
      message: `the ${structure.kind} has no device scope, so it concerns no device`,
    });
  }
  if (count > 0 && structure.kind === 'ATSR' && structure.allPorts) {
    report(offset + 4, {
      severity: 'warning',
      rule: 'all-ports',
      value: count,
      message: `ALL_PORTS is set, the ${count} device scopes mean nothing`,
    });
  }
};

const checkScope = (
  structure: ScopedStructure,
  scope: DeviceScope,
  at: number,
  report: Report,
): void => {
  const where = `device scope ${formatScopePath(scope)}`;
  checkType(structure, scope, at, where, report);
  const { flags } = scope;
  const known = structure.kind === 'SIDP' ? SIDP_FLAGS : 0;
  if ((flags & ~known) !== 0) {
    report(at + AT.FLAGS, {
      severity: 'warning',
      rule: 'scope-flags',
      value: flags,
      message: `flags ${hex(flags)} of the ${where}: the ${structure.kind} knows ${hex(known)}`,
    });
  }
  if (scope.type <= PCI_SUB_HIERARCHY && scope.enumerationId !== 0) {
    report(at + AT.ENUMERATION_ID, {
      severity: 'warning',
      rule: 'scope-enumeration-id',
      value: scope.enumerationId,
      message: `the ${where} is a PCI device, its enumeration id is ${scope.enumerationId}, expected 0`,
    });
  }
  const bad = scope.path.findIndex((hop) => !isPossible(hop));
  if (bad >= 0) reportHop(scope.path[bad] as PathHop, at + AT.PATH + 2 * bad, where, report);
};

const checkType = (
  structure: ScopedStructure,
  { type }: DeviceScope,
  at: number,
  where: string,
  report: Report,
): void => {
  const withAll = structure.kind === 'DRHD' && structure.includePciAll;
  const allowed = withAll ? ALLOWED_WITH_ALL : ALLOWED[structure.kind];
  if (allowed.includes(type)) return;
  const kind = withAll ? 'DRHD with INCLUDE_PCI_ALL' : structure.kind;
  report(at + AT.TYPE, {
    severity: type >= PCI_ENDPOINT && type <= ACPI_NAMESPACE ? 'warning' : 'error',
    rule: 'scope-type',
    value: type,
    message: `the ${where} has type ${type}, expected ${allowed.join(', ')} in the ${kind}`,
  });
};

const isPossible = (hop: PathHop): boolean => hop.device <= 0x1f && hop.function <= 7;

const reportHop = (hop: PathHop, at: number, where: string, report: Report): void =>
  report(at, {
    severity: 'error',
    rule: 'scope-path',
    value: `${hex(hop.device)}.${hex(hop.function)}`,
    message:
      `the ${where} goes through device ${hex(hop.device)} function ${hex(hop.function)}, ` +
      'expected at most 0x1f and 0x7',
  });

/** A PCI device may stand under one unit only. I/O APICs and HPETs may share a path. */
const claim = (
  owners: Map<string, string>,
  name: string,
  segment: number,
  scope: DeviceScope,
  at: number,
  report: Report,
): void => {
  if (scope.type > PCI_SUB_HIERARCHY) return;
  const key = `${segment}:${formatScopePath(scope)}`;
  const owner = owners.get(key);
  if (owner !== undefined) {
    report(at, {
      severity: owner === name ? 'warning' : 'error',
      rule: 'scope-twice',
      value: formatScopePath(scope),
      message: `the device ${formatScopePath(scope)} is under ${owner} already`,
    });
  }
  owners.set(key, name);
};
