/** The host's side of a guest: iommufd calls, one for each thing that only the host can do. */
import {
  createMachine,
  createProcess,
  type Endpoint,
  HWPT_ALLOC,
  HWPT_DATA,
  IOAS_MAP,
  type IommufdContext,
  isIommuError,
  MAP_FLAG,
  openIommufd,
  type Process,
  sysIoctl,
  type Veventq,
  VIOMMU_TYPE,
} from '@iommukit/core';
import { smmuv3 } from '@iommukit/driver-smmuv3';

/** Where the guest's RAM begins in its own address space, as usual on Arm. */
export const RAM_BASE = 0x4000_0000;
const RAM_BYTES = 2 ** 24;
/** Where the VMM has the guest's RAM, and a page for structs. */
const RAM_VA = 0x10_0000_0000;
const STRUCT_VA = 0x20_0000_0000;

const HWPT_INVALIDATE = 0x3b8d;
const INVALIDATE_BYTES = 32;
const INVALIDATE_DATA_ARM_SMMUV3 = 1;
const VEVENTQ_TYPE_ARM_SMMUV3 = 1;
const COMMAND_BYTES = 16;
/** vSTE of a stream that aborts: V, Config 0. */
const ABORT_VSTE = Uint8Array.of(1, ...new Uint8Array(15));

/** A guest with one device, which it knows by another StreamID than the host. */
export class Host {
  readonly device: Endpoint;
  readonly events: Veventq;
  /** Calls that changed anything for the guest. */
  calls = 0;
  readonly #process: Process;
  readonly #iommufd: IommufdContext;
  readonly #devId: number;
  readonly #viommuId: number;
  #hwptId: number;

  /** @param vsid the guest's name for its device */
  constructor(vsid: number) {
    const machine = createMachine({ ramBytes: 2 ** 26 });
    this.device = machine.addEndpoint({ rid: '17:00.0', pasidBits: 16 });
    // Guests can make memory uncached in their tables: devices must be coherent all the same.
    machine.addUnit(smmuv3({ canWbs: true }));
    this.#process = createProcess(machine);
    const flags = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS | MAP_FLAG.FIXED;
    this.#process.mmap({ addr: RAM_VA, length: RAM_BYTES, flags });
    this.#process.mmap({ addr: STRUCT_VA, length: 4096, flags });
    this.#iommufd = openIommufd(this.#process, machine);
    this.#devId = this.#iommufd.bindDevice(this.device);
    const parentId = this.#stage2();
    const type = VIOMMU_TYPE.ARM_SMMUV3;
    const request = { devId: this.#devId, hwptId: parentId, type };
    this.#viommuId = this.#iommufd.viommuAlloc(request).outViommuId;
    const viommuId = this.#viommuId;
    this.#iommufd.vdeviceAlloc({ viommuId, devId: this.#devId, virtId: vsid });
    const queue = { viommuId, type: VEVENTQ_TYPE_ARM_SMMUV3, veventqDepth: 16 };
    this.events = this.#iommufd.veventqAlloc(queue).queue;
    this.#hwptId = this.#nested(ABORT_VSTE);
    this.#iommufd.deviceAttach(this.#devId, this.#hwptId);
    this.calls = 0;
  }

  /** Identification registers: IDR0 to IDR5. */
  get idr(): number[] {
    const { data } = this.#iommufd.getHwInfo({ devId: this.#devId });
    const view = new DataView(data.buffer, data.byteOffset);
    return Array.from({ length: 6 }, (_, at) => view.getUint32(8 + 4 * at, true));
  }

  /**
   * Put a stream table entry of the guest to work.
   *
   * @param vste its first 16 bytes
   * @returns false when it is not one that a guest can have; the device aborts then
   */
  install(vste: Uint8Array): boolean {
    const isGood = this.#replace(vste);
    if (!isGood) this.#replace(ABORT_VSTE);
    return isGood;
  }

  /**
   * Execute commands of the guest, by the raw call: it says how many were done also when it fails.
   *
   * @param commands 16 bytes each
   * @returns how many were done; fewer than there are = the next one is refused
   */
  invalidate(commands: readonly Uint8Array[]): number {
    this.calls++;
    const bytes = new Uint8Array(INVALIDATE_BYTES + COMMAND_BYTES * commands.length);
    const view = new DataView(bytes.buffer);
    const fields = [INVALIDATE_BYTES, this.#viommuId, 0, 0, INVALIDATE_DATA_ARM_SMMUV3];
    [...fields, COMMAND_BYTES, commands.length].forEach((value, at) => {
      view.setUint32(4 * at, value, true);
    });
    view.setBigUint64(8, BigInt(STRUCT_VA + INVALIDATE_BYTES), true);
    commands.forEach((command, at) => {
      bytes.set(command, INVALIDATE_BYTES + COMMAND_BYTES * at);
    });
    this.#process.write(STRUCT_VA, bytes);
    sysIoctl(this.#process, this.#iommufd.fd, HWPT_INVALIDATE, STRUCT_VA);
    const answer = new Uint8Array(INVALIDATE_BYTES);
    this.#process.read(STRUCT_VA, answer);
    return new DataView(answer.buffer).getUint32(24, true);
  }

  /** A dword of the guest's RAM; addresses outside read as 0, and writes there are lost. */
  readMemory(gpa: number): number {
    const bytes = this.#process.peek(this.#vaOf(gpa), 4) ?? new Uint8Array(4);
    return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  }

  writeMemory(gpa: number, value: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    this.#process.poke(this.#vaOf(gpa), bytes);
  }

  #vaOf(gpa: number): number {
    const isRam = gpa >= RAM_BASE && gpa < RAM_BASE + RAM_BYTES;
    return isRam ? RAM_VA + (gpa - RAM_BASE) : 0;
  }

  /** A stage 2 with the guest's RAM. */
  #stage2(): number {
    const { outIoasId: ioasId } = this.#iommufd.ioasAlloc();
    const request = { devId: this.#devId, ptId: ioasId, flags: HWPT_ALLOC.NEST_PARENT };
    const { outHwptId } = this.#iommufd.hwptAlloc(request);
    const flags = IOAS_MAP.FIXED_IOVA | IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;
    this.#iommufd.ioasMap({ ioasId, flags, userVa: RAM_VA, length: RAM_BYTES, iova: RAM_BASE });
    return outHwptId;
  }

  #nested(data: Uint8Array): number {
    const request = { devId: this.#devId, ptId: this.#viommuId };
    const vendor = { dataType: HWPT_DATA.ARM_SMMUV3, data };
    return this.#iommufd.hwptAlloc({ ...request, ...vendor }).outHwptId;
  }

  #replace(vste: Uint8Array): boolean {
    this.calls++;
    const old = this.#hwptId;
    try {
      this.#hwptId = this.#nested(vste);
    } catch (error) {
      if (isIommuError(error) && error.code === 'EIO') return false;
      throw error;
    }
    this.#iommufd.deviceReplace(this.#devId, this.#hwptId);
    this.#iommufd.destroy({ id: old });
    return true;
  }
}
