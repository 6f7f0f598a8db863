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
import { checkAllocation, type Process } from '../memory/index.ts';
import { answerOf, commandFrom } from '../uapi/codec.ts';
import {
  type FileMapping,
  type FileOperations,
  filesOf,
  installFile,
  OpenFile,
} from '../uapi/files.ts';
import type { StructSpec } from '../uapi/struct-table.ts';
import {
  IOMMU_STRUCTS,
  type IommuCommandName,
  type IommuInput,
  type IommuOutput,
} from '../uapi/structs.ts';
import { changePageTable, detachDevice } from './attach.ts';
import { Call } from './call.ts';
import { type CoherencyPolicy, isDmaCoherent, setCoherency } from './coherency.ts';
import { type BusDevice, bindDevice, type IommufdDevice, unbindDevice } from './device.ts';
import { type IommufdGroup, RID_PASID } from './group.ts';
import { HANDLERS, type Handler } from './handlers.ts';
import type { Ioas } from './ioas.ts';
import { MmapRegions } from './mmap-regions.ts';
import { type IommufdObject, type ObjectKind, ObjectTable } from './objects.ts';
import type { ObjectsByKind } from './objects-by-kind.ts';
import { type IoctlExtension, IoctlTable, rawIoctl } from './raw-ioctl.ts';
import { TypedCalls } from './typed-calls.ts';

const OPEN_OP = 'open /dev/iommu';

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
export class IommufdContext extends TypedCalls {
  readonly machine: Machine;
  /** Who opened it, and whom typed calls act for. */
  readonly process: Process;
  /** The descriptor `process` got. */
  readonly fd: number;
  /** The open file; queues of this context hold it too. */
  readonly file: OpenFile;
  readonly objects: ObjectTable;
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
  /** ioctls of this context beyond iommufd's own. */
  readonly extensions: readonly IoctlExtension[];
  readonly #table: IoctlTable;
  /** Devices bound by typed calls, which nobody else would unbind. */
  readonly #boundHere = new Set<IommufdDevice>();

  /** @param fd the descriptor that a snapshot brings; default a new one */
  constructor(process: Process, machine: Machine, options: IommufdOptions = {}, fd?: number) {
    super();
    checkAllocation(machine.memory, OPEN_OP, 'context');
    this.process = process;
    this.machine = machine;
    this.objects = new ObjectTable(machine.memory);
    this.accountPerProcess = options.asVfioContainer ?? false;
    this.noiommu = options.noiommu ?? false;
    this.pins = new PinContext(machine.memory);
    this.extensions = options.extensions ?? [];
    this.#table = new IoctlTable(this.extensions);
    this.file = new OpenFile(this.#operations());
    this.fd = fd ?? installFile(process, OPEN_OP, () => this.file);
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
    filesOf(process).lastRefusal = refusal;
    return result;
  }

  /**
   * A call in typed form, by its name; the other methods are shorthands for it.
   *
   * @param input fields by their camelCase names; those left out are 0
   * @returns the fields the kernel writes
   * @throws {IommuError} with Linux's errno and the reason
   * @throws {RangeError} when a field does not exist or its value has too many bits
   */
  override call<Name extends IommuCommandName>(
    name: Name,
    input: IommuInput<Name>,
    process: Process = this.process,
  ): IommuOutput<Name> {
    const spec: StructSpec = IOMMU_STRUCTS[name];
    const command = commandFrom(spec, input);
    (HANDLERS[name] as Handler<unknown>)(new Call(this, process, name), command);
    return answerOf(spec, command) as IommuOutput<Name>;
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

  /**
   * Say whether DMA through an IOAS is forced to snoop, before its first HWPT. Beyond Linux 7.3,
   * which does `auto`.
   *
   * @throws {IommuError} ENOENT; EINVAL for another word; EBUSY when it has HWPTs
   */
  ioasSetCoherency(ioasId: number, policy: CoherencyPolicy): void {
    const op = 'ioasSetCoherency';
    setCoherency(op, this.find(op, ioasId, 'IOAS'), policy);
  }

  /**
   * Whether all DMA of a bound device is coherent with the CPU's caches, as it is attached now:
   * it never uses No Snoop, or the HWPT of its RID overrules it.
   *
   * @throws {IommuError} ENOENT
   */
  deviceIsCoherent(devId: number): boolean {
    const device = this.find('deviceIsCoherent', devId, 'DEVICE');
    const endpoint = this.machine.endpoint(device.device.rid);
    return isDmaCoherent(device, endpoint?.noSnoop ?? false);
  }

  /** Close the descriptor: bound devices are unbound, then every object goes. */
  close(): void {
    filesOf(this.process).close(this.fd);
  }

  /** The object with an id and kind. ENOENT. */
  override find<Kind extends ObjectKind>(op: string, id: number, kind: Kind): ObjectsByKind[Kind] {
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

  /** Devices that the program bound itself, in order; for a snapshot. */
  get boundHere(): readonly IommufdDevice[] {
    return [...this.#boundHere];
  }

  /** Put the list of a snapshot back. */
  loadBound(devices: readonly IommufdDevice[]): void {
    for (const device of devices) this.#boundHere.add(device);
  }

  #operations(): FileOperations {
    return {
      name: 'iommufd',
      iommufd: this,
      ioctl: (process, request, argument) => this.ioctl(request, argument, process),
      mmap: (process, mapping: FileMapping) => this.mmapRegions.map(process, mapping),
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
