/**
 * A context: one open `/dev/iommu`, with its objects, and every call on it in typed form.
 *
 * @linux drivers/iommu/iommufd/main.c
 * @module
 */
import type { IommuGroup } from '../bus/group.ts';
import type { Machine } from '../bus/machine.ts';
import { type IommuError, refuse } from '../errors.ts';
import { PinContext } from '../iopt/index.ts';
import type { Process } from '../memory/index.ts';
import { answerOf, commandFrom } from '../uapi/codec.ts';
import { type FileMapping, type FileOperations, filesOf, OpenFile, POLL } from '../uapi/files.ts';
import type { StructSpec } from '../uapi/struct-table.ts';
import {
  IOMMU_STRUCTS,
  type IommuCommandName,
  type IommuInput,
  type IommuOutput,
} from '../uapi/structs.ts';
import type { Access } from './access.ts';
import { changePageTable, detachDevice } from './attach.ts';
import { Call } from './call.ts';
import { type BusDevice, bindDevice, type IommufdDevice, unbindDevice } from './device.ts';
import type { FaultQueue } from './fault-queue.ts';
import { type IommufdGroup, RID_PASID } from './group.ts';
import { HANDLERS, type Handler } from './handlers.ts';
import type { HwQueue } from './hw-queue.ts';
import type { HwptNested, HwptPaging } from './hwpt.ts';
import type { Ioas } from './ioas.ts';
import { MmapRegions } from './mmap-regions.ts';
import { type IommufdObject, type ObjectKind, ObjectTable } from './objects.ts';
import { type IoctlExtension, IoctlTable, rawIoctl } from './raw-ioctl.ts';
import type { Vdevice } from './vdevice.ts';
import type { Veventq } from './veventq.ts';
import type { Viommu } from './viommu.ts';

/** Object classes by kind. */
interface ObjectsByKind {
  readonly IOAS: Ioas;
  readonly HWPT_PAGING: HwptPaging;
  readonly HWPT_NESTED: HwptNested;
  readonly DEVICE: IommufdDevice;
  readonly ACCESS: Access;
  readonly FAULT: FaultQueue;
  readonly VIOMMU: Viommu;
  readonly VDEVICE: Vdevice;
  readonly VEVENTQ: Veventq;
  readonly HW_QUEUE: HwQueue;
  readonly SELFTEST: IommufdObject;
}

/** How a context is opened. */
export interface IommufdOptions {
  /** ioctls beyond the public ones. */
  readonly extensions?: readonly IoctlExtension[];
  /** For devices without IOMMU: programs may ask for physical addresses. */
  readonly noiommu?: boolean;
  /** Opened as `/dev/vfio/vfio`: pinned pages are charged to the process from the start. */
  readonly asVfioContainer?: boolean;
}

/** One open iommufd. */
export class IommufdContext {
  readonly machine: Machine;
  /** Who opened it, and whom typed calls act for. */
  readonly process: Process;
  /** The descriptor `process` got. */
  readonly fd: number;
  /** The open file; queues of this context hold it too. */
  readonly file: OpenFile;
  readonly objects = new ObjectTable();
  readonly groups = new Map<IommuGroup, IommufdGroup>();
  readonly mmapRegions = new MmapRegions();
  /** What the pins of this context share; its hook can let allocations fail. */
  readonly pins: PinContext;
  /** Serves devices without IOMMU. */
  readonly noiommu: boolean;
  /** `IOMMU_OPTION_RLIMIT_MODE` 1: pinned pages are charged to the process, not to the user. */
  accountPerProcess: boolean;
  /** The IOAS that VFIO container calls mean. */
  vfioIoas: Ioas | undefined;
  /** Why the last raw call was refused. */
  lastRefusal: IommuError | undefined;
  readonly #table: IoctlTable;
  /** Devices bound by typed calls, which nobody else would unbind. */
  readonly #boundHere = new Set<IommufdDevice>();

