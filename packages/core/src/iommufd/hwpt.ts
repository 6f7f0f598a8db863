/**
 * Hardware page tables: paging ones over an IOAS, nested ones over a paging parent.
 *
 * @linux drivers/iommu/iommufd/hw_pagetable.c
 * @module
 */
import type { UnitDevice } from '../driver/contract.ts';
import type { NestedDomain, PagingDomain } from '../driver/domains.ts';
import type { FaultQueue } from './fault-queue.ts';
import type { Ioas } from './ioas.ts';
import type { IommufdObject } from './objects.ts';
import type { RememberedBlob } from './user-data.ts';
import type { Viommu } from './viommu.ts';

/** A HWPT whose table core fills from an IOAS. */
export class HwptPaging implements IommufdObject {
  readonly kind = 'HWPT_PAGING';
  readonly id: number;
  users = 0;
  readonly ioas: Ioas;
  readonly domain: PagingDomain;
  readonly nestParent: boolean;
  readonly pasidCompat: boolean;
  /** Made for an attach to an IOAS; goes with its last device. */
  autoDomain = false;
  /** Whether DMA is forced to snoop. */
  enforceCacheCoherency = false;
  fault: FaultQueue | undefined;
  readonly origin: DriverRequest;

  constructor(id: number, ioas: Ioas, domain: PagingDomain, flags: HwptFlags) {
    this.id = id;
    this.ioas = ioas;
    this.domain = domain;
    this.nestParent = flags.nestParent;
    this.pasidCompat = flags.pasid;
    this.origin = flags.origin;
    ioas.users++;
  }

  destroy(): void {
    this.ioas.removeHwpt(this);
    this.domain.free();
    this.ioas.users--;
    if (this.fault) this.fault.users--;
  }
}

/** What of the allocation's flags a paging HWPT remembers. */
export interface HwptFlags {
  readonly nestParent: boolean;
  readonly pasid: boolean;
  readonly origin: DriverRequest;
}

/** What a driver was asked for: enough to ask for the same elsewhere. */
export interface DriverRequest {
  readonly device: UnitDevice;
  readonly flags: number;
  readonly userData: RememberedBlob | undefined;
}

/** A HWPT whose table a guest owns. */
export class HwptNested implements IommufdObject {
  readonly kind = 'HWPT_NESTED';
  readonly id: number;
  users = 0;
  readonly parent: HwptPaging;
  readonly viommu: Viommu | undefined;
  readonly domain: NestedDomain;
  readonly pasidCompat: boolean;
  fault: FaultQueue | undefined;
  readonly origin: DriverRequest;

  constructor(
    id: number,
    parent: HwptPaging,
    viommu: Viommu | undefined,
    domain: NestedDomain,
    pasidCompat: boolean,
    origin: DriverRequest,
  ) {
    this.id = id;
    this.parent = parent;
    this.viommu = viommu;
    this.domain = domain;
    this.pasidCompat = pasidCompat;
    this.origin = origin;
    this.#holder.users++;
  }

  destroy(): void {
    this.domain.free();
    this.#holder.users--;
    if (this.fault) this.fault.users--;
  }

  /** What this HWPT keeps alive: its vIOMMU, which keeps the parent, or the parent itself. */
  get #holder(): IommufdObject {
    return this.viommu ?? this.parent;
  }
}

/** Every kind of HWPT. */
export type Hwpt = HwptPaging | HwptNested;

/** The paging HWPT that a HWPT is, or hangs below. */
export const pagingOf = (hwpt: Hwpt): HwptPaging =>
  hwpt.kind === 'HWPT_PAGING' ? hwpt : hwpt.parent;

/** A device has left a HWPT; an automatic one without devices goes. */
export const putHwpt = (hwpt: Hwpt): void => {
  hwpt.users--;
  if (hwpt.kind === 'HWPT_PAGING' && hwpt.autoDomain && hwpt.users === 0) {
    hwpt.ioas.context.destroyObject(hwpt);
  }
};

/** Take back a HWPT that was never made visible. */
export const abortHwpt = (hwpt: Hwpt): void => {
  pagingOf(hwpt).ioas.context.objects.release(hwpt.id);
  hwpt.destroy();
};
