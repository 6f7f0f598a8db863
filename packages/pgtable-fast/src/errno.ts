/**
 * Errors of table operations.
 * @module
 */

/** Linux errno values, negative, as the operations return them. */
export const ERRNO = {
  /** Nothing is mapped there. */
  ENOENT: -2,
  /** The pool is at its maximum. */
  ENOMEM: -12,
  /** The leaf does not allow the access. */
  EACCES: -13,
  /** A malformed argument: not a whole number, length 0, misaligned, no permission, unknown bit. */
  EINVAL: -22,
  /** Beyond the table's input or output width. */
  ERANGE: -34,
  /** Something is mapped there already. */
  EADDRINUSE: -98,
} as const;
