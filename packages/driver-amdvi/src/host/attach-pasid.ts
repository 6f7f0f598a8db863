/**
 * Guest tables for single PASIDs of a device.
 *
 * @linux drivers/iommu/amd/pasid.c, for SVA; here any guest table of the host
 */
import { refuse } from '@iommukit/core';
import type { Attachment } from './attachment.ts';
import type { DeviceState } from './device-state.ts';
import { updateEntry } from './entries.ts';
import { freeGuestTables, usesGuestTables } from './guest-tables.ts';
import type { TranslatingDomain } from './translating-domain.ts';
import type { UnitContext } from './unit-context.ts';

const OP = 'attach';

/**
 * Make `domain` translate a PASID: one 64-bit store, also over another domain.
 *
 * @throws {IommuError} EOPNOTSUPP for a device without PASIDs or a domain without guest table;
 *   EINVAL for another PASID, another unit's domain that does not fit, or while a domain without
 *   GCR3 table translates requests without PASID; ENOMEM
 */
export const attachPasid = (
  unit: UnitContext,
  device: DeviceState,
  pasid: number,
  domain: TranslatingDomain,
): void => {
  checkPasid(unit, device, pasid);
  const old = device.pasids.get(pasid);
  if (old?.domain === domain) return;
  checkDomain(unit, device, domain);
  const { gcr3, domainId } = guestTablesOf(unit, device);
  gcr3.reserve(pasid);
  const next: Attachment = { unit, device, pasid, domain, domainId };
  domain.addTags(next);
  domain.attachments.add(next);
  device.pasids.set(pasid, next);
  gcr3.set(pasid, domain.guestRootPa);
  if (old) letGo(unit, old);
};

/**
 * Block what a PASID translated.
 *
 * @throws {IommuError} EOPNOTSUPP for a device without PASIDs; EINVAL for another PASID
 */
export const detachPasid = (unit: UnitContext, device: DeviceState, pasid: number): void => {
  checkPasid(unit, device, pasid);
  const old = device.pasids.get(pasid);
  const { guest } = device;
  if (!old || !guest) return;
  guest.gcr3.clear(pasid);
  device.pasids.delete(pasid);
  const keepsGuest = usesGuestTables(device);
  if (!keepsGuest) {
    device.guest = undefined;
    updateEntry(unit, device);
  }
  letGo(unit, old);
  if (!keepsGuest) freeGuestTables(unit, guest);
};

/** Flush and forget an attachment that is no longer in the GCR3 table. */
const letGo = (unit: UnitContext, old: Attachment): void => {
  old.domain.addFlush(old);
  old.domain.attachments.delete(old);
  old.domain.removeTags(old);
  unit.invalidate.submit();
};

const checkPasid = (unit: UnitContext, { device, pasidBits }: DeviceState, pasid: number): void => {
  if (pasidBits === 0) {
    throw refuse(
      'EOPNOTSUPP',
      OP,
      'pasid-support',
      `${device.name} cannot use PASIDs under ${unit.name}: ` +
        `${unit.caps.pasidBits === 0 ? 'the unit' : 'the device'} has none`,
      { value: pasid, accepted: 'requests without PASID (-1)' },
    );
  }
  if (pasid > 0 && pasid < 2 ** pasidBits) return;
  throw refuse(
    'EINVAL',
    OP,
    'pasid-range',
    `PASID ${pasid} of ${device.name} cannot be used; 0 stands for requests without PASID`,
    { value: pasid, accepted: `1 to ${2 ** pasidBits - 1}` },
  );
};

/** Host tables and the identity domain have no operation for PASIDs in Linux. */
const checkDomain = (unit: UnitContext, device: DeviceState, domain: TranslatingDomain): void => {
  if (domain.guestRootPa < 0) {
    throw refuse(
      'EOPNOTSUPP',
      OP,
      'pasid-domain',
      'a PASID needs a guest table, and this domain has none',
      { accepted: 'a HWPT made with IOMMU_HWPT_ALLOC_PASID' },
    );
  }
  domain.checkFits(unit, device);
};

/** @linux drivers/iommu/amd/pasid.c (is_pasid_enabled) */
const guestTablesOf = (unit: UnitContext, device: DeviceState) => {
  const { guest, rid0 } = device;
  if (guest) return guest;
  const now = rid0 ? 'go through host tables' : 'are blocked';
  throw refuse(
    'EINVAL',
    OP,
    'pasid-rid-domain',
    `requests of ${device.device.name} without PASID ${now}, so it has no GCR3 table`,
    {
      owner: unit.name,
      accepted: 'a HWPT made with IOMMU_HWPT_ALLOC_PASID, or identity, without PASID first',
    },
  );
};
