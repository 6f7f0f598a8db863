/**
 * A guest's SMMUv3 with command queues that it drives itself (TEGRA241_CMDQV).
 *
 * @linux drivers/iommu/arm/arm-smmu-v3/tegra241-cmdqv.c (tegra241_cmdqv_init_vintf_user)
 */
import {
  allocationRefusal,
  FramePool,
  FrameRuns,
  type HwQueueOps,
  type IommuUnit,
  MemoryFile,
  type MmapRegion,
  refuse,
  type UnitDevice,
  type UserBlob,
  type VeventSink,
} from '@iommukit/core';
import { CMDQV } from '../spec/cmdqv.ts';
import { COMMAND_BYTES } from '../spec/commands.ts';
import type { CmdqvHost, VintfOwner } from './cmdqv.ts';
import type { GuestTag } from './guest-tag.ts';
import type { GuestOptions } from './nesting.ts';
import { SmmuViommu } from './viommu.ts';

/** `IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV`, and the same number for its events. */
export const VIOMMU_TYPE_TEGRA241_CMDQV = 2;
/** `IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV`. */
const HW_QUEUE_TYPE_TEGRA241_CMDQV = 1;

/** `struct iommu_viommu_tegra241_cmdqv`. */
const DATA = { BYTES: 16, MMAP_OFFSET: 0, MMAP_LENGTH: 8 } as const;
const PAGE_BYTES = 4096;
const PAGES = CMDQV.PAGE_BYTES / PAGE_BYTES;
const VSIDS = 2n ** 20n;
const MIN_QUEUE_BYTES = 32;
const VIOMMU_OP = 'IOMMU_VIOMMU_ALLOC';
const QUEUE_OP = 'IOMMU_HW_QUEUE_ALLOC';

/** The registers of a guest's queues, as pages that its VMM maps. */
class QueuePages extends MemoryFile {
  /** Told where the pages are, when a snapshot has put others in place. */
  onMove: (address: number) => void = () => {};

  /** Physical byte address; 0 = there are no pages. */
  get address(): number {
    const frame = this.cachedFrame(0);
    return frame < 0 ? 0 : frame * PAGE_BYTES;
  }

  override load(state: Parameters<MemoryFile['load']>[0]): void {
    super.load(state);
    this.onMove(this.address);
  }
}

/** The driver's half of a vIOMMU of type TEGRA241_CMDQV. */
export class CmdqvViommu extends SmmuViommu implements VintfOwner {
  readonly mmapRegion: MmapRegion;
  readonly outData = new Uint8Array(DATA.BYTES);
  readonly hwQueue: HwQueueOps;
  readonly #cmdqv: CmdqvHost;
  readonly #events: VeventSink;
  readonly #pages: QueuePages;
  readonly #vintf: number;
  /** Where the interface translates a device's StreamID. */
  readonly #slots = new Map<number, number>();
  readonly #queues = new Set<number>();
  readonly #maxQueueBytes: number;
  /** Its page came from a snapshot: queues go on where they were. */
  #isRestored = false;

