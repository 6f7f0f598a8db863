/**
 * Every ioctl as a method: fields in, fields out, refusals thrown.
 * @module
 */
import type { Process } from '../memory/index.ts';
import type { IommuCommandName, IommuInput, IommuOutput } from '../uapi/structs.ts';
import type { FaultQueue } from './fault-queue.ts';
import type { ObjectKind } from './objects.ts';
import type { ObjectsByKind } from './objects-by-kind.ts';
import type { Veventq } from './veventq.ts';

/**
 * Shorthands for `call`. Inputs are the struct's fields by their camelCase names (those left out are
 * 0), answers the fields that the kernel writes; vendor data and bitmaps are plain bytes.
 */
export abstract class TypedCalls {
  /** The call behind all of them. */
  abstract call<Name extends IommuCommandName>(
    name: Name,
    input: IommuInput<Name>,
    process?: Process,
  ): IommuOutput<Name>;

  /** The object with an id and kind. */
  abstract find<Kind extends ObjectKind>(op: string, id: number, kind: Kind): ObjectsByKind[Kind];

  /** Destroy an object. ENOENT, EBUSY while somebody uses it. */
  destroy(input: IommuInput<'IOMMU_DESTROY'>): void {
    this.call('IOMMU_DESTROY', input);
  }

  /** Make an I/O address space. */
  ioasAlloc(input: IommuInput<'IOMMU_IOAS_ALLOC'> = {}): IommuOutput<'IOMMU_IOAS_ALLOC'> {
    return this.call('IOMMU_IOAS_ALLOC', input);
  }

  /** Map process memory at an IOVA (`IOAS_MAP.FIXED_IOVA`) or wherever it fits. */
  ioasMap(input: IommuInput<'IOMMU_IOAS_MAP'>, process?: Process): IommuOutput<'IOMMU_IOAS_MAP'> {
    return this.call('IOMMU_IOAS_MAP', input, process);
  }

  /** Map a range of a file in memory or dma-buf. */
  ioasMapFile(input: IommuInput<'IOMMU_IOAS_MAP_FILE'>): IommuOutput<'IOMMU_IOAS_MAP_FILE'> {
    return this.call('IOMMU_IOAS_MAP_FILE', input);
  }

  /** Map a mapped range once more, in this or another IOAS; pages are shared. */
  ioasCopy(input: IommuInput<'IOMMU_IOAS_COPY'>): IommuOutput<'IOMMU_IOAS_COPY'> {
    return this.call('IOMMU_IOAS_COPY', input);
  }

  /** Unmap whole mappings in a range; `iova` 0 and `length` `U64_MAX` = everything. */
  ioasUnmap(input: IommuInput<'IOMMU_IOAS_UNMAP'>): IommuOutput<'IOMMU_IOAS_UNMAP'> {
    return this.call('IOMMU_IOAS_UNMAP', input);
  }

  /** Limit automatic IOVAs to a list of ranges, both ends inclusive; an empty list = no limit. */
  ioasAllowIovas(input: {
    readonly ioasId: number;
    readonly ranges: readonly { readonly start: number | bigint; readonly last: number | bigint }[];
  }): void {
    const bytes = new Uint8Array(16 * input.ranges.length);
    const view = new DataView(bytes.buffer);
    input.ranges.forEach(({ start, last }, index) => {
      view.setBigUint64(16 * index, BigInt(start), true);
      view.setBigUint64(16 * index + 8, BigInt(last), true);
    });
    const { ioasId } = input;
    const numIovas = input.ranges.length;
    this.call('IOMMU_IOAS_ALLOW_IOVAS', { ioasId, numIovas, allowedIovas: bytes });
  }

  /** Which IOVAs may be used at all, and their alignment in bytes. */
  ioasIovaRanges(input: { readonly ioasId: number }): {
    readonly ranges: readonly { readonly start: bigint; readonly last: bigint }[];
    readonly iovaAlignment: bigint;
  } {
    const { ioasId } = input;
    const room = this.find('IOMMU_IOAS_IOVA_RANGES', ioasId, 'IOAS').iovaRanges().length;
    const bytes = new Uint8Array(16 * room);
    const answer = this.call('IOMMU_IOAS_IOVA_RANGES', {
      ioasId,
      numIovas: room,
      allowedIovas: bytes,
    });
    const view = new DataView(bytes.buffer);
    const ranges = Array.from({ length: answer.numIovas }, (_unused, index) => ({
      start: view.getBigUint64(16 * index, true),
      last: view.getBigUint64(16 * index + 8, true),
    }));
    return { ranges, iovaAlignment: answer.outIovaAlignment };
  }

  /** Move the charges of file mappings to the calling process. */
  ioasChangeProcess(process?: Process): void {
    this.call('IOMMU_IOAS_CHANGE_PROCESS', {}, process);
  }

  /** Physical address of a mapped IOVA, in an IOAS of a device without IOMMU. */
  ioasNoiommuGetPa(
    input: IommuInput<'IOMMU_IOAS_NOIOMMU_GET_PA'>,
  ): IommuOutput<'IOMMU_IOAS_NOIOMMU_GET_PA'> {
    return this.call('IOMMU_IOAS_NOIOMMU_GET_PA', input);
  }

  /** Get or set an option of the context or of an IOAS. */
  option(input: IommuInput<'IOMMU_OPTION'>): IommuOutput<'IOMMU_OPTION'> {
    return this.call('IOMMU_OPTION', input);
  }

