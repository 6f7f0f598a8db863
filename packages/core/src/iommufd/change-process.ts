/**
 * `IOMMU_IOAS_CHANGE_PROCESS`.
 *
 * @linux drivers/iommu/iommufd/ioas.c iommufd_ioas_change_process
 * @module
 */
import { changeProcess } from '../iopt/index.ts';
import type { IommuCommand } from '../uapi/structs.ts';
import type { Call } from './call.ts';
import { Ioas } from './ioas.ts';

/** Charge the file mappings of all IOASes of the context to the caller. */
export const ioasChangeProcess = (
  call: Call,
  command: IommuCommand<'IOMMU_IOAS_CHANGE_PROCESS'>,
): void => {
  call.answers = false;
  call.checkReserved(command.reserved);
  const iopts = call.context.objects
    .all()
    .filter((object): object is Ioas => object instanceof Ioas)
    .map(({ iopt }) => iopt);
  for (const _ of iopts) call.checkAllocation('the list of address spaces');
  changeProcess(iopts, call.process, call.op);
};
