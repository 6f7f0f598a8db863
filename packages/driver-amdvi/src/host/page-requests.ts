import { decode } from '@iommukit/bits';
import { type PageFault, type PriOps, refuse, type UnitDevice } from '@iommukit/core';
import { PPR_ENTRY, PPR_RESPONSE } from '../spec/ppr-log-entry.ts';
import { CONTROL, PPR_LOG_BASE, PPR_LOG_HEAD, PPR_LOG_TAIL, STATUS } from '../spec/registers.ts';
import type { DeviceState } from './device-state.ts';
import { LogRing } from './log-ring.ts';
import type { UnitContext } from './unit-context.ts';

/** Requests kept of one device while their groups are incomplete. */
const MAX_HELD_REQUESTS = 2048;
/** Response codes of the uAPI, and of the kernel for failure. */
const CODE = { SUCCESS: 0, INVALID: 1 } as const;
/** `IOMMU_PGFAULT_PERM_*`. */
const PERM = { READ: 1, WRITE: 2, EXEC: 4, PRIV: 8 } as const;

interface Group {
  /** Requests so far; the last one closes the group. */
  readonly faults: PageFault[];
  /** One of its requests was malformed: the whole group fails. */
  bad: boolean;
}

/** Incomplete groups of one device. */
interface OpenGroups {
  readonly byKey: Map<string, Group>;
  /** Requests in all of them. */
  held: number;
}

/**
 * The PPR log of one unit: takes requests out, puts groups together, hands them to core, and
 * answers.
 *
 * @spec AMD IOMMU 2.6
 * @linux drivers/iommu/amd/ppr.c
 */
export class PageRequests implements PriOps {
  readonly #unit: UnitContext;
  readonly #ring: LogRing;
  /** Requests without PASID fail, as in Linux 7.3. */
  readonly #pasidOnly: boolean;
  /** Incomplete groups by device. */
  readonly #open = new Map<DeviceState, OpenGroups>();

  /** @throws {IommuError} ENOMEM */
  constructor(unit: UnitContext, pasidOnly: boolean) {
    this.#unit = unit;
    this.#pasidOnly = pasidOnly;
    const at = {
      base: PPR_LOG_BASE.offset,
      head: PPR_LOG_HEAD.offset,
      tail: PPR_LOG_TAIL.offset,
      interrupt: STATUS.fields.PPR_INT.mask,
      overflow: STATUS.fields.PPR_OVERFLOW.mask,
      enable: CONTROL.fields.PPR_LOG_EN.mask,
      interruptEnable: CONTROL.fields.PPR_INT_EN.mask,
    };
    this.#ring = new LogRing(unit.registers, unit.memory, at, 'the PPR log');
  }

  /** Times the log was full and requests were lost. */
  get overflows(): number {
    return this.#ring.overflows;
  }

  /** Tell the unit where the log is, and switch it on. */
  program(): void {
    const { registers } = this.#unit;
    const { PPR_EN, PPR_LOG_EN, PPR_INT_EN } = CONTROL.fields;
    this.#ring.program();
    const control = registers.readReg32(CONTROL.offset);
    const on = control | PPR_EN.mask | PPR_LOG_EN.mask | PPR_INT_EN.mask;
    registers.writeReg32(CONTROL.offset, on >>> 0);
  }

  enable(device: UnitDevice): void {
    const state = this.#unit.devices.get(device.rid);
    if (!state?.pri) {
      throw refuse(
        'ENODEV',
        'page-requests',
        'pri-support',
        `${device.name} cannot send page requests under ${this.#unit.name}`,
        { accepted: 'a device with ATS and PRI under a unit with EFR.PPRSup and IotlbSup' },
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

  /** Take requests until the log is empty. After an overflow what is incomplete stays so. */
  service(): void {
    const before = this.#ring.overflows;
    this.#ring.service((words) => this.#take(words));
    if (this.#ring.overflows !== before) this.#open.clear();
  }

  /**
   * A domain was taken away, and the requests made through it are all in the log: take them out and
   * forget groups that can no longer be completed.
   *
   * @param pasid 20 bits, or -1
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

  #take(words: Uint32Array): void {
    const request = decodeRequest(words);
    if (isStopMarker(request)) return;
    const pasid = request.GN === 1 ? request.PASID_19_16 * 0x1_0000 + request.PASID_15_0 : -1;
    const state = this.#unit.devices.get(request.DEVICE_ID);
    if (!state || state.pageRequestUsers === 0) {
      const { INVALID_REQUEST } = PPR_RESPONSE;
      if (request.LAST) this.#answer(request.DEVICE_ID, pasid, request.PRGI, INVALID_REQUEST);
      return;
    }
    const open = this.#openGroups(state);
    const group = groupOf(open, pasid, request.PRGI);
    if (open.held >= MAX_HELD_REQUESTS || this.#isMalformed(request, pasid, state)) {
      group.bad = true;
    } else {
      group.faults.push(faultOf(request, pasid));
      open.held++;
    }
    if (request.LAST) this.#close(state, open, pasid, request.PRGI);
  }

  /** @linux drivers/iommu/amd/ppr.c (ppr_is_valid, iommu_call_iopf_notifier) */
  #isMalformed(request: Request, pasid: number, { pasidBits }: DeviceState): boolean {
    if (request.RVSD === 1) return true;
    return pasid < 0 ? this.#pasidOnly : pasid === 0 || pasid >= 2 ** pasidBits;
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
    if (group.bad) {
      this.#answer(state.rid, pasid, prgi, PPR_RESPONSE.FAILURE);
    } else if (!this.#report(state, group.faults)) {
      this.#answer(state.rid, pasid, prgi, PPR_RESPONSE.INVALID_REQUEST);
    }
  }

  /** @returns whether somebody will answer the group */
  #report(state: DeviceState, faults: readonly PageFault[]): boolean {
    let taken = false;
    for (const fault of faults) taken = this.#unit.host.reportPageFault(state.device, fault);
    return taken;
  }

  #answer(rid: number, pasid: number, prgi: number, code: number): void {
    const { invalidate } = this.#unit;
    invalidate.completePpr(rid, pasid, prgi, code);
    invalidate.submit();
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

const decodeRequest = (words: Uint32Array) => decode(PPR_ENTRY, words);

type Request = ReturnType<typeof decodeRequest>;

const responseCode = (code: number): number => {
  if (code === CODE.SUCCESS) return PPR_RESPONSE.SUCCESS;
  return code === CODE.INVALID ? PPR_RESPONSE.INVALID_REQUEST : PPR_RESPONSE.FAILURE;
};

/** Only requests with PASID know of privilege. */
const faultOf = (request: Request, pasid: number): PageFault => ({
  pasid,
  grpid: request.PRGI,
  perm:
    (request.READ ? PERM.READ : 0) |
    (request.WRITE ? PERM.WRITE : 0) |
    (request.EXEC ? PERM.EXEC : 0) |
    (pasid >= 0 && request.US === 0 ? PERM.PRIV : 0),
  addressPfn: Number(request.ADDR) / 4096,
  last: request.LAST === 1,
});

/** Tells that a PASID is no longer in use; nobody waits for an answer. */
const isStopMarker = (request: Request): boolean =>
  request.LAST === 1 && request.READ === 0 && request.WRITE === 0 && request.EXEC === 0;
