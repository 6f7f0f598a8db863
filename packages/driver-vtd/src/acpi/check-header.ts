import { HEADER_OFFSET } from './header.ts';
import { type DmarProblem, reporter } from './problems.ts';
import type { DmarTable } from './structures.ts';

const MIN_HAW_BITS = 32;
const MAX_HAW_BITS = 52;

/**
 * Header fields that contradict each other or cannot be.
 *
 * @spec VT-d 8.1
 */
export const checkHeader = (table: DmarTable, problems: DmarProblem[]): void => {
  const report = reporter(problems, 'content', 'header');
  const { hostAddressWidthBits: haw } = table;
  if (haw < MIN_HAW_BITS || haw > MAX_HAW_BITS) {
    report(HEADER_OFFSET.HAW, {
      severity: 'error',
      rule: 'host-address-width',
      value: haw,
      message: `the host address width is ${haw} bits, expected ${MIN_HAW_BITS} to ${MAX_HAW_BITS}`,
    });
  }
  if (table.revision === 0) {
    report(HEADER_OFFSET.REVISION, {
      severity: 'warning',
      rule: 'revision',
      value: 0,
      message: 'the revision is 0, the first one is 1',
    });
  }
  if (table.x2apicOptOut && !table.interruptRemapping) {
    report(HEADER_OFFSET.FLAGS, {
      severity: 'warning',
      rule: 'x2apic-opt-out',
      value: 2,
      message: 'X2APIC_OPT_OUT is set without INTR_REMAP, which alone gives it a meaning',
    });
  }
  if (!table.structures.some(({ kind }) => kind === 'DRHD')) {
    report(HEADER_OFFSET.LENGTH, {
      severity: 'error',
      rule: 'no-unit',
      value: table.structures.length,
      message: 'the table has no DRHD, so no remapping unit',
    });
  }
};
