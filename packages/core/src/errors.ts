import { ERRNO, type Errno, errnoName } from './errno.ts';

/** An address range in a refusal, `last` inclusive, bytes. */
export interface RefusedRange {
  readonly start: number | bigint;
  readonly last: number | bigint;
}

/**
 * Why a call was refused, for programs and for people. Linux answers with the errno alone; this
 * stands beside it and never changes it.
 */
export interface Refusal {
  /** Short stable name of the broken rule, `'iova-reserved'` for instance. */
  readonly rule: string;
  /** One sentence: what was asked, what stands in the way, what would have been accepted. */
  readonly message: string;
  /** The offending value, as the caller gave it. */
  readonly value?: number | bigint | string;
  /** The offending or conflicting range. */
  readonly range?: RefusedRange;
  /** Who owns the conflicting thing: `'MSI window of 0000:00:04.0'`, `'HWPT 3'`. */
  readonly owner?: string;
  /** What would have been accepted: values, ranges or a rule in words. */
  readonly accepted?: string;
}

const BRAND = Symbol.for('@iommukit/error');

/**
 * The one error class: every refused call throws it, with Linux's errno and a structured reason.
 * Translation faults are never errors; they are records in fault queues.
 */
export class IommuError extends Error {
  /** errno name, `'EINVAL'`. */
  readonly code: Errno;
  /** errno as a positive number, 22. */
  readonly errno: number;
  /** The call that was refused, in the uAPI's spelling: `'IOMMU_IOAS_MAP'`. */
  readonly op: string;
  /** The rule that was broken, and by what. */
  readonly reason: Refusal;

  constructor(code: Errno, op: string, reason: Refusal, options?: ErrorOptions) {
    super(`${op}: ${code}: ${reason.message}`, options);
    this.name = 'IommuError';
    this.code = code;
    this.errno = ERRNO[code];
    this.op = op;
    this.reason = reason;
    Object.defineProperty(this, BRAND, { value: true });
  }
}

/**
 * Whether a thrown value is an `IommuError`, of whichever copy of this package (ESM and CJS may
 * both be loaded, so `instanceof` is not enough).
 */
export const isIommuError = (error: unknown): error is IommuError =>
  typeof error === 'object' && error !== null && BRAND in error;

/**
 * Build an `IommuError` in one line.
 *
 * @param code errno name, or a negative errno from a hot path
 * @param op the refused call in the uAPI's spelling
 * @param rule short stable name of the broken rule
 * @param message one sentence for people
 * @param details the offending value or range, owner, what would be accepted
 */
export const refuse = (
  code: Errno | number,
  op: string,
  rule: string,
  message: string,
  details: Omit<Refusal, 'rule' | 'message'> = {},
): IommuError =>
  new IommuError(typeof code === 'number' ? errnoName(code) : code, op, {
    rule,
    message,
    ...details,
  });
