import type { DeviceState } from './device-state.ts';
import type { TranslatingDomain } from './translating-domain.ts';
import type { UnitContext } from './unit-context.ts';

/** One domain at work for one device and PASID. */
export interface Attachment {
  readonly unit: UnitContext;
  readonly device: DeviceState;
  /** 20 bits, or -1 for requests without PASID. */
  readonly pasid: number;
  readonly domain: TranslatingDomain;
  /** Tag of its cached translations. */
  readonly domainId: number;
}
