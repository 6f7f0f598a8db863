import { type DmarProblem, reporter } from './problems.ts';
import { codecOfType, type PlacedStructure, typeOf } from './structures.ts';

/**
 * Types ascend; types that are not known; the unit that takes all the rest comes last.
 *
 * @spec VT-d 8.2, 8.3
 */
export const checkOrder = (placed: readonly PlacedStructure[], problems: DmarProblem[]): void => {
  let highest = 0;
  for (const { structure, name, offset } of placed) {
    const report = reporter(problems, 'content', name);
    const type = typeOf(structure);
    if (type < highest) {
      report(offset, {
        severity: 'warning',
        rule: 'structure-order',
        value: type,
        message: `type ${type} stands behind type ${highest}, expected ascending types`,
      });
    }
    if (!codecOfType(type)) {
      report(offset, {
        severity: 'warning',
        rule: 'unknown-type',
        value: type,
        message: `type ${type} is not known, expected 0 to 6`,
      });
    }
    if (codecOfType(type)) highest = Math.max(highest, type);
  }
  checkIncludeAll(placed, problems);
};

const checkIncludeAll = (placed: readonly PlacedStructure[], problems: DmarProblem[]): void => {
  const takers = new Map<number, string>();
  for (const { structure, name, offset } of placed) {
    if (structure.kind !== 'DRHD') continue;
    const { segment, includePciAll } = structure;
    const taker = takers.get(segment);
    if (taker !== undefined) {
      reporter(
        problems,
        'content',
        name,
      )(offset + 4, {
        severity: includePciAll ? 'error' : 'warning',
        rule: 'include-all-last',
        value: segment,
        message: includePciAll
          ? `INCLUDE_PCI_ALL is set, but ${taker} already takes all of segment ${segment}`
          : `it stands behind ${taker}, which takes all of segment ${segment} and must be the last`,
      });
    }
    if (includePciAll) takers.set(segment, name);
  }
};

/**
 * Names of ACPI devices: numbers are unique, names end, scopes and names belong together.
 *
 * @spec VT-d 8.7
 */
export const checkNames = (placed: readonly PlacedStructure[], problems: DmarProblem[]): void => {
  const named = new Map<number, string>();
  const meant = acpiNumbers(placed);
  for (const { structure, name, offset } of placed) {
    if (structure.kind !== 'ANDD') continue;
    const report = reporter(problems, 'content', name);
    const { acpiDeviceNumber: number, objectName, paddingBytes } = structure;
    const other = named.get(number);
    const shown = JSON.stringify(objectName);
    if (other !== undefined) {
      report(offset + 7, {
        severity: 'warning',
        rule: 'andd-number',
        value: number,
        message: `ACPI device number ${number} belongs to ${other} already`,
      });
    }
    named.set(number, name);
    if (paddingBytes === 0 || objectName === '') {
      report(offset + 8, {
        severity: 'error',
        rule: 'andd-name',
        value: objectName,
        message: `the name ${shown} is ${objectName === '' ? 'empty' : 'not ended by a NUL'}`,
      });
    }
    if (!meant.has(number)) {
      report(offset + 7, {
        severity: 'warning',
        rule: 'andd-scope',
        value: number,
        message: `no DRHD has a device scope for ACPI device ${number} (${shown})`,
      });
    }
  }
};

/** Numbers of ACPI devices that are under some unit. */
const acpiNumbers = (placed: readonly PlacedStructure[]): Set<number> => {
  const numbers = new Set<number>();
  for (const { structure } of placed) {
    if (structure.kind !== 'DRHD') continue;
    for (const { type, enumerationId } of structure.scopes)
      if (type === 5) numbers.add(enumerationId);
  }
  return numbers;
};
