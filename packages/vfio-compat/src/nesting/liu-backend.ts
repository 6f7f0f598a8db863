/**
 * TYPE1_NESTING in the dialect of the posted series v4 to v7: the container's mappings are the second
 * stage, the guest binds a first-stage table to each PASID it got from the host.
 *
 * @spec mail of 10 September 2020, 1599734733-6431-1-git-send-email-yi.l.liu@intel.com
 * @module
 */
import {
  HWPT_ALLOC,
  type IommufdContext,
  type Process,
  type UserPointer,
  VFIO_EXTENSION,
  VFIO_IOCTL,
} from '@iommukit/core';
import type { AttachedGroup, DmaCalls, VfioIommu } from '../backend.ts';
import type { VfioCall } from '../call.ts';
import { getInfo, type1Capabilities, type1Info } from '../type1/info.ts';
import { Type1Backend } from '../type1/type1-driver.ts';
import { Type1Iommu } from '../type1/type1-iommu.ts';
import type { Capability } from '../uapi/cap-chain.ts';
import { VFIO_IOMMU_INFO_CAP } from '../uapi/constants.ts';
import { decode } from '../uapi/struct.ts';
import { FirstStages } from './first-stages.ts';
import { infoBytes } from './invalidate-rules.ts';
import { LIU_IOCTL, LIU_STRUCTS, NESTING_OP } from './liu-layouts.ts';
import { LiuNesting, type LiuOptions } from './liu-nesting.ts';
import { nestingCapability, vtdNestingInfo } from './nesting-info.ts';

const NAMES: Readonly<Record<number, string>> = {
  [LIU_IOCTL.PASID_REQUEST]: 'VFIO_IOMMU_PASID_REQUEST',
  [LIU_IOCTL.NESTING_OP]: 'VFIO_IOMMU_NESTING_OP',
};
const NESTING_OP_MASK = 0xffff;

/** One opened container of this dialect. */
export class LiuBackend implements VfioIommu {
  readonly names: Readonly<Record<number, string>>;
  readonly nesting: LiuNesting;
  readonly #context: IommufdContext;
  readonly #iommu: Type1Iommu;
  readonly #type1: Type1Backend;
  readonly #options: LiuOptions;

  constructor(context: IommufdContext, owner: Process, options: LiuOptions) {
    this.#context = context;
    this.#iommu = new Type1Iommu(context, true, options.dmaEntryLimit);
    this.#type1 = new Type1Backend(this.#iommu);
    this.#options = options;
    this.nesting = new LiuNesting(context.machine, owner, options);
    this.names = { ...this.#type1.names, ...NAMES };
  }

  get dma(): DmaCalls {
    return this.#type1.dma;
  }

  checkExtension(extension: bigint): number {
    const isNesting = extension === BigInt(VFIO_EXTENSION.TYPE1_NESTING_IOMMU);
    return isNesting ? 1 : this.#type1.checkExtension(extension);
  }

  ioctl(call: VfioCall, request: number, argument: UserPointer): number {
    if (request === LIU_IOCTL.PASID_REQUEST) return this.#rawPasidRequest(call, argument);
    if (request === LIU_IOCTL.NESTING_OP) return this.#rawNestingOp(call, argument);
    if (request === VFIO_IOCTL.IOMMU_GET_INFO) {
      const info = type1Info(this.#iommu);
      return getInfo(call, info, this.#capabilities(type1Capabilities(info)), argument);
    }
    return this.#type1.ioctl(call, request, argument);
  }

  attachGroup(call: VfioCall, group: AttachedGroup): void {
    if (this.nesting.nested) {
      throw call.refuse('EINVAL', 'one-group', 'a nesting container holds one group', {
        value: group.group.id,
        accepted: 'a container of its own for each group',
      });
    }
    const [devId = 0] = group.devIds;
    const { outHwptId } = this.#context.hwptAlloc({
      devId,
      ptId: this.#iommu.ioas.id,
      flags: HWPT_ALLOC.NEST_PARENT | HWPT_ALLOC.PASID,
    });
    this.#iommu.attachTarget = outHwptId;
    try {
      this.#type1.attachGroup(call, group);
    } catch (error) {
      this.#context.destroy({ id: outHwptId });
      throw error;
    }
    const stages = new FirstStages(this.#context, group, outHwptId);
    const info = vtdNestingInfo(this.#context, devId, this.#options.features);
    this.nesting.nested = { group, parentId: outHwptId, stages, info };
  }

  detachGroup(group: AttachedGroup): void {
    if (this.nesting.nested?.group !== group) return;
    this.nesting.nested.stages.unbindAll();
    this.#type1.detachGroup(group);
    this.#context.destroy({ id: this.nesting.nested.parentId });
    this.nesting.nested = undefined;
  }

  release(): void {
    this.nesting.release();
    this.#type1.release();
  }

  /** Number 3 is the nesting capability here, so DMA_AVAIL is not reported. */
  #capabilities(capabilities: readonly Capability[]): Capability[] {
    const kept = capabilities.filter(({ id }) => id !== VFIO_IOMMU_INFO_CAP.DMA_AVAIL);
    return this.nesting.info ? [...kept, nestingCapability(this.nesting.info)] : kept;
  }

  #rawPasidRequest(call: VfioCall, argument: UserPointer): number {
    const { flags, min, max } = call.readStruct(LIU_STRUCTS.pasid_request, argument);
    return this.nesting.request(call, flags, min, max);
  }

  #rawNestingOp(call: VfioCall, argument: UserPointer): number {
    const head = LIU_STRUCTS.nesting_op;
    const { argsz, flags } = call.readStruct(head, argument);
    if (flags === NESTING_OP.CACHE_INVLD) {
      const spec = LIU_STRUCTS.cache_invalidate_info;
      call.checkArgsz(argsz, head.size + spec.min);
      const { granularity } = decode(spec, call.copyIn(argument, head.size, spec.min));
      const bytes = infoBytes(granularity);
      call.checkArgsz(argsz, head.size + bytes);
      this.nesting.invalidate(call, decode(spec, call.copyIn(argument, head.size, bytes)));
      return 0;
    }
    if (flags !== NESTING_OP.BIND_PGTBL && flags !== NESTING_OP.UNBIND_PGTBL) {
      throw call.refuse('EINVAL', 'nesting-op', `flags ${flags} name no operation`, {
        value: flags & NESTING_OP_MASK,
        accepted: 'BIND_PGTBL 0, UNBIND_PGTBL 1, CACHE_INVLD 2, no other bits',
      });
    }
    const spec = LIU_STRUCTS.gpasid_bind_data;
    call.checkArgsz(argsz, head.size + spec.min);
    const data = decode(spec, call.copyIn(argument, head.size, spec.size));
    call.checkArgsz(data.argsz, spec.min);
    if (flags === NESTING_OP.BIND_PGTBL) this.nesting.bind(call, data);
    else this.nesting.unbind(call, data.hpasid);
    return 0;
  }
}
