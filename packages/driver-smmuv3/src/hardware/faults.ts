/**
 * A fault on its way from the walk that met it to the record.
 */

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
  /** Whether the configuration lets this fault be recorded. */
  recorded: boolean;
}

/** An empty fault. */
export const createFault = (): Fault => ({
  code: 0,
  stage2: false,
  eventClass: 0,
  address: 0,
  tableRead: false,
  recorded: true,
});

/** Fill one in place. @returns always true, as walks return "faulted" */
export const setFault = (
  fault: Fault,
  code: number,
  stage2: boolean,
  eventClass: number,
  address: number,
  recorded: boolean,
): true => {
  fault.code = code;
  fault.stage2 = stage2;
  fault.eventClass = eventClass;
  fault.address = address;
  fault.tableRead = false;
  fault.recorded = recorded;
  return true;
};
