/**
 * Virtual event queues: events of a vIOMMU for its guest.
 *
 * @linux drivers/iommu/iommufd/eventq.c, driver.c iommufd_viommu_report_event
 * @module
 */
import { failsAllocation, type Process } from '../memory/index.ts';
import { VEVENTQ_FLAG } from '../uapi/constants.ts';
import { type FileOperations, filesOf, POLL } from '../uapi/files.ts';
import type { UserPointer } from '../uapi/struct-table.ts';
import type { IommuCommand } from '../uapi/structs.ts';
import { copyToUser } from '../uapi/user-access.ts';
import type { Call } from './call.ts';
import type { IommufdContext } from './context.ts';
import { installQueueFile } from './fault-queue.ts';
import type { IommufdObject } from './objects.ts';
import type { Viommu } from './viommu.ts';

const ENOMEM = -12;
const EFAULT = -14;
const EINVAL = -22;
const HEADER_BYTES = 8;
const MAX_DEPTH = 1 << 19;
const LAST_SEQUENCE = 0x7fff_ffff;

/** One event as a program reads it. */
export interface Vevent {
  /** Sum of `VEVENTQ_FLAG` bits. */
  readonly flags: number;
  /** Counts every reported event, lost ones too. */
  readonly sequence: number;
  /** The driver's record; empty when events were lost. */
  readonly data: Uint8Array;
}

/** A virtual event queue and its file. */
export class Veventq implements IommufdObject, FileOperations {
  readonly kind = 'VEVENTQ';
  readonly name = 'vevent queue';
  readonly id: number;
  readonly type: number;
  readonly depth: number;
  users = 0;
  readonly #context: IommufdContext;
  readonly #viommu: Viommu;
  readonly #events: Vevent[] = [];
  #sequence = 0;

  constructor(context: IommufdContext, id: number, viommu: Viommu, type: number, depth: number) {
    this.#context = context;
    this.#viommu = viommu;
    this.id = id;
    this.type = type;
    this.depth = depth;
  }

  destroy(): void {
    this.#viommu.veventqs.delete(this.type);
    this.#viommu.users--;
  }

  /**
   * Queue an event; when the queue or memory is full, a single mark at its tail says that some were
   * lost.
   */
  report(data: Uint8Array): void {
    const tail = this.#events.at(-1);
    const marked = tail !== undefined && isLostMark(tail);
    const queued = this.#events.length - (marked ? 1 : 0);
    if (marked) this.#events.pop();
    const sequence = this.#sequence;
    this.#sequence = sequence === LAST_SEQUENCE ? 0 : sequence + 1;
    const room = queued < this.depth && !this.#fails('an event');
    if (room) this.#events.push({ flags: 0, sequence, data: data.slice() });
    else {
      this.#events.push({ flags: VEVENTQ_FLAG.LOST_EVENTS, sequence, data: new Uint8Array(0) });
    }
  }

  /** Take every event that waits. */
  readEvents(): Vevent[] {
    return this.#events.splice(0);
  }

  read(process: Process, buffer: UserPointer, length: number): number {
    if (length < HEADER_BYTES) return EINVAL;
    let done = 0;
    for (let event = this.#events[0]; event; event = this.#events[0]) {
      // The mark is part of the queue: Linux hands out a copy of it.
      if (isLostMark(event) && this.#fails('a copy of the mark')) return done > 0 ? done : ENOMEM;
      const bytes = encodeEvent(event);
      if (bytes.length > length - done) return done > 0 ? done : EINVAL;
      if (!copyToUser(process, buffer, done, bytes)) return done > 0 ? done : EFAULT;
      this.#events.shift();
      done += bytes.length;
    }
    return done;
  }

  /** The vIOMMU whose events it holds. */
  get viommu(): Viommu {
    return this.#viommu;
  }

  /** The context it belongs to. */
  get context(): IommufdContext {
    return this.#context;
  }

  /** Events not read yet and the next sequence number, for a snapshot. */
  save(): { readonly sequence: number; readonly events: readonly Vevent[] } {
    return { sequence: this.#sequence, events: this.#events };
  }

  /** Put events back. */
  load(sequence: number, events: readonly Vevent[]): void {
    this.#sequence = sequence;
    this.#events.push(...events);
  }

  #fails(site: string): boolean {
    return failsAllocation(this.#context.machine.memory, site);
  }

  poll(): number {
    return this.#events.length > 0 ? POLL.IN | POLL.RDNORM : 0;
  }

  release(): void {
    this.users--;
    this.#context.file.put();
  }
}

const isLostMark = ({ flags }: Vevent): boolean => (flags & VEVENTQ_FLAG.LOST_EVENTS) !== 0;

const encodeEvent = ({ flags, sequence, data }: Vevent): Uint8Array => {
  const bytes = new Uint8Array(HEADER_BYTES + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, flags, true);
  view.setUint32(4, sequence, true);
  bytes.set(data, HEADER_BYTES);
  return bytes;
};

/** `IOMMU_VEVENTQ_ALLOC`. */
export const veventqAlloc = (call: Call, command: IommuCommand<'IOMMU_VEVENTQ_ALLOC'>): void => {
  call.checkFlags(command.flags, 0);
  call.checkReserved(command.reserved);
  checkTypeAndDepth(call, command.type, command.veventqDepth);
  const { context, process } = call;
  const viommu = context.find(call.op, command.viommuId, 'VIOMMU');
  if (viommu.veventqs.has(command.type)) {
    throw call.refuse(
      'EEXIST',
      'veventq-type',
      `vIOMMU ${viommu.id} has a queue of this type already`,
      { value: command.type, owner: `VEVENTQ ${viommu.veventqs.get(command.type)?.id}` },
    );
  }
  const { queue, fd } = context.objects.reserveFor(call.op, (id) => {
    const made = new Veventq(context, id, viommu, command.type, command.veventqDepth);
    return { queue: made, fd: installQueueFile(call, made) };
  });
  viommu.users++;
  viommu.veventqs.set(command.type, queue);
  context.objects.install(queue);
  command.outVeventqId = queue.id;
  command.outVeventqFd = fd;
  call.undo = () => {
    filesOf(process).close(fd);
    context.destroyObject(queue);
  };
};

const checkTypeAndDepth = (call: Call, type: number, depth: number): void => {
  if (type === 0) {
    throw call.refuse('EOPNOTSUPP', 'veventq-type', 'type 0 (default) is no vevent queue type', {
      value: type,
      accepted: 'a type of the driver, 1 for Arm SMMUv3',
    });
  }
  if (depth === 0 || depth > MAX_DEPTH) {
    throw call.refuse('EINVAL', 'veventq-depth', `a queue of ${depth} events cannot be made`, {
      value: depth,
      accepted: `1 to ${MAX_DEPTH}`,
    });
  }
};
