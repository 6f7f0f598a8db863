/**
 * Put a domain to work for a device, or for one PASID of it, in place of what was there.
 *
 * @linux drivers/iommu/amd/iommu.c (amd_iommu_attach_device), drivers/iommu/amd/pasid.c
 */
import { type Domain, refuse } from '@iommukit/core';
import { attachPasid, detachPasid } from './attach-pasid.ts';
import type { Attachment } from './attachment.ts';
import type { DeviceState } from './device-state.ts';
import { updateEntry } from './entries.ts';
import { ensureGuestTables, freeGuestTables, usesGuestTables } from './guest-tables.ts';
import { TranslatingDomain } from './translating-domain.ts';
import type { UnitContext } from './unit-context.ts';

const OP = 'attach';

/**
 * Make `domain` translate the device's requests with `pasid`. Everything that can fail comes
 * before the first change; an entry changes in one store that hardware sees whole, so a replaced
 * domain leaves no window.
 *
 * @param pasid 20 bits, or -1 for requests without PASID
 * @throws {IommuError} EINVAL when the domain does not fit the device or what it is attached to;
 *   EBUSY when PASIDs stand in the way; EOPNOTSUPP for a PASID or domain that cannot go there;
 *   ENOSPC without a free DomainID; ENOMEM
 */
export const attach = (
  unit: UnitContext,
  device: DeviceState,
  pasid: number,
  domain: Domain,
): void => {
  const next = domain.kind === 'blocking' ? undefined : ownDomain(unit, domain);
  if (pasid < 0) switchDomain(unit, device, next);
  else if (next) attachPasid(unit, device, pasid, next);
  else detachPasid(unit, device, pasid);
};

const ownDomain = (unit: UnitContext, domain: Domain): TranslatingDomain => {
  if (domain instanceof TranslatingDomain) {
    if (domain.context.host.machine === unit.host.machine) return domain;
  }
  throw refuse(
    'EINVAL',
    OP,
    'foreign-domain',
    `a ${domain.kind} domain of ${domain.unit.name} cannot be walked by ${unit.name}`,
    { owner: domain.unit.name, accepted: 'a domain of an AMD unit of the same machine' },
  );
};

const switchDomain = (
  unit: UnitContext,
  device: DeviceState,
  domain: TranslatingDomain | undefined,
): void => {
  const old = device.rid0;
  if (old?.domain === domain) return;
  if (domain) check(unit, device, domain);
  const next = domain && prepare(unit, device, domain);
  next?.domain.addTags(next);
  next?.domain.attachments.add(next);
  try {
    exchange(unit, device, next);
  } finally {
    // Also when the unit does not answer: the entry is another one already.
    if (old) letGo(unit, old);
  }
};

/** @throws {IommuError} EINVAL, EBUSY */
const check = (unit: UnitContext, device: DeviceState, domain: TranslatingDomain): void => {
  domain.checkFits(unit, device);
  if (domain.allowsPasids || device.pasids.size === 0) return;
  throw refuse(
    'EBUSY',
    OP,
    'pasids-attached',
    `${device.device.name} has ${device.pasids.size} PASIDs attached, which need a guest table`,
    {
      value: device.pasids.size,
      accepted: 'a HWPT made with IOMMU_HWPT_ALLOC_PASID, or the identity domain',
    },
  );
};

/** DomainID and GCR3 table of an attachment to be; on failure nothing is left behind. */
const prepare = (unit: UnitContext, device: DeviceState, domain: TranslatingDomain): Attachment => {
  const domainId = domain.needsGcr3(device)
    ? ensureGuestTables(unit, device).domainId
    : domain.takeId(unit);
  return { unit, device, pasid: -1, domain, domainId };
};

/**
 * Switch what hardware sees. A guest table comes into GCR3 entry 0 before the device's entry leads
 * there, and goes when it no longer does.
 */
const exchange = (unit: UnitContext, device: DeviceState, next: Attachment | undefined): void => {
  const { rid0: old, guest } = device;
  const nextRoot = next?.domain.guestRootPa ?? -1;
  if (nextRoot >= 0) guest?.gcr3.set(0, nextRoot);
  device.rid0 = next;
  const keepsGuest = usesGuestTables(device);
  if (!keepsGuest) device.guest = undefined;
  updateEntry(unit, device);
  if (keepsGuest && nextRoot < 0 && old && old.domain.guestRootPa >= 0) {
    unit.invalidate.submit();
    guest?.gcr3.clear(0);
  }
  old?.domain.addFlush(old);
  unit.invalidate.submit();
  if (guest && !keepsGuest) freeGuestTables(unit, guest);
};

/** Forget an attachment that is out of all caches. */
const letGo = (unit: UnitContext, old: Attachment): void => {
  old.domain.attachments.delete(old);
  old.domain.removeTags(old);
  if (!old.domain.needsGcr3(old.device)) old.domain.releaseId(unit);
};
