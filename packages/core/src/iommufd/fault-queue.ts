/**
 * Fault queues: page requests of devices on their way to a program, and its answers.
 *
 * @linux drivers/iommu/iommufd/eventq.c
 * @module
 */
import { pfnToAddress } from '@iommukit/bits';
import type { PageFault } from '../driver/faults.ts';
import { allocationRefusal, failsAllocation, type Process } from '../memory/index.ts';
import { PAGE_RESPONSE, PGFAULT_FLAG } from '../uapi/constants.ts';
import { type FileOperations, filesOf, installFile, OpenFile, POLL } from '../uapi/files.ts';
import type { UserPointer } from '../uapi/struct-table.ts';
import type { IommuCommand } from '../uapi/structs.ts';
import { copyFromUser, copyToUser } from '../uapi/user-access.ts';
import type { Call } from './call.ts';
import type { IommufdContext } from './context.ts';
import type { IommufdDevice } from './device.ts';
import type { AttachHandle } from './group.ts';
import type { IommufdObject } from './objects.ts';

const ENOMEM = -12;
const EFAULT = -14;
const EINVAL = -22;
const ESPIPE = -29;

/** `sizeof(struct iommu_hwpt_pgfault)`. */
export const PGFAULT_BYTES = 40;
/** `sizeof(struct iommu_hwpt_page_response)`. */
export const PAGE_RESPONSE_BYTES = 8;

/** All page requests of one group, from one device. */
export interface FaultGroup {
  readonly device: IommufdDevice;
  /** 20 bits, or -1 for none. */
  readonly pasid: number;
  readonly grpid: number;
  readonly faults: readonly PageFault[];
  /** The attachment they came through: when it goes, they are answered INVALID. */
  readonly handle: AttachHandle;
}

/** One page request as a program reads it (`struct iommu_hwpt_pgfault`). */
export interface PgfaultRecord {
  /** Sum of `PGFAULT_FLAG` bits. */
  readonly flags: number;
  readonly devId: number;
  readonly pasid: number;
  readonly grpid: number;
  /** Sum of `PGFAULT_PERM` bits. */
  readonly perm: number;
  /** Byte address. */
  readonly addr: bigint;
  /** What the answer must name; one per group. */
  readonly cookie: number;
}

/** A fault queue object and its file. */
export class FaultQueue implements IommufdObject, FileOperations {
  readonly kind = 'FAULT';
  readonly name = 'fault queue';
  readonly id: number;
  users = 0;
  readonly #context: IommufdContext;
  readonly #waiting: FaultGroup[] = [];
  /** Groups read and not answered, by cookie - 1. */
  readonly #delivered: (FaultGroup | undefined)[] = [];

  constructor(context: IommufdContext, id: number) {
    this.#context = context;
    this.id = id;
  }

  destroy(): void {
    this.answerAll(() => true);
  }

  /** Take a whole group. */
  deliver(group: FaultGroup): void {
    this.#waiting.push(group);
  }

