import { type IommuUnit, refuse } from '@iommukit/core';
import type { Attachment } from './attachment.ts';
import type { DeviceState } from './device-state.ts';
import { IDENTITY_DID } from './did-allocator.ts';
import { identityContextEntry } from './legacy-entries.ts';
import { identityEntry } from './pasid-entry.ts';
import type { UnitContext } from './unit-context.ts';

interface DidUse {
  readonly did: number;
  users: number;
}

/** Any domain that lets DMA through: what attaching needs of it. */
export abstract class TranslatingDomain {
  /** The unit that made it. */
  readonly context: UnitContext;
  readonly unit: IommuUnit;
  /** Its number among the unit's domains. */
  readonly id: number;
  /** Devices and PASIDs that it translates for. */
  readonly attachments = new Set<Attachment>();
  readonly #dids = new Map<UnitContext, DidUse>();

  constructor(unit: IommuUnit, context: UnitContext) {
    this.unit = unit;
    this.context = context;
    this.id = context.domains.add(this);
  }

  /** Cached translations are tagged as second stage: only domain-wide commands reach all. */
  abstract readonly usesSecondStage: boolean;

  /**
   * @param pasid key of the attachment
   * @throws {IommuError} EINVAL when the unit cannot walk this domain's tables
   */
  abstract checkFits(unit: UnitContext, device: DeviceState, pasid: number): void;

  /** PASID entry (16 words). */
  abstract pasidEntry(unit: UnitContext, did: number): Uint32Array;

  /** Legacy context entry (4 words). */
  abstract contextEntry(unit: UnitContext, device: DeviceState, did: number): Uint32Array;

  /** From now on changes of the table are flushed for this DID and PASID. */
  abstract addTags(unit: UnitContext, did: number, pasid: number): void;
  abstract removeTags(unit: UnitContext, did: number, pasid: number): void;

  /** From now on changes of the table are flushed in the device too; `pasid` -1 = without. */
  abstract addDeviceTags(unit: UnitContext, rid: number, pasid: number): void;
  abstract removeDeviceTags(unit: UnitContext, rid: number, pasid: number): void;

  /**
   * The domain's DID on a unit, taken at its first attachment there.
   *
   * @throws {IommuError} ENOSPC
   * @spec VT-d 6.2.1: equal DIDs must mean equal tables
   */
  takeDid(unit: UnitContext): number {
    const use = this.#dids.get(unit);
    if (use) {
      use.users++;
      return use.did;
    }
    const did = unit.dids.take('attach');
    this.#dids.set(unit, { did, users: 1 });
    return did;
  }

  /** Count one more use of a DID that a snapshot names. */
  adoptDid(unit: UnitContext, did: number): void {
    const use = this.#dids.get(unit);
    if (use) use.users++;
    else this.#dids.set(unit, { did, users: 1 });
  }

  /** Drop attachments, DIDs and tags without a word to the hardware, whose state goes too. */
  forgetAttachments(): void {
    this.attachments.clear();
    this.#dids.clear();
    this.clearTags();
  }

  /** No change of the table is flushed any more. */
  protected abstract clearTags(): void;

  /** Undo one {@link TranslatingDomain.takeDid}. */
  releaseDid(unit: UnitContext): void {
    const use = this.#dids.get(unit);
    if (!use || --use.users > 0) return;
    this.#dids.delete(unit);
    unit.dids.release(use.did);
  }
}

/** IOVA = host physical address; one per unit. */
export class VtdIdentityDomain extends TranslatingDomain {
  readonly kind = 'identity';
  readonly usesSecondStage = false;

  free(): void {}

  checkFits(unit: UnitContext): void {
    if (unit.caps.ecap.PT === 1) return;
    throw refuse(
      'EINVAL',
      'attach',
      'pass-through',
      `${unit.name} cannot pass DMA through untranslated (ECAP.PT=0)`,
      { accepted: 'a paging domain' },
    );
  }

  override takeDid(): number {
    return IDENTITY_DID;
  }

  override releaseDid(): void {}
  override adoptDid(): void {}
  protected clearTags(): void {}

  pasidEntry(unit: UnitContext): Uint32Array {
    return identityEntry(unit.caps);
  }

  contextEntry(unit: UnitContext): Uint32Array {
    return identityContextEntry(unit.caps);
  }

  addTags(): void {}
  removeTags(): void {}
  addDeviceTags(): void {}
  removeDeviceTags(): void {}
}
