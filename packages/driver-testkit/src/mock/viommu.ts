/**
 * The mock's vIOMMU: device caches to invalidate, events, hardware queues, a page to map.
 * @module
 */
import {
  allocationRefusal,
  FramePool,
  type HwQueueOps,
  type Machine,
  MemoryFile,
  type MmapRegion,
  type NestedDomain,
  PAGE_BYTES,
  type PagingDomain,
  refuse,
  type UnitDevice,
  type UserArray,
  type UserBlob,
  type VeventSink,
  type ViommuBackend,
} from '@iommukit/core';
import {
  MOCK_DEVICE_CACHE_ENTRIES,
  MOCK_HW_QUEUES,
  MOCK_INVALIDATE_ALL,
  MOCK_MMAP_BYTES,
  MOCK_TYPE,
} from './constants.ts';
import { checkEntry } from './nested-domain.ts';
import type { MockUnit } from './unit.ts';

const DATA_BYTES = 24;
const DATA_MIN_BYTES = 8;
const ENTRY_BYTES = 12;
/** KMALLOC_MAX_SIZE: Linux copies the whole array in first. */
const MAX_ALLOCATION_BYTES = 2 ** 22;

/** The driver's half of a mock vIOMMU. */
export class MockViommu implements ViommuBackend {
  readonly unit: MockUnit;
  readonly parent: PagingDomain;
  readonly events: VeventSink;
  readonly mmapRegion?: MmapRegion;
  readonly outData?: Uint8Array;
  readonly hwQueue: HwQueueOps;
  /** Virtual ids of devices, set by vDEVICEs. */
  readonly virtIds = new Map<UnitDevice, bigint>();
  readonly #queues = new Set<number>();

  /** @param savedData `outData` of a snapshot, in place of `userData` */
  constructor(
    unit: MockUnit,
    machine: Machine,
    parent: PagingDomain,
    userData: UserBlob | undefined,
    events: VeventSink,
    savedData?: Uint8Array,
  ) {
    this.unit = unit;
    this.parent = parent;
    this.events = events;
    this.hwQueue = this.#queueOps();
    if (savedData) {
      this.outData = savedData;
      this.mmapRegion = { lengthBytes: MOCK_MMAP_BYTES, file: emptyPages(machine) };
    }
    if (!userData) return;
    const data = userData.copyIn(MOCK_TYPE.VIOMMU, DATA_MIN_BYTES, DATA_BYTES);
    this.mmapRegion = loopbackPages(machine, data.subarray(0, 4));
    data.copyWithin(4, 0, 4);
    new DataView(data.buffer).setUint32(16, MOCK_MMAP_BYTES, true);
    this.outData = data;
  }

  setMmapOffset(offsetBytes: number): void {
    if (this.outData) new DataView(this.outData.buffer).setUint32(8, offsetBytes, true);
  }

  allocNested(device: UnitDevice, flags: number, userData: UserBlob): NestedDomain {
    return this.unit.makeNested(device, this.parent, this, flags, userData);
  }

  vdeviceInit(device: UnitDevice, virtId: bigint): void {
    this.virtIds.set(device, virtId);
  }

  vdeviceDestroy(device: UnitDevice): void {
    this.virtIds.delete(device);
  }

  invalidate(array: UserArray): void {
    if (array.entryCount === 0 && array.type === MOCK_TYPE.VIOMMU_INVALIDATE) return;
    if (array.entryCount * ENTRY_BYTES > MAX_ALLOCATION_BYTES) {
      // As in Linux, the count is left as it is then.
      array.done = array.entryCount;
      throw refuse('ENOMEM', 'IOMMU_HWPT_INVALIDATE', 'array-size', 'no memory for the array', {
        value: array.entryCount,
        accepted: `at most ${Math.floor(MAX_ALLOCATION_BYTES / ENTRY_BYTES)} entries`,
      });
    }
    const bytes = array.copyAll(MOCK_TYPE.VIOMMU_INVALIDATE, ENTRY_BYTES);
    const view = new DataView(bytes.buffer);
    for (let at = 0; at < bytes.length; at += ENTRY_BYTES) {
      this.#drop(
        view.getUint32(at, true),
        view.getUint32(at + 4, true),
        view.getUint32(at + 8, true),
      );
      array.done++;
    }
  }

  destroy(): void {
    this.mmapRegion?.file.release();
  }

  #drop(flags: number, virtId: number, slot: number): void {
    const op = 'IOMMU_HWPT_INVALIDATE';
    checkEntry(op, flags, slot, MOCK_DEVICE_CACHE_ENTRIES);
    for (const [device, id] of this.virtIds) {
      if (id !== BigInt(virtId)) continue;
      const { cache } = this.unit.stateOf(device);
      if (flags & MOCK_INVALIDATE_ALL) cache.fill(0);
      else cache[slot] = 0;
      return;
    }
    throw refuse('EINVAL', op, 'virt-id', `no vDEVICE has the virtual id ${virtId}`, {
      value: virtId,
      accepted: [...this.virtIds.values()].join(', ') || 'none exists',
    });
  }

  #queueOps(): HwQueueOps {
    const op = 'IOMMU_HW_QUEUE_ALLOC';
    return {
      checkType: (type) => {
        if (type === MOCK_TYPE.HW_QUEUE) return;
        throw refuse('EOPNOTSUPP', op, 'hw-queue-type', 'the mock has one queue type', {
          value: type,
          accepted: `0x${MOCK_TYPE.HW_QUEUE.toString(16)}`,
        });
      },
      alloc: (_type, index) => {
        this.#checkIndex(op, index);
        this.#queues.add(index);
        const destroy = () => {
          this.#queues.delete(index);
        };
        return index === 0 ? { destroy } : { dependsOnIndex: index - 1, destroy };
      },
    };
  }

  #checkIndex(op: string, index: number): void {
    if (index >= MOCK_HW_QUEUES) {
      throw refuse('EINVAL', op, 'hw-queue-index', `there is no queue ${index}`, {
        value: index,
        accepted: `0 to ${MOCK_HW_QUEUES - 1}`,
      });
    }
    if (this.#queues.has(index)) {
      throw refuse('EEXIST', op, 'hw-queue-index', `queue ${index} is in use`, { value: index });
    }
    if (index > 0 && !this.#queues.has(index - 1)) {
      throw refuse('EIO', op, 'hw-queue-order', `queue ${index - 1} is not in use`, {
        value: index,
        accepted: 'queues in ascending order',
      });
    }
  }
}

/** The pages without frames: a snapshot brings them. */
const emptyPages = ({ memory }: Machine): MemoryFile =>
  new MemoryFile(new FramePool(memory), { size: MOCK_MMAP_BYTES });

/** Pages whose first word is what the caller gave. @throws {IommuError} ENOMEM */
const loopbackPages = (machine: Machine, word: Uint8Array): MmapRegion => {
  const file = new MemoryFile(new FramePool(machine.memory), { size: MOCK_MMAP_BYTES });
  for (let page = 0; page < MOCK_MMAP_BYTES / PAGE_BYTES; page++) {
    if (file.frame(page) >= 0) continue;
    file.release();
    throw allocationRefusal('IOMMU_VIOMMU_ALLOC', 'the pages to map');
  }
  machine.memory.copyIn(file.frame(0) * PAGE_BYTES, word);
  return { lengthBytes: MOCK_MMAP_BYTES, file };
};
