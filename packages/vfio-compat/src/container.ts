/**
 * A VFIO container: one open `/dev/vfio/vfio`.
 *
 * @linux drivers/vfio/container.c
 * @module
 */
import {
  createProcess,
  filesOf,
  type IommuError,
  IommufdContext,
  isIommuError,
  type Machine,
  OpenFile,
  type Process,
  type UserPointer,
  VFIO_IOCTL,
} from '@iommukit/core';
import type { AttachedGroup, DmaCalls, VfioIommu, VfioIommuDriver } from './backend.ts';
import { type RawResult, toRawResult, toU64, VfioCall } from './call.ts';
import type { NestingCalls } from './nesting/nesting-calls.ts';
import type { Type1Info } from './type1/info.ts';
import { type1 } from './type1/type1-driver.ts';
import type { DirtyPagesInput, DmaMapInput, DmaUnmapInput } from './type1/typed.ts';
import { VFIO_API_VERSION } from './uapi/constants.ts';
import { registerContainer } from './vfio-files.ts';

/** How a container is opened. */
export interface VfioContainerOptions {
  /** Backends that SET_IOMMU may choose from, tried in this order; default classic type1. */
  readonly drivers?: readonly VfioIommuDriver[];
}

/** See the module. It lives on, without descriptor, while a group is in it. */
export class VfioContainer {
  readonly machine: Machine;
  /** Who opened it, and whom typed calls act for. */
  readonly process: Process;
  /** The descriptor `process` got. */
  readonly fd: number;
  readonly file: OpenFile;
  /** Why the last raw call was refused. */
  lastRefusal: IommuError | undefined;
  readonly #drivers: readonly VfioIommuDriver[];
  /** Groups in the order they came. */
  readonly #groups = new Set<AttachedGroup>();
  /** The iommufd objects behind the container; the caller has no descriptor of it. */
  #context: IommufdContext | undefined;
  #iommu: VfioIommu | undefined;

  constructor(process: Process, machine: Machine, options: VfioContainerOptions = {}) {
    this.process = process;
    this.machine = machine;
    this.#drivers = options.drivers ?? [type1()];
    this.file = new OpenFile({
      name: 'VFIO container',
      ioctl: (caller, request, argument) => this.ioctl(request, argument, caller),
    });
    registerContainer(this.file, this);
    this.fd = filesOf(process).install(this.file);
  }

  /** The backend that SET_IOMMU chose. */
  get iommu(): VfioIommu | undefined {
    return this.#iommu;
  }

  /**
   * A raw ioctl.
   *
   * @param request request code, `0x3b71` for instance
   * @param argument address of the struct in the caller's memory, or the plain argument
   * @param process the caller; default the process that opened the container
   * @returns 0 or more, or a negative errno (`lastRefusal` says why)
   */
  ioctl(request: number, argument: number | bigint, process: Process = this.process): number {
    const { result, refusal }: RawResult = toRawResult(() =>
      this.#serve(process, request >>> 0, argument),
    );
    this.lastRefusal = refusal;
    return result;
  }

  /** `VFIO_GET_API_VERSION`: always 0. */
  getApiVersion(): number {
    return VFIO_API_VERSION;
  }

