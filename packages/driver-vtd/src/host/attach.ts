/**
 * Put a domain to work for a device, or for one PASID of it, in place of what was there.
 *
 * @linux drivers/iommu/intel/iommu.c (intel_iommu_attach_device, intel_iommu_set_dev_pasid)
 */
import { type Domain, refuse } from '@iommukit/core';
import type { Attachment } from './attachment.ts';
import { type DeviceState, RID_PASID } from './device-state.ts';
import type { EntryStore } from './entry-store.ts';
import { messagePasid } from './scalable-entries.ts';
import { TranslatingDomain } from './translating-domain.ts';
import type { UnitContext } from './unit-context.ts';

const OP = 'attach';

/**
 * Make `domain` translate the device's requests with `pasid`. Everything that can fail comes
 * before the first change.
 *
 * @param pasid 20 bits, or -1 for requests without PASID
 * @throws {IommuError} EINVAL when the domain does not fit; EOPNOTSUPP for a PASID that unit or
 *   device cannot use; ENOSPC without a free DID; ENOMEM
 */
export const attach = (
  unit: UnitContext,
  entries: EntryStore,
  device: DeviceState,
  pasid: number,
  domain: Domain,
): void => {
  const key = attachmentKey(unit, device, pasid);
  const old = device.attachments.get(key);
  if (domain.kind === 'blocking') {
    if (old) detach(unit, entries, old);
    return;
  }
  const target = ownDomain(unit, domain);
  if (old?.domain === target) return;
  target.checkFits(unit, device, key);
  const next = prepare(unit, entries, device, key, target);
  if (!old) entries.install(next);
  else if (!entries.replace(old, next)) {
    entries.remove(old);
    entries.install(next);
  }
  device.attachments.set(key, next);
  target.attachments.add(next);
  if (old) letGo(unit, old);
};

/** Block what an attachment translated. */
export const detach = (unit: UnitContext, entries: EntryStore, old: Attachment): void => {
  entries.remove(old);
  old.device.attachments.delete(old.pasid);
  letGo(unit, old);
};

const attachmentKey = (unit: UnitContext, device: DeviceState, pasid: number): number => {
  if (pasid < 0) return RID_PASID;
  if (device.pasidBits === 0) {
    throw refuse(
      'EOPNOTSUPP',
      OP,
      'pasid-support',
      `${device.device.name} cannot use PASIDs under ${unit.name}: ` +
        `${unit.caps.pasidBits === 0 ? 'the unit' : 'the device'} has none`,
      { value: pasid },
    );
  }
  if (pasid === RID_PASID || pasid >= 2 ** device.pasidBits) {
    throw refuse(
      'EINVAL',
      OP,
      'pasid-range',
      `PASID ${pasid} of ${device.device.name} cannot be used; ${RID_PASID} stands for requests without PASID`,
      { value: pasid, accepted: `1 to ${2 ** device.pasidBits - 1}` },
    );
  }
  return pasid;
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
    { owner: domain.unit.name, accepted: 'a domain of a VT-d unit of the same machine' },
  );
};

/** DID, entry and cache tags of an attachment to be; on failure nothing is left behind. */
const prepare = (
  unit: UnitContext,
  entries: EntryStore,
  device: DeviceState,
  pasid: number,
  domain: TranslatingDomain,
): Attachment => {
  entries.reserve(device, pasid);
  const did = domain.takeDid(unit);
  let words: Uint32Array;
  try {
    words = unit.caps.scalable
      ? domain.pasidEntry(unit, did)
      : domain.contextEntry(unit, device, did);
  } catch (error) {
    domain.releaseDid(unit);
    throw error;
  }
  domain.addTags(unit, did, pasid);
  if (device.ats) domain.addDeviceTags(unit, device.rid, messagePasid(pasid));
  return { unit, device, pasid, domain, did, words };
};

/** Forget an attachment whose entries are out of all caches. */
const letGo = (unit: UnitContext, old: Attachment): void => {
  const { device, pasid, domain, did } = old;
  domain.attachments.delete(old);
  domain.removeTags(unit, did, pasid);
  if (device.ats) domain.removeDeviceTags(unit, device.rid, messagePasid(pasid));
  domain.releaseDid(unit);
};
