import { refuse } from '@iommukit/core';
import { TAG } from './cache-tags.ts';
import type { SmmuPagingDomain } from './domain.ts';
import type { UnitContext } from './unit-context.ts';

/** What decides how guests are kept apart. */
export interface GuestTagOptions {
  /** One VMID for a stage 2 and all guests on it, as in Linux 7.3. */
  readonly linux73Vmid: boolean;
}

/**
 * The VMID that everything cached of one guest on one unit goes by. Guests choose their ASIDs
 * freely, so each of them needs a VMID of its own, also where they share a stage 2.
 *
 * @spec SMMUv3 3.17 (tags)
 */
export class GuestTag {
  readonly unit: UnitContext;
  readonly parent: SmmuPagingDomain;
  readonly vmid: number;

  /** @throws {IommuError} EINVAL for a parent that the unit cannot walk; ENOSPC */
  constructor(op: string, unit: UnitContext, parent: SmmuPagingDomain, options: GuestTagOptions) {
    if (options.linux73Vmid && parent.context !== unit) throw foreignParent(op, unit, parent);
    checkWalkable(op, unit, parent);
    this.unit = unit;
    this.parent = parent;
    this.vmid = options.linux73Vmid ? parent.tag : unit.vmids.take(op);
    parent.tags.addTranslation(unit, TAG.BELOW_NESTED, this.vmid);
  }

  /** Give the VMID back; nothing is cached under it any more. */
  release(): void {
    const { unit, parent, vmid } = this;
    parent.tags.removeTranslation(unit, TAG.BELOW_NESTED, vmid);
    if (parent.tag !== vmid || parent.context !== unit) unit.vmids.release(vmid);
  }
}

/** Another SMMU can walk the table for a guest, which has a VMID there, as far as it is not too wide. */
const checkWalkable = (op: string, { name, caps }: UnitContext, parent: SmmuPagingDomain): void => {
  const { ipaBits, oaBits } = parent.context.caps;
  if (caps.ipaBits >= ipaBits && caps.oaBits >= oaBits) return;
  throw refuse('EINVAL', op, 'nest-parent-width', `${name} cannot walk tables this wide`, {
    value: ipaBits,
    accepted: `IPAs of ${caps.ipaBits} bits and outputs of ${caps.oaBits}`,
  });
};

const foreignParent = (op: string, unit: UnitContext, parent: SmmuPagingDomain) =>
  refuse('EINVAL', op, 'nest-parent-unit', `the stage 2 belongs to ${parent.context.name}`, {
    owner: parent.context.name,
    accepted: `a stage 2 allocated for a device of ${unit.name}, as VMIDs are shared with it`,
  });
