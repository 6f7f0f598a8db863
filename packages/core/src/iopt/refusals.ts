/**
 * The refusals of an I/O page table in words: which rule, which value or range, whose, and what
 * would have been accepted.
 * @module
 */
import { hex } from '@iommukit/bits';
import type { Errno } from '../errno.ts';
import { type IommuError, refuse } from '../errors.ts';
import { rangeText, type U64 } from './address.ts';
import type { IoptPages } from './pages.ts';
import type { IovaRange, ReservedRange } from './reserved.ts';

/** A length or IOVA that is no multiple of what the address space asks for. */
export const misaligned = (op: string, what: string, value: U64, alignment: number): IommuError =>
  refuse(
    'EINVAL',
    op,
    'iova-alignment',
    `${what} ${hex(value)} is not a multiple of ${alignment}`,
    {
      value,
      accepted: `a multiple of ${alignment} bytes (out_iova_alignment)`,
    },
  );

/** A length of zero. */
export const emptyRange = (op: string): IommuError =>
  refuse('EINVAL', op, 'length-zero', 'the length is 0', { value: 0, accepted: '1 byte or more' });

/** A length that leaves no room to round up to pages. */
export const tooLong = (op: string, length: U64): IommuError =>
  refuse('EINVAL', op, 'length-too-long', `length ${hex(length)} is above 2^64 - 4097`, {
    value: length,
    accepted: '1 to 2^64 - 4097 bytes',
  });

/** start + length - 1 is above 2^64 - 1. */
export const wraps = (op: string, what: string, start: U64, length: U64): IommuError =>
  refuse(
    'EOVERFLOW',
    op,
    'range-overflow',
    `${what} ${hex(start)} with length ${hex(length)} ends above 2^64 - 1`,
    { value: start, accepted: `a length up to ${hex(2n ** 64n - BigInt(start))}` },
  );

/** A fixed IOVA inside a reserved window. */
export const inReserved = (op: string, range: IovaRange, reserved: ReservedRange): IommuError =>
  refuse(
    'EINVAL',
    op,
    'iova-reserved',
    `${rangeText(range.start, range.last)} touches ${rangeText(reserved.start, reserved.last)}, ${reserved.label}`,
    {
      range: { start: reserved.start, last: reserved.last },
      owner: reserved.label,
      accepted: 'a range that IOMMU_IOAS_IOVA_RANGES lists',
    },
  );

/** A fixed IOVA that is mapped already. */
export const alreadyMapped = (op: string, range: IovaRange, area: IovaRange): IommuError =>
  refuse(
    'EEXIST',
    op,
    'iova-mapped',
    `${rangeText(range.start, range.last)} touches the mapping ${rangeText(area.start, area.last)}`,
    { range: area, accepted: 'a free range, or unmap that one first' },
  );

/** Automatic choice found nothing. */
export const noIova = (
  op: string,
  rc: number,
  length: U64,
  alignment: number,
  needed: number,
): IommuError => {
  if (rc === -22) {
    return refuse(
      'EINVAL',
      op,
      'memory-alignment',
      `the memory is aligned to ${alignment} bytes only, its IOVA must be to ${needed}`,
      { value: alignment, accepted: `memory at a multiple of ${needed} bytes` },
    );
  }
  if (rc === -75) {
    return refuse('EOVERFLOW', op, 'length-too-long', `length ${hex(length)} is too long`, {
      value: length,
      accepted: '1 to 2^63 - 2 bytes',
    });
  }
  return refuse(
    'ENOSPC',
    op,
    'no-iova-space',
    `no free hole of ${hex(length)} bytes, aligned to ${hex(alignment)}, in the allowed ranges`,
    {
      value: length,
      accepted: 'a shorter length, fewer mappings, or a longer list of allowed IOVAs',
    },
  );
};

/** Something that Linux allocates, and could not. */
export const outOfMemory = (op: string, site: string): IommuError =>
  refuse('ENOMEM', op, 'out-of-memory', `no memory for ${site}`, { accepted: 'more memory' });

/** Write access to pages that were mapped read-only. */
export const readOnlyPages = (op: string): IommuError =>
  refuse('EPERM', op, 'pages-read-only', 'the pages were mapped without IOMMU_IOAS_MAP_WRITEABLE', {
    accepted: 'read access only, or a writeable first mapping',
  });

/** What an IOVA range needed and nothing maps. */
export const notMapped = (op: string, range: IovaRange, what: string): IommuError =>
  refuse('ENOENT', op, 'iova-not-mapped', `${rangeText(range.start, range.last)} ${what}`, {
    range,
    accepted: 'a range that mappings cover without a gap',
  });

/** A range that conflicts with a mapping or the allowed list. */
export const inUse = (
  op: string,
  range: IovaRange,
  label: string,
  conflict: IovaRange,
  what: string,
): IommuError =>
  refuse(
    'EADDRINUSE',
    op,
    'iova-in-use',
    `${label} (${rangeText(range.start, range.last)}) touches ${what} ${rangeText(conflict.start, conflict.last)}`,
    { range: conflict, owner: what, accepted: `nothing at ${rangeText(range.start, range.last)}` },
  );

/** Existing mappings do not have an alignment that is asked for from now on. */
export const areaMisaligned = (op: string, area: IovaRange, alignment: number): IommuError =>
  refuse(
    'EADDRINUSE',
    op,
    'area-alignment',
    `the mapping ${rangeText(area.start, area.last)} is not aligned to ${alignment} bytes`,
    { range: area, accepted: `IOVAs, lengths and memory at multiples of ${alignment} bytes` },
  );

/** Pinning failed: a fault, a limit, or the end of a file. */
export const cannotPin = (op: string, rc: number, pages: IoptPages): IommuError => {
  const start = BigInt(pages.basePage) * 4096n;
  const range = { start, last: start + BigInt(pages.count) * 4096n - 1n };
  const where = rangeText(range.start, range.last);
  const rights = pages.writable ? 'writable' : 'readable';
  if (rc === -12) {
    const { rlimitMemlockBytes } = pages.process;
    return refuse('ENOMEM', op, 'memlock', `cannot pin ${where}: out of memory or RLIMIT_MEMLOCK`, {
      range,
      accepted: `at most ${rlimitMemlockBytes} bytes locked (RLIMIT_MEMLOCK), or CAP_IPC_LOCK`,
    });
  }
  const [code, rule, what]: [Errno, string, string] =
    rc === -14
      ? ['EFAULT', 'user-memory', `user memory ${where} is not all mapped ${rights}`]
      : ['EINVAL', 'file-range', `file bytes ${where} are not all inside a file in memory`];
  return refuse(code, op, rule, what, {
    range,
    accepted:
      rc === -14 ? `a living process with ${rights} memory there` : 'a range inside a memfd',
  });
};

/** The driver refused a mapping. */
export const driverRefused = (
  op: string,
  rc: number,
  range: IovaRange,
  label: string,
): IommuError =>
  refuse(rc, op, 'driver-map', `${label} refused to map ${rangeText(range.start, range.last)}`, {
    range,
    owner: label,
    accepted: 'what the driver of that domain can map',
  });
