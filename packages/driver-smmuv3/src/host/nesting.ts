/**
 * What a unit offers to guests, and to whom.
 *
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3-iommufd.c (arm_smmu_get_viommu_size)
 */
import {
  type IommuUnit,
  type NestedDomain,
  type NestingOps,
  type PagingDomain,
  refuse,
  type UserArray,
  type UserBlob,
  type ViommuOps,
} from '@iommukit/core';
import type { CmdqvHost } from './cmdqv.ts';
import { CmdqvViommu, VIOMMU_TYPE_TEGRA241_CMDQV } from './cmdqv-viommu.ts';
import { SmmuPagingDomain } from './domain.ts';
import { type GuestFeatures, guestFeatures } from './guest-features.ts';
import { GuestTag, type GuestTagOptions } from './guest-tag.ts';
import { SmmuNestedDomain } from './nested-domain.ts';
import type { UnitContext } from './unit-context.ts';
import { invalidateForGuest } from './user-invalidation.ts';
import { SmmuViommu } from './viommu.ts';
import { readVste, VSTE_BYTES, type Vste } from './vste.ts';

/** `IOMMU_HWPT_DATA_ARM_SMMUV3`. */
const HWPT_DATA_ARM_SMMUV3 = 2;
/** `IOMMU_VIOMMU_TYPE_ARM_SMMUV3`. */
const VIOMMU_TYPE_ARM_SMMUV3 = 1;

const ALLOC_OP = 'IOMMU_HWPT_ALLOC';
const VIOMMU_OP = 'IOMMU_VIOMMU_ALLOC';

/** How guests are served. */
export interface NestingPolicy extends GuestTagOptions {
  /** Command queues for guests, where the unit has them. */
  readonly cmdqv: CmdqvHost | undefined;
  /** Nested HWPTs without a vIOMMU. */
  readonly directNesting: boolean;
  /** Count commands that were not executed, as Linux 7.3. */
  readonly linux73Invalidation: boolean;
}

/** The same, with what the unit is. */
export interface GuestOptions extends NestingPolicy {
  readonly features: GuestFeatures;
}

/** The groups of the driver contract for guests. */
export interface GuestOps {
  /** Whether guests are offered anything. */
  readonly nests: boolean;
  readonly options: GuestOptions;
  readonly viommu: ViommuOps;
  readonly nesting?: NestingOps;
}

/**
 * A guest can make memory non-cacheable in its own tables, and nobody cleans caches for it: so
 * either stage 2 forces write-back memory, or devices snoop whatever tables say.
 */
export const guestOps = (
  unit: IommuUnit,
  context: UnitContext,
  policy: NestingPolicy,
): GuestOps => {
  const features = guestFeatures(context.caps.idr);
  const options = { ...policy, features };
  const nests = features.bothStages && (context.canWbs || context.caps.forcedWriteBack);
  const viommu: ViommuOps = {
    supports: (_device, type) =>
      nests &&
      (type === VIOMMU_TYPE_ARM_SMMUV3 ||
        (type === VIOMMU_TYPE_TEGRA241_CMDQV && policy.cmdqv !== undefined)),
    init: (_device, type, parent, userData, events) => {
      const stage2 = nestParent(VIOMMU_OP, context, parent);
      const tag = new GuestTag(VIOMMU_OP, context, stage2, policy);
      const { cmdqv } = policy;
      if (type !== VIOMMU_TYPE_TEGRA241_CMDQV || !cmdqv) {
        return new SmmuViommu(unit, tag, options, events);
      }
      try {
        return new CmdqvViommu(unit, tag, options, cmdqv, events, userData);
      } catch (error) {
        tag.release();
        throw error;
      }
    },
  };
  if (!nests || !policy.directNesting) return { nests, options, viommu };
  const nesting: NestingOps = {
    allocNested: (_device, parent, flags, userData) =>
      allocDirect(unit, context, parent, flags, userData, options),
  };
  return { nests, options, viommu, nesting };
};

/**
 * The vSTE of a nested HWPT.
 *
 * @throws {IommuError} EOPNOTSUPP for any flag; EINVAL for another data type or size; EIO for a
 *   vSTE that a guest cannot have
 */
export const readUserVste = (features: GuestFeatures, flags: number, userData: UserBlob): Vste => {
  if (flags !== 0) {
    throw refuse('EOPNOTSUPP', ALLOC_OP, 'hwpt-flags', 'a nested HWPT takes no flag here', {
      value: flags,
      accepted: '0, or FAULT_ID_VALID alone: a CD table has all PASIDs in it already',
    });
  }
  return readVste(userData.copyIn(HWPT_DATA_ARM_SMMUV3, VSTE_BYTES, VSTE_BYTES), features);
};

/** A parent that this driver made, for guests. */
const nestParent = (op: string, unit: UnitContext, parent: PagingDomain): SmmuPagingDomain => {
  const isOurs = parent instanceof SmmuPagingDomain && parent.nestParent;
  if (isOurs && parent.context.host.machine === unit.host.machine) return parent;
  throw refuse('EINVAL', op, 'nest-parent', 'the parent is no stage 2 for guests', {
    accepted: 'a HWPT made with IOMMU_HWPT_ALLOC_NEST_PARENT on an SMMUv3 of the same machine',
  });
};

/**
 * A nested domain without vIOMMU: a guest with one stream table entry. The StreamID in its commands
 * means every device on the domain, and it gets no events.
 */
const allocDirect = (
  unit: IommuUnit,
  context: UnitContext,
  parent: PagingDomain,
  flags: number,
  userData: UserBlob,
  options: GuestOptions,
): NestedDomain => {
  const stage2 = nestParent(ALLOC_OP, context, parent);
  const vste = readUserVste(options.features, flags, userData);
  return directDomain(unit, new GuestTag(ALLOC_OP, context, stage2, options), vste, options);
};

/** See {@link allocDirect}. */
export const directDomain = (
  unit: IommuUnit,
  tag: GuestTag,
  vste: Vste,
  options: GuestOptions,
): SmmuNestedDomain =>
  new SmmuNestedDomain(unit, tag, vste, undefined, {
    invalidate: (domain, array) => invalidateDirect(domain, tag, array, options),
    free: () => tag.release(),
  });

const invalidateDirect = (
  domain: SmmuNestedDomain,
  { unit, vmid }: GuestTag,
  array: UserArray,
  { features, linux73Invalidation }: GuestOptions,
): void => {
  const streamsOf = (): readonly number[] => domain.streams;
  const owner = { features, invalidate: unit.invalidate, vmid, streamsOf };
  invalidateForGuest(owner, array, linux73Invalidation);
};