  /** Answer INVALID everything that came through an attachment which goes away. */
  answerAll(matches: (group: FaultGroup) => boolean): void {
    for (let i = this.#waiting.length - 1; i >= 0; i--) {
      const group = this.#waiting[i] as FaultGroup;
      if (!matches(group)) continue;
      this.#waiting.splice(i, 1);
      respond(group, PAGE_RESPONSE.INVALID);
    }
    this.#delivered.forEach((group, index) => {
      if (!group || !matches(group)) return;
      this.#delivered[index] = undefined;
      respond(group, PAGE_RESPONSE.INVALID);
    });
  }

  /**
   * Read whole groups as records; nothing waiting = an empty list.
   *
   * @param limit most records to return; a first group that is larger waits
   * @throws {IommuError} ENOMEM, with nothing read
   */
  readFaults(limit = Number.POSITIVE_INFINITY): PgfaultRecord[] {
    const records: PgfaultRecord[] = [];
    for (let group = this.#waiting[0]; group; group = this.#waiting[0]) {
      if (records.length + group.faults.length > limit) break;
      const cookie = this.#takeCookie(group);
      if (cookie < 0 && records.length === 0) throw allocationRefusal('read faults', 'a cookie');
      if (cookie < 0) break;
      this.#waiting.shift();
      records.push(...recordsOf(group, cookie));
    }
    return records;
  }

  /**
   * Answer a group.
   *
   * @param cookie from its records
   * @param code `PAGE_RESPONSE`: 0 success, 1 invalid
   * @returns 0, or -22 (EINVAL) for an unknown cookie or code
   */
  respond(cookie: number, code: number): number {
    if (code !== PAGE_RESPONSE.SUCCESS && code !== PAGE_RESPONSE.INVALID) return EINVAL;
    const group = this.#delivered[cookie - 1];
    if (!group) return EINVAL;
    this.#delivered[cookie - 1] = undefined;
    respond(group, code);
    return 0;
  }

  read(process: Process, buffer: UserPointer, length: number): number {
    if (length % PGFAULT_BYTES !== 0) return ESPIPE;
    let done = 0;
    for (let group = this.#waiting[0]; group; group = this.#waiting[0]) {
      const bytes = group.faults.length * PGFAULT_BYTES;
      if (bytes > length - done) return done > 0 ? done : EINVAL;
      const cookie = this.#takeCookie(group);
      if (cookie < 0) return done > 0 ? done : cookie;
      this.#waiting.shift();
      if (copyRecords(process, buffer, done, recordsOf(group, cookie))) done += bytes;
      else {
        // Of a group that does not get out whole nothing counts.
        this.#delivered[cookie - 1] = undefined;
        this.#waiting.unshift(group);
        return done > 0 ? done : EFAULT;
      }
    }
    return done;
  }

  write(process: Process, buffer: UserPointer, length: number): number {
    if (length % PAGE_RESPONSE_BYTES !== 0) return ESPIPE;
    const bytes = new Uint8Array(PAGE_RESPONSE_BYTES);
    const view = new DataView(bytes.buffer);
    for (let done = 0; done < length; done += PAGE_RESPONSE_BYTES) {
      const rc = copyFromUser(process, buffer, done, bytes)
        ? this.respond(view.getUint32(0, true), view.getUint32(4, true))
        : EFAULT;
      if (rc < 0) return done > 0 ? done : rc;
    }
    return length;
  }

  poll(): number {
    return POLL.OUT | (this.#waiting.length > 0 ? POLL.IN | POLL.RDNORM : 0);
  }

  release(): void {
    this.users--;
    this.#context.file.put();
  }

  /** Groups that wait, and those delivered by cookie - 1; for a snapshot. */
  save(): { readonly waiting: FaultGroup[]; readonly delivered: (FaultGroup | undefined)[] } {
    return { waiting: [...this.#waiting], delivered: Array.from(this.#delivered) };
  }

  /** Put groups back. */
  load(waiting: readonly FaultGroup[], delivered: readonly (FaultGroup | undefined)[]): void {
    this.#waiting.push(...waiting);
    this.#delivered.push(...delivered);
  }

  /** The context it belongs to. */
  get context(): IommufdContext {
    return this.#context;
  }

  /** The lowest free cookie, from 1; or -12. */
  #takeCookie(group: FaultGroup): number {
    if (failsAllocation(this.#context.machine.memory, 'a cookie')) return ENOMEM;
    let index = 0;
    while (this.#delivered[index]) index++;
    this.#delivered[index] = group;
    return index + 1;
  }
}

const respond = (group: FaultGroup, code: number): void => {
  const { device, pasid, grpid } = group;
  device.unit.pri?.respond(device.device, pasid, grpid, code);
};

const recordsOf = (group: FaultGroup, cookie: number): PgfaultRecord[] =>
  group.faults.map((fault) => ({
    flags:
      (fault.pasid >= 0 ? PGFAULT_FLAG.PASID_VALID : 0) | (fault.last ? PGFAULT_FLAG.LAST_PAGE : 0),
    devId: group.device.id,
    pasid: Math.max(0, fault.pasid),
    grpid: fault.grpid,
    perm: fault.perm,
    addr: fault.address ?? pfnToAddress(fault.addressPfn),
    cookie,
  }));

/** Write records one behind the other; false when some memory cannot be written. */
const copyRecords = (
  process: Process,
  buffer: UserPointer,
  offset: number,
  records: readonly PgfaultRecord[],
): boolean => {
  const bytes = new Uint8Array(PGFAULT_BYTES);
  const view = new DataView(bytes.buffer);
  return records.every((record, index) => {
    view.setUint32(0, record.flags, true);
    view.setUint32(4, record.devId, true);
    view.setUint32(8, record.pasid, true);
    view.setUint32(12, record.grpid, true);
    view.setUint32(16, record.perm, true);
    view.setBigUint64(24, record.addr, true);
    view.setUint32(36, record.cookie, true);
    return copyToUser(process, buffer, offset + index * PGFAULT_BYTES, bytes);
  });
};

/** `IOMMU_FAULT_QUEUE_ALLOC`. */
export const faultQueueAlloc = (
  call: Call,
  command: IommuCommand<'IOMMU_FAULT_QUEUE_ALLOC'>,
): void => {
  call.checkFlags(command.flags, 0);
  const { context, process } = call;
  const { queue, fd } = context.objects.reserveFor(call.op, (id) => {
    const made = new FaultQueue(context, id);
    return { queue: made, fd: installQueueFile(call, made) };
  });
  context.objects.install(queue);
  command.outFaultId = queue.id;
  command.outFaultFd = fd;
  call.undo = () => {
    filesOf(process).close(fd);
    context.destroyObject(queue);
  };
};

/**
 * Put a queue behind a new descriptor, which keeps queue and context alive.
 *
 * @throws {IommuError} ENOMEM, with nothing changed
 */
export const installQueueFile = (call: Call, queue: FileOperations & { users: number }): number => {
  const fd = installFile(call.process, call.op, () => new OpenFile(queue));
  queue.users++;
  call.context.file.retain();
  return fd;
};
