/**
 * Recorded sequences: what a program did and what a real kernel answered.
 * @module
 */

/** A 64-bit number as text (`'0x1000'`), a number, or a captured variable (`'$ioas'`). */
export type GoldenValue = number | string;

/** One recorded step; which members it has depends on `op`. */
export interface GoldenStep {
  readonly op: string;
  readonly ret?: number | string;
  readonly err?: string;
  readonly fd?: number | string;
  readonly cmd?: string;
  readonly in?: Readonly<Record<string, GoldenValue>>;
  readonly out?: Readonly<Record<string, GoldenValue>>;
  readonly resolved?: Readonly<Record<string, GoldenValue>>;
  readonly reused?: readonly string[];
  /** Variables captured when the call succeeds: of a struct by field, of a read by place. */
  readonly save?: Readonly<Record<string, string | readonly [at: number, width: number]>> | string;
  readonly mem?: readonly (readonly [addr: string, length: number])[];
  readonly mem_out?: readonly (string | null)[];
  readonly size?: number;
  readonly buflen?: number;
  readonly extra?: readonly (readonly [at: number, width: number, value: GoldenValue])[];
  readonly words?: readonly (readonly GoldenValue[])[];
  readonly fields?: readonly (readonly [at: number, width: number, value: GoldenValue])[];
  readonly out_hex?: string;
  readonly addr?: string;
  readonly at?: string;
  readonly argsz?: number;
  readonly len?: number | string;
  readonly prot?: number;
  readonly flags?: number | string;
  readonly off?: number | string;
  readonly whence?: number;
  readonly first?: number;
  readonly byte?: number;
  readonly hex?: string;
  readonly width?: number;
  readonly value?: GoldenValue;
  readonly var?: string;
  readonly data?: string | null;
  readonly events?: number;
  readonly revents?: number;
  readonly path?: string;
  /** Descriptor of a container. */
  readonly container?: number | string;
  /** Name of a device in its group. */
  readonly name?: string;
  readonly seals?: number;
  readonly uid?: number;
  readonly soft?: number;
  readonly hard?: number;
  readonly steps?: number;
  readonly vmpin?: number;
  readonly vmlck?: number;
  /** Functions in which the kernel printed a warning: its defect, which only the result shows. */
  readonly warn?: readonly string[];
}

/** A recorded sequence. */
export interface GoldenSequence {
  readonly name: string;
  readonly doc?: string;
  readonly steps: readonly GoldenStep[];
}

/** One answer that is not the recorded one. */
export interface GoldenDifference {
  /** Name of the sequence. */
  readonly sequence: string;
  /** Index of the step, from 0. */
  readonly step: number;
  /** The call, for people. */
  readonly call: string;
  readonly expected: string;
  readonly got: string;
}

/**
 * Check that a value looks like a sequence.
 *
 * @throws {TypeError} when it has no name or no steps
 */
export const parseSequence = (json: unknown): GoldenSequence => {
  const sequence = json as GoldenSequence;
  if (typeof sequence?.name !== 'string' || !Array.isArray(sequence.steps)) {
    throw new TypeError("a recorded sequence is an object with 'name' and a list 'steps'");
  }
  return sequence;
};
