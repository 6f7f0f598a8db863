import { hex } from '@iommukit/bits';

/** Something in a DMAR table that contradicts the specification or the rest of the table. */
export interface DmarProblem {
  /** `error`: what it concerns cannot be used as it stands; `warning`: it can. */
  readonly severity: 'error' | 'warning';
  /**
   * `bytes`: the bytes have no regular form, so the table that was read from them does not hold
   * everything; `content`: they were read in full, and what they say is wrong.
   */
  readonly layer: 'bytes' | 'content';
  /** Short stable name of the broken rule, `'rmrr-range'` for instance. */
  readonly rule: string;
  /** Which structure: `'header'`, or kind and number among its kind from 0, `'RMRR 1'`. */
  readonly structure: string;
  /** Byte offset of the offending field from the start of the table. */
  readonly offset: number;
  /** The offending value. */
  readonly value: number | bigint | string;
  /** One sentence: what is there, and what the rule asks for. */
  readonly message: string;
}

/** What a rule says about one finding; the collector adds where it is. */
export type Finding = Pick<DmarProblem, 'severity' | 'rule' | 'value' | 'message'>;

/** Takes findings of one structure; `offset` counts from the start of the table. */
export type Report = (offset: number, finding: Finding) => void;

/** A {@link Report} that appends to `problems` under a structure's name. */
export const reporter =
  (problems: DmarProblem[], layer: DmarProblem['layer'], structure: string): Report =>
  (offset, finding) => {
    problems.push({ ...finding, layer, structure, offset });
  };

/** One line for people: structure, offset, what is wrong, the rule's name. */
export const formatDmarProblem = (problem: DmarProblem): string => {
  const { severity, structure, offset, message, rule } = problem;
  return `${severity}: ${structure} at ${hex(offset)}: ${message} (${rule})`;
};