  constructor(process: Process, machine: Machine, options: IommufdOptions = {}) {
    this.process = process;
    this.machine = machine;
    this.accountPerProcess = options.asVfioContainer ?? false;
    this.noiommu = options.noiommu ?? false;
    this.pins = new PinContext(machine.memory);
    this.#table = new IoctlTable(options.extensions ?? []);
    this.file = new OpenFile(this.#operations());
    this.fd = filesOf(process).install(this.file);
  }

  /**
   * A raw ioctl.
   *
   * @param request 32-bit request code, `0x3b81` for instance
   * @param argument address of the struct in the caller's memory, or the plain argument
   * @param process the caller; default the process that opened the context
   * @returns 0 or more, or a negative errno (`lastRefusal` says why)
   */
  ioctl(request: number, argument: number | bigint, process: Process = this.process): number {
    const { result, refusal } = rawIoctl(this, this.#table, process, request >>> 0, argument);
    this.lastRefusal = refusal;
    return result;
  }

  /**
   * A call in typed form, by its name; the methods below are shorthands for it.
   *
   * @param input fields by their camelCase names; those left out are 0
   * @returns the fields the kernel writes
   * @throws {IommuError} with Linux's errno and the reason
   * @throws {RangeError} when a field does not exist or its value has too many bits
   */
  call<Name extends IommuCommandName>(
    name: Name,
    input: IommuInput<Name>,
    process: Process = this.process,
  ): IommuOutput<Name> {
    const spec: StructSpec = IOMMU_STRUCTS[name];
    const command = commandFrom(spec, input);
    (HANDLERS[name] as Handler<unknown>)(new Call(this, process, name), command);
    return answerOf(spec, command) as IommuOutput<Name>;
  }

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

  /**
   * Bind a device, as a VFIO driver does for its user.
   *
   * @returns its object id
   * @throws {IommuError} ENODEV without IOMMU, EPERM when its group is another context's
   */
  bindDevice(device: BusDevice): number {
    const bound = bindDevice(this, 'iommufd_device_bind', device);
    this.#boundHere.add(bound);
    return bound.id;
  }

  /** Detach a device from everything and unbind it. */
  unbindDevice(devId: number): void {
    const device = this.find('iommufd_device_unbind', devId, 'DEVICE');
    this.#boundHere.delete(device);
    unbindDevice(device);
  }

  /**
   * Attach a device (`pasid` absent) or one of its PASIDs to an IOAS or HWPT.
   *
   * @returns the id of the HWPT that translates now
   */
  deviceAttach(devId: number, ptId: number, pasid: number = RID_PASID): number {
    const device = this.find('iommufd_device_attach', devId, 'DEVICE');
    return changePageTable('iommufd_device_attach', device, pasid, ptId, 'attach');
  }

  /** Put another IOAS or HWPT in the place of the attached one, without a gap. */
  deviceReplace(devId: number, ptId: number, pasid: number = RID_PASID): number {
    const device = this.find('iommufd_device_replace', devId, 'DEVICE');
    return changePageTable('iommufd_device_replace', device, pasid, ptId, 'replace');
  }

  /** Detach; silent when nothing is attached. */
  deviceDetach(devId: number, pasid: number = RID_PASID): void {
    detachDevice(this.find('iommufd_device_detach', devId, 'DEVICE'), pasid);
  }

  /** Close the descriptor: bound devices are unbound, then every object goes. */
  close(): void {
    filesOf(this.process).close(this.fd);
  }

  /** The object with an id and kind. ENOENT. */
  find<Kind extends ObjectKind>(op: string, id: number, kind: Kind): ObjectsByKind[Kind] {
    return this.objects.find(op, id, kind) as unknown as ObjectsByKind[Kind];
  }

  /** The IOAS of VFIO container calls. ENODEV when there is none. */
  compatIoas(op: string): Ioas {
    if (this.vfioIoas) return this.vfioIoas;
    throw refuse('ENODEV', op, 'compat-ioas', 'no IOAS stands for the VFIO container', {
      accepted: 'IOMMU_VFIO_IOAS SET first, or attach a VFIO group',
    });
  }

  /** Take an object out and destroy it; nobody uses it. */
  destroyObject(object: IommufdObject): void {
    if (this.vfioIoas === (object as unknown)) this.vfioIoas = undefined;
    if (this.objects.get(object.id) === object) this.objects.release(object.id);
    object.destroy();
  }

  #operations(): FileOperations {
    return {
      name: 'iommufd',
      iommufd: this,
      ioctl: (process, request, argument) => this.ioctl(request, argument, process),
      mmap: (process, mapping: FileMapping) => this.mmapRegions.map(process, mapping),
      poll: () => POLL.IN | POLL.OUT | POLL.RDNORM,
      release: () => this.#release(),
    };
  }

  /**
   * The last descriptor is closed: destroy what nobody uses until nothing is left.
   *
   * @linux drivers/iommu/iommufd/main.c iommufd_fops_release
   */
  #release(): void {
    for (const device of this.#boundHere) unbindDevice(device);
    this.#boundHere.clear();
    for (let progress = true; progress; ) {
      progress = false;
      for (const object of this.objects.all()) {
        if (object.users > 0 || this.objects.get(object.id) !== object) continue;
        this.destroyObject(object);
        progress = true;
      }
    }
  }
}

/**
 * Open an iommufd for a process.
 *
 * @param machine the computer whose devices will be bound
 */
export const openIommufd = (
  process: Process,
  machine: Machine,
  options?: IommufdOptions,
): IommufdContext => new IommufdContext(process, machine, options);