  /** @throws {IommuError} EINVAL without vendor data; ENOSPC without an interface; ENOMEM */
  constructor(
    unit: IommuUnit,
    tag: GuestTag,
    options: GuestOptions,
    cmdqv: CmdqvHost,
    events: VeventSink,
    userData: UserBlob | undefined,
  ) {
    super(unit, tag, options, events);
    checkData(userData);
    this.#cmdqv = cmdqv;
    this.#events = events;
    this.#maxQueueBytes = COMMAND_BYTES * 2 ** options.features.commandQueueLg2;
    this.#pages = queuePages(tag);
    try {
      this.#vintf = cmdqv.takeVintf(this, tag.vmid, this.#pages.address);
    } catch (error) {
      this.#pages.release();
      throw error;
    }
    this.#pages.onMove = (address) => {
      cmdqv.moveVintf(this.#vintf, address);
      this.#isRestored = true;
    };
    this.mmapRegion = { lengthBytes: CMDQV.PAGE_BYTES, file: this.#pages };
    this.setMmapOffset(0);
    this.hwQueue = {
      checkType: checkQueueType,
      alloc: (_type, index, _iova, lengthBytes, baseHpa) =>
        this.#allocQueue(index, lengthBytes, baseHpa),
    };
  }

  setMmapOffset(offsetBytes: number): void {
    const view = new DataView(this.outData.buffer);
    view.setBigUint64(DATA.MMAP_OFFSET, BigInt(offsetBytes), true);
    view.setBigUint64(DATA.MMAP_LENGTH, BigInt(CMDQV.PAGE_BYTES), true);
  }

  /** @throws {IommuError} EINVAL for a name that an interface cannot match; ENOSPC */
  override vdeviceInit(device: UnitDevice, virtId: bigint): void {
    if (virtId >= VSIDS) {
      throw refuse('EINVAL', 'IOMMU_VDEVICE_ALLOC', 'virt-id', 'the StreamID is too wide', {
        value: virtId,
        accepted: '20 bits',
      });
    }
    this.#slots.set(device.rid, this.#cmdqv.mapSid(this.#vintf, Number(virtId), device.rid));
    super.vdeviceInit(device, virtId);
  }

  override vdeviceDestroy(device: UnitDevice, virtId: bigint): void {
    super.vdeviceDestroy(device, virtId);
    this.#cmdqv.unmapSid(this.#vintf, this.#slots.get(device.rid) as number);
    this.#slots.delete(device.rid);
  }

  reportErrors(map: Uint8Array): void {
    this.#events.report(VIOMMU_TYPE_TEGRA241_CMDQV, map);
  }

  override destroy(): void {
    this.#cmdqv.releaseVintf(this.#vintf);
    this.#pages.release();
    super.destroy();
  }

  #allocQueue(index: number, lengthBytes: number, base: number): ReturnType<HwQueueOps['alloc']> {
    this.#checkQueue(index, lengthBytes, base);
    const lg2 = Math.log2(lengthBytes / COMMAND_BYTES);
    this.#cmdqv.mapQueue(this.#vintf, index, base, lg2, !this.#isRestored);
    this.#queues.add(index);
    const destroy = () => {
      this.#cmdqv.unmapQueue(this.#vintf, index);
      this.#queues.delete(index);
    };
    return index === 0 ? { destroy } : { dependsOnIndex: index - 1, destroy };
  }

  #checkQueue(index: number, lengthBytes: number, base: number): void {
    const most = this.#cmdqv.queuesPerVintf;
    if (index >= most) {
      throw bad(
        'EINVAL',
        'hw-queue-index',
        `there is no queue ${index}`,
        index,
        `0 to ${most - 1}`,
      );
    }
    if (this.#queues.has(index)) {
      throw bad('EEXIST', 'hw-queue-index', `queue ${index} is in use`, index, 'another');
    }
    if (index > 0 && !this.#queues.has(index - 1)) {
      const accepted = 'queues in ascending order';
      throw bad('EIO', 'hw-queue-order', `queue ${index - 1} is not in use`, index, accepted);
    }
    const isPower = Number.isInteger(Math.log2(lengthBytes));
    if (!isPower || lengthBytes < MIN_QUEUE_BYTES || lengthBytes > this.#maxQueueBytes) {
      const accepted = `a power of two, ${MIN_QUEUE_BYTES} to ${this.#maxQueueBytes} bytes`;
      throw bad('EINVAL', 'hw-queue-length', 'no such queues', lengthBytes, accepted);
    }
    if (base % lengthBytes !== 0) {
      throw bad('EINVAL', 'hw-queue-base', 'the queue is not aligned', base, 'aligned to its size');
    }
  }
}

const checkData = (userData: UserBlob | undefined): void => {
  if (userData) {
    userData.copyIn(VIOMMU_TYPE_TEGRA241_CMDQV, DATA.BYTES, DATA.BYTES);
    return;
  }
  throw refuse('EINVAL', VIOMMU_OP, 'viommu-data', 'a vIOMMU of this type needs vendor data', {
    accepted: `${DATA.BYTES} bytes for struct iommu_viommu_tegra241_cmdqv`,
  });
};

const checkQueueType = (type: number): void => {
  if (type === HW_QUEUE_TYPE_TEGRA241_CMDQV) return;
  throw bad('EOPNOTSUPP', 'hw-queue-type', 'no such hardware queue', type, '1 (TEGRA241_CMDQV)');
};

const bad = (
  code: 'EINVAL' | 'EEXIST' | 'EIO' | 'EOPNOTSUPP',
  rule: string,
  message: string,
  value: number,
  accepted: string,
) => refuse(code, QUEUE_OP, rule, message, { value, accepted });

/** Zeroed neighbouring pages, as hardware looks at one stretch. @throws {IommuError} ENOMEM */
const queuePages = ({ unit }: GuestTag): QueuePages => {
  const pool = new FramePool(unit.host.machine.memory);
  const file = new QueuePages(pool, { size: CMDQV.PAGE_BYTES });
  const runs = new FrameRuns();
  if (file.collect(0, PAGES, runs) === 0 && runs.count === 1) return file;
  file.release();
  throw allocationRefusal(VIOMMU_OP, 'the registers of the queues');
};
