import { decode } from '@iommukit/bits';
import { type PageFault, type PriOps, refuse, type UnitDevice } from '@iommukit/core';
import { RESPONSE_CODE } from '../spec/invalidation-descriptors.ts';
import { PAGE_REQ_DSC } from '../spec/page-request.ts';
import { PEADDR, PECTL, PEDATA, PEUADDR, PQA, PQH, PQT, PRS } from '../spec/registers.ts';
import type { DeviceState } from './device-state.ts';
import type { UnitContext } from './unit-context.ts';

/** PQS 4: 16 pages. */
const QUEUE_SIZE_CODE = 4;
const QUEUE_PAGES = 2 ** QUEUE_SIZE_CODE;
const QUEUE_BYTES = QUEUE_PAGES * 4096;
const DESCRIPTOR_BYTES = 32;
const DESCRIPTOR_WORDS = 8;
/** Requests kept of one device while their groups are incomplete. */
const MAX_HELD_REQUESTS = 2048;

/** Response codes of the uAPI (`enum iommufd_hwpt_iopf_response_code` and the kernel's failure). */
const CODE = { SUCCESS: 0, INVALID: 1 } as const;
/** `IOMMU_PGFAULT_PERM_*`. */
const PERM = { READ: 1, WRITE: 2, EXEC: 4, PRIV: 8 } as const;

interface Group {
  /** Requests so far; the last one closes the group. */
  readonly faults: PageFault[];
  /** One of its requests was malformed: the whole group is answered as invalid. */
  bad: boolean;
}

/** Incomplete groups of one device in a snapshot. */
export interface OpenGroupsState {
  readonly rid: number;
  readonly groups: readonly {
    readonly key: string;
    readonly faults: readonly PageFault[];
    readonly bad: boolean;
  }[];
}

/** Incomplete groups of one device. */
interface OpenGroups {
  readonly byKey: Map<string, Group>;
  /** Requests in all of them. */
  held: number;
}

/**
 * The page request queue of one unit: takes requests out, puts groups together, hands them to
 * core, and answers.
 *
 * @spec VT-d 7.4 to 7.7
 * @linux drivers/iommu/intel/prq.c
 */
export class PageRequests implements PriOps {
  /** Overflows seen (PRS.PRO); the hardware answered the lost requests itself. */
  overflows = 0;
  readonly #unit: UnitContext;
  #queuePa: number;
  readonly #words = new Uint32Array(DESCRIPTOR_WORDS);
  readonly #canonicalBits: number;
  /** Incomplete groups by device. */
  readonly #open = new Map<DeviceState, OpenGroups>();

  constructor(unit: UnitContext) {
    this.#unit = unit;
    const wide = unit.caps.cap.FS5LP === 1 || unit.caps.guestAddressBits > 48;
    this.#canonicalBits = wide ? 57 : 48;
    this.#queuePa = unit.memory.alloc(QUEUE_PAGES, 'bring-up', 'the page request queue');
  }

  /** Program the queue and its message (bring-up step 6). */
  enableQueue(address: number, data: number): void {
    const { registers } = this.#unit;
    registers.write64(PQH.offset, 0, 0);
    registers.write64(PQT.offset, 0, 0);
    const base = this.#queuePa;
    registers.write64(
      PQA.offset,
      ((base >>> 0) | QUEUE_SIZE_CODE) >>> 0,
      Math.floor(base / 2 ** 32),
    );
    registers.write32(PEDATA.offset, data);
    registers.write32(PEADDR.offset, address);
    registers.write32(PEUADDR.offset, 0);
    registers.write32(PECTL.offset, 0);
  }

  enable(device: UnitDevice): void {
    const state = this.#unit.devices.get(device.rid);
    if (!state?.pri) {
      throw refuse(
        'ENODEV',
        'page-requests',
        'pri-support',
        `${device.name} cannot send page requests under ${this.#unit.name}`,
        { accepted: 'a device with ATS and PRI under a unit with ECAP.PRS' },
      );
    }
    state.pageRequestUsers++;
  }

  disable(device: UnitDevice): void {
    const state = this.#unit.devices.get(device.rid);
    if (state && state.pageRequestUsers > 0) state.pageRequestUsers--;
  }

  respond(device: UnitDevice, pasid: number, grpid: number, code: number): void {
    this.#answer(device.rid, pasid, grpid, responseCode(code));
  }