  /**
   * `VFIO_CHECK_EXTENSION`.
   *
   * @param extension `VFIO_EXTENSION.*`; also the IOMMU types are asked for this way
   * @returns 0 = no; before SET_IOMMU the answer of the first backend that says yes
   */
  checkExtension(extension: number | bigint): number {
    const number = toU64('extension', extension);
    if (this.#iommu) return this.#iommu.checkExtension(number);
    for (const driver of this.#drivers) {
      const answer = driver.checkExtension(number);
      if (answer > 0) return answer;
    }
    return 0;
  }

  /**
   * `VFIO_SET_IOMMU`: choose a backend and let the DMA of every group in the container through it.
   *
   * @param type `VFIO_EXTENSION.TYPE1_IOMMU` or `TYPE1v2_IOMMU`
   * @throws {IommuError} EINVAL without a group or when it is set already; ENODEV when no backend
   *   offers the type; what attaching a group says
   */
  setIommu(type: number | bigint, process: Process = this.process): void {
    this.#setIommu(new VfioCall(process, 'VFIO_SET_IOMMU'), toU64('type', type));
  }

  /** `VFIO_IOMMU_GET_INFO` with its capabilities. EINVAL before SET_IOMMU. */
  iommuGetInfo(): Type1Info {
    return this.#dma(new VfioCall(this.process, 'VFIO_IOMMU_GET_INFO')).getInfo();
  }

  /**
   * `VFIO_IOMMU_MAP_DMA`: map user memory at an IOVA.
   *
   * @throws {IommuError} EINVAL, EOVERFLOW, EEXIST, ENOENT, ENOSPC, ENOMEM, EFAULT or what the driver
   *   says; nothing has changed then
   */
  iommuMapDma(map: DmaMapInput, process: Process = this.process): void {
    const call = new VfioCall(process, 'VFIO_IOMMU_MAP_DMA');
    this.#dma(call).mapDma(call, map);
  }

  /**
   * `VFIO_IOMMU_UNMAP_DMA`: remove whole mappings.
   *
   * @returns bytes removed
   * @throws {IommuError} EINVAL, EOVERFLOW, EFAULT
   */
  iommuUnmapDma(unmap: DmaUnmapInput, process: Process = this.process): { readonly size: bigint } {
    const call = new VfioCall(process, 'VFIO_IOMMU_UNMAP_DMA');
    return { size: this.#dma(call).unmapDma(call, unmap) };
  }

  /**
   * `VFIO_IOMMU_DIRTY_PAGES`: START, STOP, or GET_BITMAP of a range.
   *
   * @throws {IommuError} EACCES in a TYPE1 container; EINVAL, EOVERFLOW, EFAULT
   */
  iommuDirtyPages(input: DirtyPagesInput, process: Process = this.process): void {
    const call = new VfioCall(process, 'VFIO_IOMMU_DIRTY_PAGES');
    this.#dma(call).dirtyPages(call, input);
  }

  /**
   * Calls of the TYPE1_NESTING dialects, in typed form.
   *
   * @throws {IommuError} EINVAL before SET_IOMMU; ENOTTY when the backend has none
   */
  get nesting(): NestingCalls {
    const call = new VfioCall(this.process, 'VFIO_IOMMU_NESTING_OP');
    if (!this.#iommu) throw noIommu(call);
    if (this.#iommu.nesting) return this.#iommu.nesting;
    throw call.refuse('ENOTTY', 'backend', 'the backend of this container does not nest', {
      accepted: 'drivers: [type1Nesting(...)], then VFIO_SET_IOMMU with TYPE1_NESTING 6',
    });
  }

  /** Close the descriptor. Groups stay in the container, and their mappings with them. */
  close(): void {
    filesOf(this.process).close(this.fd);
  }

  /**
   * Take a group in; called by `VfioGroupFile`.
   *
   * @param bind binds the group's devices to the container's context
   * @returns what `detachGroup` takes
   * @throws {IommuError} EPERM when somebody else owns the group's DMA; what the backend says
   */
  attachGroup(call: VfioCall, bind: (context: IommufdContext) => AttachedGroup): AttachedGroup {
    const context = this.#openContext();
    let group: AttachedGroup | undefined;
    try {
      group = bind(context);
      this.#iommu?.attachGroup(call, group);
    } catch (error) {
      if (group) unbindAll(context, group);
      this.#closeUnused();
      throw error;
    }
    this.#groups.add(group);
    return group;
  }

  /** Let a group go. With the last one the backend goes, and every mapping. */
  detachGroup(group: AttachedGroup): void {
    if (!this.#groups.delete(group) || !this.#context) return;
    this.#iommu?.detachGroup(group);
    unbindAll(this.#context, group);
    this.#closeUnused();
  }

  #serve(process: Process, request: number, argument: number | bigint): number {
    switch (request) {
      case VFIO_IOCTL.GET_API_VERSION:
        return VFIO_API_VERSION;
      case VFIO_IOCTL.CHECK_EXTENSION:
        return this.checkExtension(BigInt(argument) & U64_MASK);
      case VFIO_IOCTL.SET_IOMMU:
        this.setIommu(BigInt(argument) & U64_MASK, process);
        return 0;
      default:
        return this.#serveByBackend(process, request, argument);
    }
  }

  #serveByBackend(process: Process, request: number, argument: UserPointer): number {
    const name = this.#iommu?.names[request] ?? `VFIO ioctl 0x${request.toString(16)}`;
    const call = new VfioCall(process, name);
    if (!this.#iommu) throw noIommu(call);
    return this.#iommu.ioctl(call, request, argument);
  }

  #dma(call: VfioCall): DmaCalls {
    if (!this.#iommu) throw noIommu(call);
    if (this.#iommu.dma) return this.#iommu.dma;
    throw call.refuse('ENOTTY', 'backend', 'the backend of this container maps no user memory', {
      accepted: 'VFIO_SET_IOMMU with TYPE1 1 or TYPE1v2 3',
    });
  }

  #setIommu(call: VfioCall, type: bigint): void {
    if (this.#groups.size === 0 || this.#iommu) {
      const rule = this.#iommu ? 'iommu-set' : 'no-group';
      throw call.refuse('EINVAL', rule, this.#iommu ? 'it is set already' : 'no group is in it', {
        value: type,
        accepted: 'one SET_IOMMU, after VFIO_GROUP_SET_CONTAINER',
      });
    }
    let refusal = call.refuse('ENODEV', 'iommu-type', `no backend offers the IOMMU type ${type}`, {
      value: type,
      accepted: 'a type that VFIO_CHECK_EXTENSION answers 1 to: TYPE1 1, TYPE1v2 3',
    });
    for (const driver of this.#drivers) {
      if (driver.checkExtension(type) <= 0) continue;
      try {
        this.#iommu = this.#openBackend(call, driver, type);
        return;
      } catch (error) {
        if (!isIommuError(error)) throw error;
        refusal = error;
      }
    }
    throw refusal;
  }

  /** Open a backend and attach every group, or none. */
  #openBackend(call: VfioCall, driver: VfioIommuDriver, type: bigint): VfioIommu {
    const iommu = driver.open(call, type, this.#openContext());
    const done: AttachedGroup[] = [];
    try {
      for (const group of this.#groups) {
        iommu.attachGroup(call, group);
        done.push(group);
      }
    } catch (error) {
      for (const group of done) iommu.detachGroup(group);
      iommu.release();
      throw error;
    }
    return iommu;
  }

  /** The context, opened by a process of its own so that no descriptor of the caller is used up. */
  #openContext(): IommufdContext {
    this.#context ??= new IommufdContext(createProcess(this.machine), this.machine);
    return this.#context;
  }

  #closeUnused(): void {
    if (this.#groups.size > 0) return;
    this.#iommu?.release();
    this.#iommu = undefined;
    this.#context?.close();
    this.#context = undefined;
  }
}

const U64_MASK = (1n << 64n) - 1n;

const unbindAll = (context: IommufdContext, { devIds }: AttachedGroup): void => {
  for (const devId of devIds) context.unbindDevice(devId);
};

const noIommu = (call: VfioCall): IommuError =>
  call.refuse('EINVAL', 'no-iommu', 'the container has no IOMMU yet', {
    accepted: 'VFIO_GROUP_SET_CONTAINER, then VFIO_SET_IOMMU first',
  });

/**
 * Open `/dev/vfio/vfio`.
 *
 * @param machine the computer whose groups will be put in
 */
export const openVfioContainer = (
  process: Process,
  machine: Machine,
  options?: VfioContainerOptions,
): VfioContainer => new VfioContainer(process, machine, options);
