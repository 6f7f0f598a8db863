import type { IdentityDomain, IommuUnit } from '@iommukit/core';
import type { DeviceState } from './device-state.ts';
import { BYPASS_ENTRY, type StreamTraits } from './stream-entries.ts';
import type { UnitContext } from './unit-context.ts';

/** Any domain that lets DMA through: what attaching needs of it. */
export abstract class TranslatingDomain {
  readonly unit: IommuUnit;
  /** The unit that made it. */
  readonly context: UnitContext;

  constructor(unit: IommuUnit, context: UnitContext) {
    this.unit = unit;
    this.context = context;
  }

  abstract readonly kind: 'identity' | 'paging' | 'nested';

  /** Reached through a descriptor in the device's own CD table, not by the stream table entry. */
  abstract readonly usesCdTable: boolean;

  /** @throws {IommuError} when the unit or the device cannot use this domain */
  abstract checkFits(unit: UnitContext, device: DeviceState): void;

  /** Whether a device that has ATS may use it here. */
  abstract wantsAts(device: DeviceState): boolean;

  /** Stream table entry, 16 words, for a domain that does not use the CD table. */
  abstract streamEntry(device: DeviceState, traits: StreamTraits): Uint32Array;

  /** From now on changes of the table are flushed for this device; `ssid` -1 = without. */
  abstract addTags(device: DeviceState, ssid: number): void;
  /** The reverse; a tag that nobody uses any more is flushed. */
  abstract removeTags(device: DeviceState, ssid: number): void;
}

/** IOVA = host physical address; one per unit. Bypass has no tag. */
export class SmmuIdentityDomain extends TranslatingDomain implements IdentityDomain {
  readonly kind = 'identity';
  readonly usesCdTable = false;

  free(): void {}
  checkFits(): void {}
  addTags(): void {}
  removeTags(): void {}

  wantsAts(): boolean {
    return false;
  }

  streamEntry(): Uint32Array {
    return BYPASS_ENTRY;
  }
}
