/**
 * `IOMMU_IOAS_NOIOMMU_GET_PA`: physical addresses for programs that drive a device without IOMMU.
 *
 * @linux drivers/iommu/iommufd/ioas.c, hwpt_noiommu.c
 * @module
 */
import { isRevokedAt, type PhysicalRun, physicalRun } from '../iopt/index.ts';
import { U64_MAX } from '../uapi/constants.ts';
import type { IommuCommand } from '../uapi/structs.ts';
import type { Call } from './call.ts';
import type { Ioas } from './ioas.ts';
import { NOIOMMU_UNIT } from './noiommu-unit.ts';

/** Needs CAP_SYS_RAWIO and a context opened for devices without IOMMU. */
export const ioasNoiommuGetPa = (
  call: Call,
  command: IommuCommand<'IOMMU_IOAS_NOIOMMU_GET_PA'>,
): void => {
  const { context, process } = call;
  if (!context.noiommu) {
    throw call.refuse('EOPNOTSUPP', 'noiommu', 'this context has no devices without IOMMU', {
      accepted: 'openIommufd with { noiommu: true }',
    });
  }
  if (!process.capabilities.has('CAP_SYS_RAWIO')) {
    throw call.refuse('EPERM', 'capability', 'physical addresses need CAP_SYS_RAWIO');
  }
  call.checkFlags(command.flags, 0);
  call.checkReserved(command.reserved);
  checkRange(call, command);
  const ioas = context.find(call.op, command.ioasId, 'IOAS');
  const run = findRun(call, ioas, BigInt(command.iova));
  command.outPhys = BigInt(run.hpa);
  if (command.length > run.lengthBytes) command.length = run.lengthBytes;
};

const findRun = (call: Call, ioas: Ioas, iova: bigint): PhysicalRun => {
  let mapped = false;
  ioas.forEachArea(iova, iova, () => {
    mapped = true;
    return false;
  });
  if (!mapped) {
    throw call.refuse('ENOENT', 'not-mapped', 'nothing is mapped there', { value: iova });
  }
  if (isRevokedAt(ioas.iopt, iova)) {
    throw call.refuse('EINVAL', 'dmabuf-revoked', 'the dma-buf mapped there was taken back', {
      value: iova,
      accepted: 'a new mapping, once its exporter gives the memory again',
    });
  }
  const run = ioas.hwpts.some(({ domain }) => domain.unit === NOIOMMU_UNIT)
    ? physicalRun(ioas.iopt, iova)
    : undefined;
  if (run) return run;
  throw call.refuse('EOPNOTSUPP', 'noiommu', 'no device without IOMMU uses this IOAS', {
    value: ioas.id,
    accepted: 'attach a device without IOMMU first',
  });
};

const checkRange = (
  call: Call,
  { length, iova }: IommuCommand<'IOMMU_IOAS_NOIOMMU_GET_PA'>,
): void => {
  if (length < 1) {
    throw call.refuse('EINVAL', 'length', 'no bytes are asked for', { value: length });
  }
  if (iova === U64_MAX) {
    throw call.refuse('EOVERFLOW', 'u64-max', 'iova is the largest 64-bit number', { value: iova });
  }
};