  /**
   * Take requests until the queue is empty. Status is cleared before the tail is read, so that a
   * request that arrives in between raises another message.
   */
  service(): void {
    const { registers } = this.#unit;
    registers.write32(PRS.offset, PRS.fields.PPR.mask);
    for (;;) {
      const head = registers.read32(PQH.offset) % QUEUE_BYTES;
      if (head === registers.read32(PQT.offset) % QUEUE_BYTES) break;
      this.#unit.memory.loadWords(this.#queuePa + head, this.#words);
      const request = decode(PAGE_REQ_DSC, this.#words);
      registers.write64(PQH.offset, (head + DESCRIPTOR_BYTES) % QUEUE_BYTES, 0);
      this.#take(request);
    }
    if (registers.read32(PRS.offset) & PRS.fields.PRO.mask) this.#recover();
  }

  /**
   * An entry was taken away and the requests made through it are all in the queue: take them out
   * and forget groups that can no longer be completed.
   *
   * @param pasid 20 bits, or -1
   * @spec VT-d 7.9 (software draining)
   */
  drained(device: DeviceState, pasid: number): void {
    this.service();
    const open = this.#open.get(device);
    if (!open) return;
    for (const [key, group] of open.byKey) {
      if (!key.startsWith(`${pasid} `)) continue;
      open.byKey.delete(key);
      open.held -= group.faults.length;
    }
  }

  /** The device leaves. */
  forget(device: DeviceState): void {
    this.#open.delete(device);
  }

  /** Where the queue is, physical byte address. */
  get queuePa(): number {
    return this.#queuePa;
  }

  /** Take over a queue that a snapshot brought. */
  adopt(queuePa: number): void {
    this.#queuePa = queuePa;
  }

  /** Incomplete groups, for a snapshot. */
  save(): OpenGroupsState[] {
    return [...this.#open].map(([{ rid }, open]) => ({
      rid,
      groups: [...open.byKey].map(([key, { faults, bad }]) => ({ key, faults, bad })),
    }));
  }

  load(state: readonly OpenGroupsState[]): void {
    this.#open.clear();
    for (const { rid, groups } of state) {
      const device = this.#unit.devices.get(rid);
      if (!device) continue;
      const open = this.#openGroups(device);
      for (const { key, faults, bad } of groups) {
        open.byKey.set(key, { faults: [...faults], bad });
        open.held += faults.length;
      }
    }
  }

  /** Requests were lost: what is incomplete stays so, and the queue runs again. */
  #recover(): void {
    this.overflows++;
    this.#open.clear();
    this.#unit.registers.write32(PRS.offset, PRS.fields.PRO.mask);
  }

  #take(request: ReturnType<typeof decodeRequest>): void {
    const pasid = request.PP === 1 ? request.PASID : -1;
    if (isStopMarker(request)) return;
    const state = this.#unit.devices.get(request.RID);
    if (!state || state.pageRequestUsers === 0) {
      if (request.LPIG) this.#answer(request.RID, pasid, request.PRGI, RESPONSE_CODE.INVALID);
      return;
    }
    const open = this.#openGroups(state);
    const group = groupOf(open, pasid, request.PRGI);
    if (open.held >= MAX_HELD_REQUESTS || isMalformed(request, this.#canonicalBits)) {
      group.bad = true;
    } else {
      group.faults.push(faultOf(request, pasid));
      open.held++;
    }
    if (request.LPIG) this.#close(state, open, pasid, request.PRGI);
  }

  #openGroups(state: DeviceState): OpenGroups {
    let open = this.#open.get(state);
    if (!open) {
      open = { byKey: new Map(), held: 0 };
      this.#open.set(state, open);
    }
    return open;
  }

  #close(state: DeviceState, open: OpenGroups, pasid: number, prgi: number): void {
    const group = groupOf(open, pasid, prgi);
    open.byKey.delete(groupKey(pasid, prgi));
    open.held -= group.faults.length;
    const taken = !group.bad && this.#report(state, group.faults);
    if (!taken) this.#answer(state.rid, pasid, prgi, RESPONSE_CODE.INVALID);
  }

  /** @returns whether somebody will answer the group */
  #report(state: DeviceState, faults: readonly PageFault[]): boolean {
    let taken = false;
    for (const fault of faults) taken = this.#unit.host.reportPageFault(state.device, fault);
    return taken;
  }

  #answer(rid: number, pasid: number, prgi: number, code: number): void {
    const { invalidate } = this.#unit;
    invalidate.pageGroupResponse(rid, pasid, prgi, code);
    invalidate.queue.submit();
  }
}

const groupKey = (pasid: number, prgi: number): string => `${pasid} ${prgi}`;

const groupOf = (open: OpenGroups, pasid: number, prgi: number): Group => {
  const key = groupKey(pasid, prgi);
  let group = open.byKey.get(key);
  if (!group) {
    group = { faults: [], bad: false };
    open.byKey.set(key, group);
  }
  return group;
};

const decodeRequest = (words: Uint32Array) => decode(PAGE_REQ_DSC, words);

type Request = ReturnType<typeof decodeRequest>;

const responseCode = (code: number): number => {
  if (code === CODE.SUCCESS) return RESPONSE_CODE.SUCCESS;
  return code === CODE.INVALID ? RESPONSE_CODE.INVALID : RESPONSE_CODE.FAILURE;
};

const faultOf = (request: Request, pasid: number): PageFault => ({
  pasid,
  grpid: request.PRGI,
  perm:
    (request.RDR ? PERM.READ : 0) |
    (request.WRR ? PERM.WRITE : 0) |
    (request.EXR ? PERM.EXEC : 0) |
    (request.PMR ? PERM.PRIV : 0),
  addressPfn: Number(request.ADDR) / 4096,
  last: request.LPIG === 1,
});

/** @linux drivers/iommu/intel/prq.c (prq_event_thread): what is answered without a report */
const isMalformed = (request: Request, canonicalBits: number): boolean => {
  if (!isCanonical(Number(request.ADDR) / 4096, canonicalBits)) return true;
  const wantsData = request.RDR === 1 || request.WRR === 1;
  if (request.PMR === 1 && wantsData) return true;
  return request.EXR === 1 && request.RDR === 1;
};

/** Bits 63 down to the highest one of the width are all equal. */
const isCanonical = (pfn: number, widthBits: number): boolean => {
  const high = Math.floor(pfn / 2 ** (widthBits - 1 - 12));
  return high === 0 || high === 2 ** (64 - widthBits + 1) - 1;
};

/** Tells that a PASID is no longer in use; nobody waits for an answer. */
const isStopMarker = (request: Request): boolean =>
  request.LPIG === 1 && request.RDR === 0 && request.WRR === 0;
