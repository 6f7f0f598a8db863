/**
 * `IOMMU_HWPT_INVALIDATE`: a guest's cache invalidations, handed to the driver.
 *
 * @linux drivers/iommu/iommufd/hw_pagetable.c iommufd_hwpt_invalidate
 * @module
 */

import type { IommuCommand } from '../uapi/structs.ts';
import { isNull } from '../uapi/user-access.ts';
import type { Call } from './call.ts';
import { HwptNested } from './hwpt.ts';
import { userArray } from './user-data.ts';
import { Viommu } from './viommu.ts';

const MAX_ENTRY_BYTES = 4096;
const MAX_ENTRIES = 1 << 19;

/** `IOMMU_HWPT_INVALIDATE`; `entry_num` becomes the count of entries done, on every way out. */
export const hwptInvalidate = (
  call: Call,
  command: IommuCommand<'IOMMU_HWPT_INVALIDATE'>,
): void => {
  const wanted = command.entryNum;
  call.answersOnError = true;
  command.entryNum = 0;
  call.checkReserved(command.reserved);
  if (wanted !== 0) checkArray(call, command, wanted);
  const array = userArray(call, command.dataUptr, command.dataType, command.entryLen, wanted);
  const invalidate = invalidatorOf(call, command.hwptId);
  try {
    invalidate(array);
  } finally {
    command.entryNum = array.done;
  }
};

const checkArray = (
  call: Call,
  { dataUptr, entryLen }: IommuCommand<'IOMMU_HWPT_INVALIDATE'>,
  count: number,
): void => {
  const good = entryLen > 0 && entryLen <= MAX_ENTRY_BYTES && count <= MAX_ENTRIES;
  if (good && !isNull(dataUptr)) return;
  throw call.refuse('EINVAL', 'invalidation-array', 'pointer, entry length or count is bad', {
    value: good ? 0 : count > MAX_ENTRIES ? count : entryLen,
    accepted: `a pointer, entries of 1 to ${MAX_ENTRY_BYTES} bytes, at most ${MAX_ENTRIES} of them`,
  });
};

type Invalidator = NonNullable<HwptNested['domain']['invalidate']>;

const invalidatorOf = (call: Call, id: number): Invalidator => {
  const target = call.context.objects.get(id);
  const owner =
    target instanceof HwptNested
      ? target.domain
      : target instanceof Viommu
        ? target.backend
        : undefined;
  if (owner?.invalidate) return owner.invalidate.bind(owner);
  if (owner) {
    throw call.refuse('EOPNOTSUPP', 'invalidate', `the driver invalidates nothing through ${id}`, {
      value: id,
    });
  }
  const accepted = 'the id of a nested HWPT or of a vIOMMU';
  if (!target) throw call.refuse('ENOENT', 'object-id', `no object ${id}`, { value: id, accepted });
  throw call.refuse('EINVAL', 'object-kind', `object ${id} is a ${target.kind}`, {
    value: id,
    accepted,
  });
};
