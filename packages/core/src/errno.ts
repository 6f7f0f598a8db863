/**
 * The errno values that iommufd and VFIO answer with, by Linux's names and numbers (x86-64 and
 * arm64 agree on all of them).
 *
 * @linux include/uapi/asm-generic/errno-base.h, include/uapi/asm-generic/errno.h
 */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOTTY: 25,
  ENOSPC: 28,
  ESPIPE: 29,
  ERANGE: 34,
  EDEADLOCK: 35,
  EBADE: 52,
  EOVERFLOW: 75,
  EBADFD: 77,
  EMSGSIZE: 90,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
} as const;

/** Name of an errno, `'EINVAL'` for instance. */
export type Errno = keyof typeof ERRNO;

const NAMES = new Map<number, Errno>(
  Object.entries(ERRNO).map(([name, value]) => [value, name as Errno]),
);

/**
 * The name of an errno value.
 *
 * @param errno positive (`22`) or as returned by hot paths, negative (`-22`)
 * @returns the name; `'EINVAL'` for a number that Linux's IOMMU interfaces never answer with
 */
export const errnoName = (errno: number): Errno => NAMES.get(Math.abs(errno)) ?? 'EINVAL';
