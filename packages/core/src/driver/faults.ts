/**
 * Page requests and faults on their way from a unit to core.
 * @module
 */
import type { UnitDevice } from './contract.ts';

/** Page requests (PRI) or stalled transactions of devices. */
export interface PriOps {
  /** Start or stop taking page requests of a device; throws ENODEV when it cannot. */
  enable(device: UnitDevice): void;
  disable(device: UnitDevice): void;
  /**
   * Answer a whole group.
   *
   * @param pasid 20 bits or -1
   * @param code 0 success, 1 invalid, 2 failure
   */
  respond(device: UnitDevice, pasid: number, grpid: number, code: number): void;
}

/** A page request as it reaches core. */
export interface PageFault {
  /** 20 bits, or -1 for none. */
  readonly pasid: number;
  readonly grpid: number;
  /** `IOMMU_PGFAULT_PERM_*`: read 1, write 2, exec 4, priv 8. */
  readonly perm: number;
  /** 4 KiB frame of the address. */
  readonly addressPfn: number;
  /** The whole byte address, from hardware that reports more than the frame. */
  readonly address?: bigint;
  readonly last: boolean;
}

/** An unrecoverable fault as the host half decoded it from the hardware's record. */
export interface UnrecoverableFault {
  readonly rid: number;
  /** 20 bits, or -1 for none. */
  readonly pasid: number;
  /** 4 KiB frame of the address. */
  readonly addressPfn: number;
  readonly write: boolean;
  /** The architecture's number for the reason. */
  readonly reason: number;
  /** The specification's name and meaning of the reason. */
  readonly name: string;
  /** The raw record, u32 words, and its decoded fields by the specification's names. */
  readonly words: readonly number[];
  readonly fields: Readonly<Record<string, number | bigint>>;
}
