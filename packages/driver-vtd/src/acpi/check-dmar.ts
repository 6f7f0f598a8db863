/**
 * Whether a DMAR table makes sense: rules of the specification, and of its parts against each other.
 *
 * @spec VT-d 8
 */
import { checkHeader } from './check-header.ts';
import { checkNames, checkOrder } from './check-order.ts';
import { checkRegions } from './check-regions.ts';
import { checkScopes } from './check-scopes.ts';
import { checkUnits } from './check-units.ts';
import type { DmarProblem } from './problems.ts';
import { type DmarTable, placeStructures } from './structures.ts';

/**
 * Find everything inconsistent in what a table says; all findings have layer `content`.
 *
 * @param offsets where the structures stand, for the findings; default one behind the other
 * @returns empty for a table without contradictions
 */
export const checkDmar = (table: DmarTable, offsets?: readonly number[]): DmarProblem[] => {
  const placed = placeStructures(table.structures, offsets);
  const problems: DmarProblem[] = [];
  checkHeader(table, problems);
  checkOrder(placed, problems);
  checkUnits(table, placed, problems);
  checkRegions(table, placed, problems);
  checkScopes(placed, problems);
  checkNames(placed, problems);
  return problems;
};
