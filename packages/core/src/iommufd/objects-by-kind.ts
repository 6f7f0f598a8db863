/**
 * Which class an object of each kind has.
 * @module
 */
import type { Access } from './access.ts';
import type { IommufdDevice } from './device.ts';
import type { FaultQueue } from './fault-queue.ts';
import type { HwQueue } from './hw-queue.ts';
import type { HwptNested, HwptPaging } from './hwpt.ts';
import type { Ioas } from './ioas.ts';
import type { IommufdObject } from './objects.ts';
import type { Vdevice } from './vdevice.ts';
import type { Veventq } from './veventq.ts';
import type { Viommu } from './viommu.ts';

/** Object classes by kind. */
export interface ObjectsByKind {
  readonly IOAS: Ioas;
  readonly HWPT_PAGING: HwptPaging;
  readonly HWPT_NESTED: HwptNested;
  readonly DEVICE: IommufdDevice;
  readonly ACCESS: Access;
  readonly FAULT: FaultQueue;
  readonly VIOMMU: Viommu;
  readonly VDEVICE: Vdevice;
  readonly VEVENTQ: Veventq;
  readonly HW_QUEUE: HwQueue;
  readonly SELFTEST: IommufdObject;
}
