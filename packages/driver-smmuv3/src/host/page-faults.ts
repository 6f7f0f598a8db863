/**
 * Faults that somebody can repair: stalled transactions and page requests, on their way to core and
 * their answers on the way back.
 *
 * @spec SMMUv3 3.12.2 (stall), 4.6 (RESUME), 8 (page requests)
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_handle_event,
 *   arm_smmu_page_response)
 */
import { addressToPfn, decode } from '@iommukit/bits';
import { type PageFault, type PriOps, refuse, type UnitDevice } from '@iommukit/core';
import { PRI_RESPONSE } from '../spec/commands.ts';
import { EVENT_RECORD } from '../spec/events.ts';
import type { DeviceState } from './device-state.ts';
import type { UnitContext } from './unit-context.ts';

/** `IOMMU_PGFAULT_PERM_*`. */
export const PERM = { READ: 1, WRITE: 2, EXEC: 4, PRIV: 8 } as const;
/** Response codes of the contract. */
const CODE = { SUCCESS: 0, INVALID: 1 } as const;
const { CODE: EVENT_CODE, STALL } = EVENT_RECORD.fields;
/** F_TRANSLATION to F_PERMISSION: only these stall. */
const FIRST_STALLABLE = 0x10;
const LAST_STALLABLE = 0x13;

/** What waits for an answer under one number. */
const KIND = { STALL: 0, PAGE_REQUEST: 1 } as const;
type Kind = (typeof KIND)[keyof typeof KIND];

/** State of {@link PageFaults}, plain data. */
export interface PageFaultsState {
  readonly open: readonly {
    readonly sid: number;
    readonly waiting: readonly { readonly key: string; readonly kinds: readonly number[] }[];
  }[];
}

/** Stalls and page request groups of one unit that core was told of, and has not answered. */
export class PageFaults implements PriOps {
  readonly #unit: UnitContext;
  /** What was reported, by device, PASID and number, oldest first: stalls and groups number alike. */
  readonly #open = new Map<DeviceState, Map<string, Kind[]>>();

  constructor(unit: UnitContext) {
    this.#unit = unit;
  }

  /** @throws {IommuError} ENODEV for a device that neither stalls nor sends page requests */
  enable(device: UnitDevice): void {
    const state = this.#unit.devices.get(device.rid);
    if (!state?.stall && !state?.pri) {
      throw refuse('ENODEV', 'page-requests', 'fault-support', `${device.name} cannot wait`, {
        accepted: 'a device with ATS and PRI under a unit with both, or one that may stall',
      });
    }
  }

  /** Core takes no more of them then; each is answered. */
  disable(): void {}

  respond(device: UnitDevice, pasid: number, grpid: number, code: number): void {
    const state = this.#unit.devices.get(device.rid);
    if (!state) return;
    const open = this.#open.get(state);
    const kinds = open?.get(keyOf(pasid, grpid));
    const kind = kinds?.shift();
    if (kinds?.length === 0) open?.delete(keyOf(pasid, grpid));
    if (kind === KIND.STALL || (kind === undefined && !state.pri))
      this.#resume(state.sid, grpid, code === CODE.SUCCESS);
    else this.answerGroup(state.sid, pasid, grpid, responseOf(code));
  }

  /**
   * Take an event of a stalled transaction; what nobody waits for is terminated.
   *
   * @param words eight u32 words
   * @returns whether it was taken
   */
  takeStall(words: Uint32Array): boolean {
    const fields = decode(EVENT_RECORD, words);
    const state = this.#unit.devices.get(fields.SID);
    const fault = stallOf(fields);
    if (state && this.report(state, [fault], KIND.STALL)) return true;
    this.#resume(fields.SID, fields.STAG, false);
    return false;
  }

  /**
   * Hand a whole group to core.
   *
   * @param faults at least one, the last of them is the group's last
   * @returns whether somebody will answer it
   */
  report(
    state: DeviceState,
    faults: readonly PageFault[],
    kind: Kind = KIND.PAGE_REQUEST,
  ): boolean {
    const [{ pasid, grpid }] = faults as [PageFault];
    const open = this.#open.get(state) ?? new Map<string, Kind[]>();
    this.#open.set(state, open);
    const key = keyOf(pasid, grpid);
    // Before core is told: it may answer at once.
    const kinds = [...(open.get(key) ?? []), kind];
    open.set(key, kinds);
    let taken = false;
    for (const fault of faults) taken = this.#unit.host.reportPageFault(state.device, fault);
    if (!taken) kinds.splice(kinds.lastIndexOf(kind), 1);
    if (kinds.length === 0 && open.get(key) === kinds) open.delete(key);
    return taken;
  }

  /** Answer a page request group with one of PRI_RESP's codes. */
  answerGroup(sid: number, pasid: number, prgIndex: number, response: number): void {
    this.#unit.invalidate.pageResponse(sid, pasid, prgIndex, response);
    this.#unit.invalidate.submit();
  }

  /** What awaits an answer, by StreamID, for a snapshot. */
  save(): PageFaultsState {
    return {
      open: [...this.#open].map(([{ sid }, byKey]) => ({
        sid,
        waiting: [...byKey].map(([key, kinds]) => ({ key, kinds: [...kinds] })),
      })),
    };
  }

  /** Put a state in place; its devices are there. */
  load({ open }: PageFaultsState): void {
    this.#open.clear();
    for (const { sid, waiting } of open) {
      const state = this.#unit.devices.get(sid);
      const kindsOf = ({ key, kinds }: (typeof waiting)[number]) =>
        [key, kinds.map((kind) => (kind === KIND.STALL ? KIND.STALL : KIND.PAGE_REQUEST))] as const;
      if (state) this.#open.set(state, new Map(waiting.map(kindsOf)));
    }
  }

  /** The device leaves. */
  forget(state: DeviceState): void {
    this.#open.delete(state);
  }

  #resume(sid: number, stag: number, retry: boolean): void {
    this.#unit.invalidate.resume(sid, stag, retry);
    this.#unit.invalidate.submit();
  }
}

/** Whether an event tells of a transaction that waits. */
export const isStall = (words: ArrayLike<number>): boolean => {
  const code = (words[EVENT_CODE.word] as number) & EVENT_CODE.mask;
  if (code < FIRST_STALLABLE || code > LAST_STALLABLE) return false;
  return ((words[STALL.word] as number) & STALL.mask) !== 0;
};

const decodeEvent = (words: Uint32Array) => decode(EVENT_RECORD, words);

const stallOf = (event: ReturnType<typeof decodeEvent>): PageFault => ({
  pasid: event.SSV === 1 ? event.SSID : -1,
  grpid: event.STAG,
  perm:
    (event.RNW === 1 ? PERM.READ : PERM.WRITE) |
    (event.IND === 1 ? PERM.EXEC : 0) |
    (event.PNU === 1 ? PERM.PRIV : 0),
  addressPfn: addressToPfn(event.INPUT_ADDR),
  address: BigInt(event.INPUT_ADDR),
  last: true,
});

const keyOf = (pasid: number, grpid: number): string => `${pasid} ${grpid}`;

const responseOf = (code: number): number => {
  if (code === CODE.SUCCESS) return PRI_RESPONSE.SUCCESS;
  return code === CODE.INVALID ? PRI_RESPONSE.INVALID_REQUEST : PRI_RESPONSE.FAILURE;
};
