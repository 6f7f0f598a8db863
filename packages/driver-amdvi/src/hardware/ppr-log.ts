/**
 * The PPR log: page requests for software, with early warning before it is full.
 *
 * @spec AMD IOMMU 2.6, 3.4.26 (overflow early)
 */
import type { PageRequest } from '@iommukit/core';
import { PPR_CODE, PPR_ENTRY } from '../spec/ppr-log-entry.ts';
import { PPR_OVERFLOW_EARLY, STATUS } from '../spec/registers.ts';
import { DualLog, type LogParts } from './dual-log.ts';

const F = STATUS.fields;

/** Status bits of the PPR log. */
export const PPR_LOG_BITS = {
  overflow: [F.PPR_OVERFLOW.mask, F.PPR_OVERFLOW_B.mask],
  written: F.PPR_INT.mask,
  run: F.PPR_LOG_RUN.mask,
  active: F.PPR_LOG_ACTIVE.mask,
} as const;

const EARLY = [F.PPR_OVERFLOW_EARLY.mask, F.PPR_OVERFLOW_EARLY_B.mask] as const;
const { THRESHOLD, INT_EN, EN } = PPR_OVERFLOW_EARLY.fields;
const E = PPR_ENTRY.fields;
const PAGE_BYTES_LG2 = 12;
const LOW_PFN_BITS = 2 ** 20;

/** Dwords 0 and 1 of the entry of a request. */
const entryLo = ({ rid, pasid }: PageRequest): number => rid | (Math.max(pasid, 0) << 16);
const entryHi = ({ pasid, prgi, last, read, write, exec, priv }: PageRequest): number => {
  const tagged = pasid >= 0;
  return (
    (PPR_CODE.PAGE_SERVICE_REQUEST << E.CODE.shift) |
    prgi |
    (last ? E.LAST.mask : 0) |
    ((Math.max(pasid, 0) >>> 16) << E.PASID_19_16.shift) |
    (exec ? E.EXEC.mask : 0) |
    (read ? E.READ.mask : 0) |
    (write ? E.WRITE.mask : 0) |
    (tagged && !priv ? E.US.mask : 0) |
    (tagged ? E.GN.mask : 0)
  );
};

/** Dwords of the early warning registers, of A and B; interrupts of their own. */
export interface EarlyWarning {
  readonly registers: readonly [a: Uint32Array, b: Uint32Array];
  interrupt(): void;
}

/** Writes page requests while Status.PprLogRun is set. */
export class PprLog extends DualLog {
  readonly #early: EarlyWarning;

  constructor(parts: LogParts, early: EarlyWarning) {
    super(parts);
    this.#early = early;
  }

  /** Write a request. @returns false when the log does not take it */
  push(request: PageRequest): boolean {
    const { addressPfn } = request;
    const lo = (addressPfn % LOW_PFN_BITS) << PAGE_BYTES_LG2;
    const hi = Math.floor(addressPfn / LOW_PFN_BITS);
    const taken = this.append(entryLo(request), entryHi(request), lo, hi);
    if (taken) this.#warn();
    return taken;
  }

  #warn(): void {
    const { active } = this;
    const word = this.#early.registers[active][0] as number;
    if ((word & EN.mask) === 0 || this.ring.free > (word & THRESHOLD.mask)) return;
    const { status } = this.parts;
    const bit = EARLY[active];
    const before = status[0] as number;
    status[0] = before | bit;
    if ((before & bit) === 0 && (word & INT_EN.mask) !== 0) this.#early.interrupt();
  }
}
