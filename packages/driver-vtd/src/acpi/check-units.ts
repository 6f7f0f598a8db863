import { hex } from '@iommukit/bits';
import type { Drhd } from './drhd.ts';
import { type DmarProblem, reporter } from './problems.ts';
import type { DmarTable, PlacedStructure } from './structures.ts';

const PAGE_BYTES = 4096;
const BASE_OFFSET = 8;
const RHSA_BASE_OFFSET = 8;

/** Bytes of a unit's register set. */
const registerBytes = (unit: Drhd): number => 2 ** unit.sizePagesLg2 * PAGE_BYTES;

/**
 * Register bases of units: there, aligned, addressable, not on top of each other, and the same in
 * the RHSA.
 *
 * @spec VT-d 8.3, 8.6
 */
export const checkUnits = (
  table: DmarTable,
  placed: readonly PlacedStructure[],
  problems: DmarProblem[],
): void => {
  const units = placed.filter(isUnit);
  for (const unit of units) checkBase(unit, table.hostAddressWidthBits, problems);
  checkOverlaps(units, problems);
  const bases = new Set(units.map(({ structure }) => structure.registerBase));
  for (const { structure, name, offset } of placed) {
    if (structure.kind !== 'RHSA' || bases.has(structure.registerBase)) continue;
    reporter(
      problems,
      'content',
      name,
    )(offset + RHSA_BASE_OFFSET, {
      severity: 'warning',
      rule: 'rhsa-unit',
      value: structure.registerBase,
      message: `no DRHD has the register base ${hex(structure.registerBase)}`,
    });
  }
};

const isUnit = (placed: PlacedStructure): placed is PlacedStructure<Drhd> =>
  placed.structure.kind === 'DRHD';

const checkBase = (
  { structure, name, offset }: PlacedStructure<Drhd>,
  hawBits: number,
  problems: DmarProblem[],
): void => {
  const { registerBase: base } = structure;
  const wrong = baseFault(base, registerBytes(structure), hawBits);
  if (wrong === undefined) return;
  reporter(
    problems,
    'content',
    name,
  )(offset + BASE_OFFSET, {
    severity: 'error',
    rule: 'register-base',
    value: base,
    message: `the register base is ${hex(base)}, ${wrong}`,
  });
};

const baseFault = (base: number, bytes: number, hawBits: number): string | undefined => {
  if (base === 0) return 'no unit can be there';
  if (base % PAGE_BYTES !== 0) return 'expected a multiple of 0x1000';
  if (base + bytes > 2 ** hawBits) {
    return `its ${hex(bytes)} bytes end above the host address width of ${hawBits} bits`;
  }
  return undefined;
};

const checkOverlaps = (units: readonly PlacedStructure<Drhd>[], problems: DmarProblem[]): void => {
  const byBase = units
    .filter(({ structure }) => structure.registerBase !== 0)
    .sort((a, b) => a.structure.registerBase - b.structure.registerBase);
  let below: PlacedStructure<Drhd> | undefined;
  for (const unit of byBase) {
    const base = unit.structure.registerBase;
    const end = below ? below.structure.registerBase + registerBytes(below.structure) : 0;
    if (below && base < end) {
      reporter(
        problems,
        'content',
        unit.name,
      )(unit.offset + BASE_OFFSET, {
        severity: 'error',
        rule: 'register-overlap',
        value: base,
        message: `its registers at ${hex(base)} lie inside those of ${below.name}, which end at ${hex(end)}`,
      });
    }
    if (base + registerBytes(unit.structure) > end) below = unit;
  }
};
