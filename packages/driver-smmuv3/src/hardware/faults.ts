/**
 * A fault on its way from the walk that met it to the record.
 */

/**
 * What the configuration wants done with a faulting request: a sum of these. Without STALL and
 * RAZ_WI it is aborted.
 *
 * @spec SMMUv3 5.5 (fault configuration: A, R, S)
 */
export const TERMS = {
  /** An event is recorded. */
  RECORD: 1,
  /** The request waits for software, and an event is recorded. */
  STALL: 2,
  /** Reads give zeros, writes are ignored; no error. */
  RAZ_WI: 4,
} as const;

/** Filled by whoever meets the fault; one object per unit. */
export interface Fault {
  /** One of EVENT. */
  code: number;
  /** Stage 2 faulted. */
  stage2: boolean;
  /** One of EVENT_CLASS. */
  eventClass: number;
  /** Byte address for dwords 6 and 7: page of the IPA, or the address that was fetched. */
  address: number;
  /** F_PERMISSION of class TT: the table access was a read. */
  tableRead: boolean;
  /** Sum of {@link TERMS}. */
  terms: number;
}

/** An empty fault. */
export const createFault = (): Fault => ({
  code: 0,
  stage2: false,
  eventClass: 0,
  address: 0,
  tableRead: false,
  terms: TERMS.RECORD,
});

/** Fill one in place. @returns always true, as walks return "faulted" */
export const setFault = (
  fault: Fault,
  code: number,
  stage2: boolean,
  eventClass: number,
  address: number,
  terms: number,
): true => {
  fault.code = code;
  fault.stage2 = stage2;
  fault.eventClass = eventClass;
  fault.address = address;
  fault.tableRead = false;
  fault.terms = terms;
  return true;
};
