import type { DeviceState } from './device-state.ts';
import type { TranslatingDomain } from './translating-domain.ts';
import type { UnitContext } from './unit-context.ts';

/** One domain at work for one device and PASID. */
export interface Attachment {
  readonly unit: UnitContext;
  readonly device: DeviceState;
  /** Key of the entry; RID_PASID = requests without PASID. */
  readonly pasid: number;
  readonly domain: TranslatingDomain;
  readonly did: number;
  /** The entry as it stands in memory: 16 words in scalable mode, 4 in legacy mode. */
  readonly words: Uint32Array;
}
