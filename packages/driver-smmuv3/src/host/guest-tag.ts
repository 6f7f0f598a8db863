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
  readonly vmid: number;
  #parent: SmmuPagingDomain | undefined;

  /**
   * @param parent undefined for one of a snapshot, which {@link link} brings
   * @param adopted the VMID that a snapshot brings; default: a free one
   * @throws {IommuError} EINVAL for a parent that the unit cannot walk; ENOSPC
   */
  constructor(
    op: string,
    unit: UnitContext,
    parent: SmmuPagingDomain | undefined,
    options: GuestTagOptions,
    adopted?: number,
  ) {
    if (parent !== undefined) checkParent(op, unit, parent, options);
    this.unit = unit;
    const shared = options.linux73Vmid ? parent?.tag : undefined;
    this.vmid = adopted ?? shared ?? unit.vmids.take(op);
    if (parent !== undefined) this.link(parent);
  }

  /** The stage 2 under the guest. */
  get parent(): SmmuPagingDomain {
    return this.#parent as SmmuPagingDomain;
  }

  /** The stage 2 is there: changes of it are flushed for this guest. */
  link(parent: SmmuPagingDomain): void {
    this.#parent = parent;
    parent.tags.addTranslation(this.unit, TAG.BELOW_NESTED, this.vmid);
  }

  /** Give the VMID back; nothing is cached under it any more. */
  release(): void {
    const { unit, vmid } = this;
    const parent = this.#parent;
    parent?.tags.removeTranslation(unit, TAG.BELOW_NESTED, vmid);
    if (parent?.tag !== vmid || parent.context !== unit) unit.vmids.release(vmid);
  }
}

/** @throws {IommuError} EINVAL for a stage 2 that the unit cannot use for guests */
export const checkParent = (
  op: string,
  unit: UnitContext,
  parent: SmmuPagingDomain,
  { linux73Vmid }: GuestTagOptions,
): void => {
  if (linux73Vmid && parent.context !== unit) throw foreignParent(op, unit, parent);
  checkWalkable(op, unit, parent);
};

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
