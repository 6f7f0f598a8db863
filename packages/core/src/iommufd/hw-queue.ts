/**
 * Hardware queues: a queue in guest memory that hardware reads by itself. Its pages are pinned and
 * its mapping is locked.
 *
 * @linux drivers/iommu/iommufd/viommu.c iommufd_hw_queue_alloc_ioctl
 * @module
 */
import type { HwQueueOps } from '../driver/viommu-backend.ts';
import { U64_MAX } from '../uapi/constants.ts';
import type { IommuCommand } from '../uapi/structs.ts';
import { Access } from './access.ts';
import type { Call } from './call.ts';
import type { IommufdObject } from './objects.ts';
import type { Viommu } from './viommu.ts';

const PAGE_BYTES = 4096;
/** Linux lists the pages in an array of pointers, which may have no more bytes than an `int` counts. */
const MAX_PAGES = Math.floor((2 ** 31 - 1) / 8);

/** Where a queue is: what the driver was told, and the pages pinned for it. */
export interface QueuePlace {
  readonly type: number;
  readonly index: number;
  /** As the caller gave them, bytes. */
  readonly iova: number | bigint;
  readonly lengthBytes: number;
  readonly baseHpa: number;
  /** The pinned pages, bytes. */
  readonly start: bigint;
  readonly pinnedBytes: bigint;
}

/** A hardware queue object. */
export class HwQueue implements IommufdObject {
  readonly kind = 'HW_QUEUE';
  readonly id: number;
  users = 0;
  readonly viommu: Viommu;
  readonly place: QueuePlace;
  readonly access: Access;
  readonly #queue: ReturnType<HwQueueOps['alloc']>;
  readonly #dependsOn: HwQueue | undefined;

  constructor(
    id: number,
    viommu: Viommu,
    place: QueuePlace,
    access: Access,
    queue: ReturnType<HwQueueOps['alloc']>,
  ) {
    this.id = id;
    this.viommu = viommu;
    this.place = place;
    this.access = access;
    this.#queue = queue;
    this.#dependsOn = [...viommu.hwQueues].find((other) => other.index === queue.dependsOnIndex);
    if (this.#dependsOn) this.#dependsOn.users++;
    viommu.hwQueues.add(this);
    viommu.users++;
  }

  get index(): number {
    return this.place.index;
  }

  destroy(): void {
    this.#queue.destroy();
    if (this.#dependsOn) this.#dependsOn.users--;
    this.access.unpinPages(this.place.start, this.place.pinnedBytes);
    this.access.close();
    this.viommu.hwQueues.delete(this);
    this.viommu.users--;
  }
}

/** `IOMMU_HW_QUEUE_ALLOC`. */
export const hwQueueAlloc = (call: Call, command: IommuCommand<'IOMMU_HW_QUEUE_ALLOC'>): void => {
  const { context } = call;
  checkCommand(call, command);
  const viommu = context.find(call.op, command.viommuId, 'VIOMMU');
  const ops = viommu.backend.hwQueue;
  if (!ops) throw unsupportedType(call, command.type);
  ops.checkType(command.type);
  const id = context.objects.reserve(call.op);
  let access: Access | undefined;
  let release: (() => void) | undefined;
  try {
    access = Access.createInternal(context, call.op);
    access.attach(call.op, viommu.hwpt.ioas);
    const { start, bytes } = pageRange(command);
    checkPages(call, command);
    call.checkAllocation('the list of pages');
    const frames = access.pinPages(call.op, start, bytes, false);
    const pinned = access;
    release = () => pinned.unpinPages(start, bytes);
    const place: QueuePlace = {
      type: command.type,
      index: command.index,
      iova: command.nestingParentIova,
      lengthBytes: Number(command.length),
      baseHpa: queueAddress(call, frames, command),
      start,
      pinnedBytes: bytes,
    };
    const made = new HwQueue(id, viommu, place, access, allocQueue(ops, place));
    context.objects.install(made);
    command.outHwQueueId = id;
    call.undo = () => context.destroyObject(made);
  } catch (error) {
    release?.();
    access?.close();
    context.objects.release(id);
    throw error;
  }
};

/** Whole pages that hold the queue. */
/** Let the driver take a queue into use. */
export const allocQueue = (ops: HwQueueOps, place: QueuePlace): ReturnType<HwQueueOps['alloc']> =>
  ops.alloc(place.type, place.index, place.iova, place.lengthBytes, place.baseHpa);

const pageRange = (command: IommuCommand<'IOMMU_HW_QUEUE_ALLOC'>) => {
  const iova = BigInt(command.nestingParentIova);
  const offset = iova % 4096n;
  const pages = (offset + BigInt(command.length) + 4095n) / 4096n;
  return { start: iova - offset, pages, bytes: pages * 4096n, offset };
};

/** Host physical address of the queue, which must be contiguous. */
const queueAddress = (
  call: Call,
  frames: readonly number[],
  command: IommuCommand<'IOMMU_HW_QUEUE_ALLOC'>,
): number => {
  const { start, pages, offset } = pageRange(command);
  const first = frames[0] as number;
  if (frames.every((frame, index) => frame === first + index)) {
    return first * PAGE_BYTES + Number(offset);
  }
  throw call.refuse('EFAULT', 'queue-contiguous', 'the queue is not physically contiguous', {
    range: { start, last: start + pages * 4096n - 1n },
    accepted: 'memory of one large page',
  });
};

const checkCommand = (call: Call, command: IommuCommand<'IOMMU_HW_QUEUE_ALLOC'>): void => {
  call.checkFlags(command.flags, 0);
  if (command.type === 0) throw unsupportedType(call, command.type);
  const iova = BigInt(command.nestingParentIova);
  const length = BigInt(command.length);
  if (length === 0n) {
    throw call.refuse('EINVAL', 'length', 'the queue has no bytes', {
      value: length,
      accepted: 'at least 1',
    });
  }
  if (iova + length - 1n > U64_MAX) {
    throw call.refuse('EOVERFLOW', 'iova-wrap', 'the queue passes the end of the address space', {
      range: { start: iova, last: iova + length - 1n },
      accepted: 'iova + length at most 2^64',
    });
  }
};

/** The list of the queue's pages: its length must fit 64 bits, and the list into memory. */
const checkPages = (call: Call, command: IommuCommand<'IOMMU_HW_QUEUE_ALLOC'>): void => {
  const { offset, pages } = pageRange(command);
  const length = BigInt(command.length);
  const accepted = `at most ${MAX_PAGES} pages`;
  if (offset + length + BigInt(PAGE_BYTES - 1) > U64_MAX) {
    throw call.refuse('ERANGE', 'queue-pages', 'the queue with whole pages is above 2^64 bytes', {
      value: length,
      accepted,
    });
  }
  if (pages > MAX_PAGES) {
    throw call.refuse('ENOMEM', 'queue-pages', 'the queue has too many pages', {
      value: length,
      accepted,
    });
  }
};

const unsupportedType = (call: Call, type: number) =>
  call.refuse('EOPNOTSUPP', 'hw-queue-type', `no hardware queue of type ${type} here`, {
    value: type,
    accepted: 'a queue type of the driver behind the vIOMMU',
  });
