/**
 * Forced snooping as a property of an address space, and who may share a domain at all.
 *
 * Linux 7.3 forces snooping for every HWPT whose unit can, and takes the HWPTs of an IOAS apart by
 * it; that is policy `auto`. A space can also insist on it, or leave requests as devices send them.
 *
 * @linux drivers/iommu/iommufd/hw_pagetable.c iommufd_hwpt_paging_enforce_cc, drivers/iommu/iommu.c
 * @module
 */
import type { IommuDriver, IommuUnit, PagingDomain } from '../driver/index.ts';
import { refuse } from '../errors.ts';
import type { IommufdDevice } from './device.ts';
import { RID_PASID } from './group.ts';
import { type Hwpt, pagingOf } from './hwpt.ts';
import type { Ioas } from './ioas.ts';

/**
 * Whether DMA through an address space is forced to snoop the CPU's caches: `auto` where a unit
 * can (Linux 7.3), `required` or the device is refused, `off` never.
 */
export type CoherencyPolicy = 'auto' | 'required' | 'off';

/** Every policy; snapshots keep the position in this list. */
export const COHERENCY_POLICIES: readonly CoherencyPolicy[] = ['auto', 'required', 'off'];

/**
 * Set the policy of an IOAS, before its first HWPT.
 *
 * @throws {IommuError} EINVAL for another word; EBUSY when HWPTs stand on it
 */
export const setCoherency = (op: string, ioas: Ioas, policy: CoherencyPolicy): void => {
  if (!COHERENCY_POLICIES.includes(policy)) {
    throw refuse('EINVAL', op, 'coherency-policy', `'${policy}' is no coherency policy`, {
      accepted: COHERENCY_POLICIES.join(', '),
    });
  }
  const first = ioas.hwpts[0];
  if (first && policy !== ioas.coherency) {
    throw refuse('EBUSY', op, 'coherency-in-use', `IOAS ${ioas.id} has HWPTs already`, {
      value: ioas.id,
      owner: `HWPT ${first.id}`,
      accepted: 'an IOAS without HWPTs: set the policy first, or make another IOAS',
    });
  }
  ioas.coherency = policy;
};

/**
 * Force snooping on a new domain as far as its address space asks for it. The domain is given back
 * when that throws.
 *
 * @returns whether DMA through it is forced to snoop
 * @throws {IommuError} EINVAL when that is required and cannot be; what the driver throws
 */
export const enforceCoherency = (
  op: string,
  unit: IommuUnit,
  ioas: Ioas,
  domain: PagingDomain,
): boolean => {
  try {
    const wanted = unit.caps.enforcesCacheCoherency && ioas.coherency !== 'off';
    const forced =
      wanted && (domain.enforcesCacheCoherency || (domain.enforceCacheCoherency?.() ?? false));
    if (ioas.coherency === 'required' && !forced) throw notForced(op, unit, ioas);
    return forced;
  } catch (error) {
    domain.free();
    throw error;
  }
};

/**
 * Whether a device may be attached to a HWPT, as far as core can say without its driver.
 *
 * @throws {IommuError} EINVAL for a domain of another vendor's driver, or a unit that cannot force
 *   snooping where it is required
 */
export const checkCompatible = (op: string, device: IommufdDevice, hwpt: Hwpt): void => {
  const { unit } = device;
  const owner = hwpt.domain.unit;
  if (!isSameVendor(unit.driver, owner.driver)) {
    throw refuse(
      'EINVAL',
      op,
      'domain-owner',
      `HWPT ${hwpt.id} is a table of ${owner.name}, which ${unit.name} cannot walk`,
      {
        value: hwpt.id,
        owner: owner.name,
        accepted: `a HWPT allocated for a device of ${unit.name}, or its IOAS`,
      },
    );
  }
  const { ioas } = pagingOf(hwpt);
  if (ioas.coherency === 'required' && !unit.caps.enforcesCacheCoherency) {
    throw notForced(op, unit, ioas);
  }
};

/**
 * Whether all DMA of a device without PASID is coherent with the CPU's caches: it sends no request
 * with the No Snoop attribute, or what it is attached to overrules that.
 */
export const isDmaCoherent = (device: IommufdDevice, mayUseNoSnoop: boolean): boolean => {
  const hwpt = device.group.hwptAt(RID_PASID);
  return !mayUseNoSnoop || (hwpt !== undefined && pagingOf(hwpt).enforceCacheCoherency);
};

/** Whether two drivers are one vendor's: Linux compares their tables of operations. */
export const isSameVendor = (a: IommuDriver, b: IommuDriver): boolean =>
  a === b || (a.hwInfoType !== 0 && a.hwInfoType === b.hwInfoType);

const notForced = (op: string, unit: IommuUnit, ioas: Ioas) =>
  refuse('EINVAL', op, 'coherency-required', `${unit.name} cannot force DMA to snoop`, {
    value: ioas.id,
    owner: unit.name,
    accepted:
      `a device whose unit has caps.enforcesCacheCoherency, or an IOAS other than ${ioas.id} ` +
      "with coherency 'auto' or 'off'",
  });
