/**
 * Expectations on saved state, which is not trusted.
 * @module
 */
import { refuse } from '../errors.ts';
import { RESTORE_OP } from './envelope.ts';

/** A refusal of state that contradicts itself. */
export const inconsistent = (what: string, value: number | bigint | string) =>
  refuse('EINVAL', RESTORE_OP, 'snapshot-content', `the snapshot contradicts itself: ${what}`, {
    value,
    accepted: 'a snapshot as saveSnapshot made it',
  });

/** Fail unless `condition` holds. @throws {IommuError} EINVAL */
export const need = (
  condition: boolean,
  what: string,
  value: number | bigint | string = '',
): void => {
  if (!condition) throw inconsistent(what, value);
};

/** Fail unless `index` is a position in a list of `count`. @throws {IommuError} EINVAL */
export const needIndex = (index: number, count: number, what: string): void =>
  need(
    Number.isInteger(index) && index >= 0 && index < count,
    `there is no ${what} ${index}`,
    index,
  );

/** Fail unless no value comes twice. @throws {IommuError} EINVAL */
export const needUnique = (values: readonly (number | bigint | string)[], what: string): void =>
  need(new Set(values).size === values.length, `${what} comes twice`);
