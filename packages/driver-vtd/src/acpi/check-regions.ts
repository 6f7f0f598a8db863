import { hex } from '@iommukit/bits';
import { type DmarProblem, reporter } from './problems.ts';
import type { Rmrr } from './rmrr.ts';
import type { DmarTable, PlacedStructure } from './structures.ts';

const PAGE_BYTES = 4096;
const BASE_OFFSET = 8;
const LIMIT_OFFSET = 16;

/**
 * Reserved memory: whole pages, base below limit, addressable.
 *
 * @spec VT-d 8.4
 */
export const checkRegions = (
  table: DmarTable,
  placed: readonly PlacedStructure[],
  problems: DmarProblem[],
): void => {
  for (const { structure, name, offset } of placed) {
    if (structure.kind !== 'RMRR') continue;
    const fault = regionFault(structure, table.hostAddressWidthBits);
    if (!fault) continue;
    reporter(
      problems,
      'content',
      name,
    )(offset + fault.offset, {
      severity: 'error',
      rule: 'rmrr-range',
      value: fault.value,
      message: `the region ${hex(structure.start)} to ${hex(structure.last)} ${fault.text}`,
    });
  }
};

interface RegionFault {
  readonly offset: number;
  readonly value: number;
  readonly text: string;
}

const regionFault = ({ start, last }: Rmrr, hawBits: number): RegionFault | undefined => {
  const atBase = (text: string) => ({ offset: BASE_OFFSET, value: start, text });
  const atLimit = (text: string) => ({ offset: LIMIT_OFFSET, value: last, text });
  if (start % PAGE_BYTES !== 0) return atBase('does not start at a multiple of 0x1000');
  if (last <= start) return atLimit('is empty: its limit must be above its base');
  if ((last + 1) % PAGE_BYTES !== 0) return atLimit('does not end with a page of 0x1000 bytes');
  if (last >= 2 ** hawBits) {
    return atLimit(`ends above the host address width of ${hawBits} bits`);
  }
  return undefined;
};
