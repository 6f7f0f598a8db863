/**
 * Mapping and unmapping.
 *
 * @linux drivers/iommu/iommufd/ioas.c iommufd_ioas_map and its relatives
 * @module
 */
import { IOPT_PROT, isU64Max, isUnmapAll, type U64 } from '../iopt/index.ts';
import { ACCOUNT, type AccountMode, UNPINNABLE_FILE } from '../memory/index.ts';
import { IOAS_MAP, U64_MAX } from '../uapi/constants.ts';
import { filesOf } from '../uapi/files.ts';
import type { IommuCommand } from '../uapi/structs.ts';
import type { Call } from './call.ts';
import type { Ioas } from './ioas.ts';

const KNOWN_FLAGS = IOAS_MAP.FIXED_IOVA | IOAS_MAP.WRITEABLE | IOAS_MAP.READABLE;
const RIGHTS = IOAS_MAP.WRITEABLE | IOAS_MAP.READABLE;

/** `IOPT_PROT` bits of a call's flags. */
const protOf = (flags: number): number =>
  (flags & IOAS_MAP.READABLE ? IOPT_PROT.READ : 0) |
  (flags & IOAS_MAP.WRITEABLE ? IOPT_PROT.WRITE : 0);

const fixedIova = (flags: number, iova: U64): U64 | undefined =>
  flags & IOAS_MAP.FIXED_IOVA ? iova : undefined;

/** EOVERFLOW for values that mean "the end" to Linux. */
const checkNotMax = (call: Call, iova: U64, length: U64): void => {
  if (!isU64Max(iova) && !isU64Max(length)) return;
  throw call.refuse('EOVERFLOW', 'u64-max', 'IOVA or length is the largest 64-bit number', {
    value: isU64Max(iova) ? iova : length,
    accepted: 'at most 2^64 - 2',
  });
};

const checkRights = (call: Call, flags: number): void => {
  if (flags & RIGHTS) return;
  throw call.refuse('EINVAL', 'no-rights', 'a mapping needs READABLE, WRITEABLE or both', {
    value: flags,
    accepted: `a bit of ${RIGHTS}`,
  });
};

/** Whom pins of mappings made now are charged to. */
const accountMode = (call: Call): AccountMode =>
  call.context.accountPerProcess ? ACCOUNT.MM : ACCOUNT.USER;

/** `IOMMU_IOAS_MAP`. A mapping whose IOVA cannot be written back stays, as in Linux. */
export const ioasMap = (call: Call, command: IommuCommand<'IOMMU_IOAS_MAP'>): void => {
  const { flags, length } = command;
  call.checkFlags(flags, KNOWN_FLAGS);
  call.checkReserved(command.reserved);
  checkNotMax(call, command.iova, length);
  checkRights(call, flags);
  const { iopt } = call.context.find(call.op, command.ioasId, 'IOAS');
  command.iova = iopt.mapUser({
    process: call.process,
    userVa: command.userVa,
    length,
    prot: protOf(flags),
    iova: fixedIova(flags, command.iova),
    accountMode: accountMode(call),
    op: call.op,
  });
};

/** Length and wrapping come before the descriptor. */
const checkFileRange = (call: Call, start: U64, length: U64): void => {
  if (length === 0 || length === 0n) {
    throw call.refuse('EINVAL', 'length-zero', 'the length is 0', {
      value: 0,
      accepted: '1 byte or more',
    });
  }
  const last = BigInt(start) + BigInt(length) - 1n;
  if (last <= U64_MAX) return;
  throw call.refuse('EOVERFLOW', 'range-overflow', 'the range ends above 2^64 - 1', {
    range: { start, last },
    accepted: 'start + length at most 2^64',
  });
};

/**
 * `IOMMU_IOAS_MAP_FILE`.
 *
 * @linux drivers/iommu/iommufd/io_pagetable.c iopt_map_file_pages
 */
export const ioasMapFile = (call: Call, command: IommuCommand<'IOMMU_IOAS_MAP_FILE'>): void => {
  const { flags, length } = command;
  call.checkFlags(flags, KNOWN_FLAGS);
  checkNotMax(call, command.iova, length);
  checkRights(call, flags);
  const { iopt } = call.context.find(call.op, command.ioasId, 'IOAS');
  checkFileRange(call, command.start, length);
  const operations = filesOf(call.process).get(command.fd)?.operations;
  if (!operations) {
    throw call.refuse('EBADF', 'file-descriptor', `descriptor ${command.fd} is not open`, {
      value: command.fd,
      accepted: 'a descriptor of a file in memory or a dma-buf',
    });
  }
  const rc = operations.checkPinnable?.(BigInt(command.start), BigInt(length)) ?? 0;
  if (rc < 0) {
    throw call.refuse(rc, 'dmabuf-range', 'the dma-buf is revoked or has no such range', {
      range: { start: command.start, last: BigInt(command.start) + BigInt(length) - 1n },
      accepted: 'a range inside a dma-buf that is not revoked',
    });
  }
  command.iova = iopt.mapFile({
    process: call.process,
    file: operations.pinnable ?? UNPINNABLE_FILE,
    start: command.start,
    length,
    prot: protOf(flags),
    iova: fixedIova(flags, command.iova),
    accountMode: accountMode(call),
    op: call.op,
  });
};

/** `IOMMU_IOAS_COPY`. */
export const ioasCopy = (call: Call, command: IommuCommand<'IOMMU_IOAS_COPY'>): void => {
  for (const extension of call.context.extensions) extension.prepareCopy?.(call, command);
  const { flags, length } = command;
  call.checkFlags(flags, KNOWN_FLAGS);
  checkNotMax(call, command.srcIova, length);
  checkNotMax(call, command.dstIova, length);
  checkRights(call, flags);
  const { context } = call;
  const source = context.find(call.op, command.srcIoasId, 'IOAS');
  const slices = source.iopt.getPages(command.srcIova, length, call.op);
  const target = targetOf(call, command.dstIoasId, slices);
  const wanted = fixedIova(flags, command.dstIova);
  command.dstIova = target.iopt.mapPages(slices, length, protOf(flags), wanted, call.op);
};

/** The target IOAS of a copy; slices taken from the source are given back when it is missing. */
const targetOf = (
  call: Call,
  id: number,
  slices: readonly { readonly pages: { put(): void } }[],
): Ioas => {
  try {
    return call.context.find(call.op, id, 'IOAS');
  } catch (error) {
    for (const { pages } of slices) pages.put();
    throw error;
  }
};

/** `IOMMU_IOAS_UNMAP`; `length` becomes what was unmapped. */
export const ioasUnmap = (call: Call, command: IommuCommand<'IOMMU_IOAS_UNMAP'>): void => {
  const { iopt } = call.context.find(call.op, command.ioasId, 'IOAS');
  const { iova, length } = command;
  if (isUnmapAll(iova, length)) {
    command.length = iopt.unmapAll(call.op);
    return;
  }
  checkNotMax(call, iova, length);
  command.length = iopt.unmap(iova, length, call.op);
};
