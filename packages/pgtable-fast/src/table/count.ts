/**
 * Counts that a caller gives.
 * @module
 */

/** Whether `value` is a whole number from 0 to `max`. */
export function isCount(value: number, max: number): boolean {
  return value >= 0 && value <= max && Math.floor(value) === value;
}