  /** Get, set or clear the IOAS that VFIO container calls mean. */
  vfioIoasOp(input: IommuInput<'IOMMU_VFIO_IOAS'>): IommuOutput<'IOMMU_VFIO_IOAS'> {
    return this.call('IOMMU_VFIO_IOAS', input);
  }

  /** Make a HWPT over an IOAS, a nest parent or a vIOMMU; `data` is the vendor's struct. */
  hwptAlloc(
    input: Omit<IommuInput<'IOMMU_HWPT_ALLOC'>, 'dataLen' | 'dataUptr'> & {
      readonly data?: Uint8Array;
    },
  ): IommuOutput<'IOMMU_HWPT_ALLOC'> {
    const { data, ...fields } = input;
    const vendor = data ? { dataLen: data.length, dataUptr: data } : {};
    return this.call('IOMMU_HWPT_ALLOC', { ...fields, ...vendor });
  }

  /** What the hardware behind a device is: the vendor's struct and common capabilities. */
  getHwInfo(input: { readonly devId: number; readonly dataType?: number }): {
    readonly dataType: number;
    readonly data: Uint8Array;
    readonly maxPasidLog2: number;
    readonly capabilities: bigint;
  } {
    const flags = input.dataType === undefined ? 0 : 1;
    const { dataLen } = this.call('IOMMU_GET_HW_INFO', { ...input, flags });
    const data = new Uint8Array(dataLen);
    const answer = this.call('IOMMU_GET_HW_INFO', { ...input, flags, dataLen, dataUptr: data });
    return {
      dataType: answer.dataType,
      data,
      maxPasidLog2: answer.outMaxPasidLog2,
      capabilities: answer.outCapabilities,
    };
  }

  /** Switch dirty tracking of a HWPT on (`DIRTY_TRACKING.ENABLE`) or off. */
  hwptSetDirtyTracking(input: IommuInput<'IOMMU_HWPT_SET_DIRTY_TRACKING'>): void {
    this.call('IOMMU_HWPT_SET_DIRTY_TRACKING', input);
  }

  /** OR dirty pages into a bitmap of one bit per `pageSize` bytes. */
  hwptGetDirtyBitmap(input: IommuInput<'IOMMU_HWPT_GET_DIRTY_BITMAP'>): void {
    this.call('IOMMU_HWPT_GET_DIRTY_BITMAP', input);
  }

  /** Invalidate caches of a nested HWPT or vIOMMU; returns how many entries were done. */
  hwptInvalidate(
    input: Omit<IommuInput<'IOMMU_HWPT_INVALIDATE'>, 'dataUptr'> & { readonly data?: Uint8Array },
  ): IommuOutput<'IOMMU_HWPT_INVALIDATE'> {
    const { data, ...fields } = input;
    return this.call('IOMMU_HWPT_INVALIDATE', data ? { ...fields, dataUptr: data } : fields);
  }

  /** Make a queue for page requests; `queue` reads and answers them without a descriptor. */
  faultQueueAlloc(
    input: IommuInput<'IOMMU_FAULT_QUEUE_ALLOC'> = {},
  ): IommuOutput<'IOMMU_FAULT_QUEUE_ALLOC'> & { readonly queue: FaultQueue } {
    const answer = this.call('IOMMU_FAULT_QUEUE_ALLOC', input);
    return { ...answer, queue: this.find('IOMMU_FAULT_QUEUE_ALLOC', answer.outFaultId, 'FAULT') };
  }

  /** Make a vIOMMU over a nest parent; `data` is the vendor's struct, written back in place. */
  viommuAlloc(
    input: Omit<IommuInput<'IOMMU_VIOMMU_ALLOC'>, 'dataLen' | 'dataUptr'> & {
      readonly data?: Uint8Array;
    },
  ): IommuOutput<'IOMMU_VIOMMU_ALLOC'> {
    const { data, ...fields } = input;
    const vendor = data ? { dataLen: data.length, dataUptr: data } : {};
    return this.call('IOMMU_VIOMMU_ALLOC', { ...fields, ...vendor });
  }

  /** Tell a vIOMMU by which id its guest knows a device. */
  vdeviceAlloc(input: IommuInput<'IOMMU_VDEVICE_ALLOC'>): IommuOutput<'IOMMU_VDEVICE_ALLOC'> {
    return this.call('IOMMU_VDEVICE_ALLOC', input);
  }

  /** Make a queue for events of a vIOMMU; `queue` reads them without a descriptor. */
  veventqAlloc(
    input: IommuInput<'IOMMU_VEVENTQ_ALLOC'>,
  ): IommuOutput<'IOMMU_VEVENTQ_ALLOC'> & { readonly queue: Veventq } {
    const answer = this.call('IOMMU_VEVENTQ_ALLOC', input);
    return { ...answer, queue: this.find('IOMMU_VEVENTQ_ALLOC', answer.outVeventqId, 'VEVENTQ') };
  }

  /** Give a vIOMMU's hardware a queue in guest memory. */
  hwQueueAlloc(input: IommuInput<'IOMMU_HW_QUEUE_ALLOC'>): IommuOutput<'IOMMU_HW_QUEUE_ALLOC'> {
    return this.call('IOMMU_HW_QUEUE_ALLOC', input);
  }
}
