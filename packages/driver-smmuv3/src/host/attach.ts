/**
 * Put a domain to work for a device's requests without SubstreamID, in place of what was there.
 *
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_attach_dev, arm_smmu_attach_dev_ste)
 */
import { type Domain, refuse } from '@iommukit/core';
import { attachPasid } from './attach-pasid.ts';
import { NO_CONTEXT } from './context-descriptors.ts';
import { type DeviceState, NO_SSID } from './device-state.ts';
import { SmmuPagingDomain } from './domain.ts';
import { cdTableOf, rewriteStream, settleAts } from './stream.ts';
import { TranslatingDomain } from './translating-domain.ts';
import type { UnitContext } from './unit-context.ts';

const OP = 'attach';
/** The descriptor of requests without SubstreamID. */
const DEFAULT_CONTEXT = 0;

/**
 * Make `domain` translate the device's requests with `pasid`. Everything that can fail comes before
 * the first change.
 *
 * @param pasid 20 bits, or -1 for requests without PASID
 * @throws {IommuError} EINVAL when the domain does not fit; EBUSY for a domain that excludes PASIDs
 *   while some are attached; EOPNOTSUPP for a PASID that unit or device cannot use; ENOMEM
 */
export const attach = (
  unit: UnitContext,
  device: DeviceState,
  pasid: number,
  domain: Domain,
): void => {
  const next = domain.kind === 'blocking' ? undefined : ownDomain(unit, domain);
  if (pasid >= 0) attachPasid(unit, device, pasid, next);
  else attachStream(unit, device, next);
};

const ownDomain = (unit: UnitContext, domain: Domain): TranslatingDomain => {
  if (domain instanceof TranslatingDomain && domain.context.host.machine === unit.host.machine) {
    return domain;
  }
  throw refuse(
    'EINVAL',
    OP,
    'foreign-domain',
    `a ${domain.kind} domain of ${domain.unit.name} cannot be walked by ${unit.name}`,
    { owner: domain.unit.name, accepted: 'a domain of an SMMUv3 of the same machine' },
  );
};

/**
 * Abort, bypass, stage 2 and the CD table follow each other without a window as far as one word of
 * the entry decides; one stage-1 domain in place of another changes the descriptor's root and ASID,
 * two words, so requests abort for a moment in between.
 */
const attachStream = (
  unit: UnitContext,
  device: DeviceState,
  next: TranslatingDomain | undefined,
): void => {
  const old = device.domain;
  if (old === next) return;
  next?.checkFits(unit, device);
  checkPasids(device, next);
  const stage1 = next instanceof SmmuPagingDomain && next.usesCdTable ? next : undefined;
  if (stage1) cdTableOf(unit, device).reserve(DEFAULT_CONTEXT);
  next?.addTags(device, NO_SSID);
  device.domain = next;
  if (stage1) device.cdTable?.write(DEFAULT_CONTEXT, stage1.contextEntry(device));
  rewriteStream(unit, device);
  if (!stage1 && old?.usesCdTable) device.cdTable?.write(DEFAULT_CONTEXT, NO_CONTEXT);
  settleAts(unit, device, NO_SSID);
  old?.removeTags(device, NO_SSID);
};

/** A stream table entry that is no CD table's leaves no place for PASIDs, bypass and abort aside. */
const checkPasids = (device: DeviceState, next: TranslatingDomain | undefined): void => {
  if (device.pasids.size === 0) return;
  if (next === undefined || next.usesCdTable || next.kind === 'identity') return;
  throw refuse(
    'EBUSY',
    OP,
    'pasids-in-use',
    `${device.device.name} has PASIDs attached, which a ${next.kind} domain with a stage 2 excludes`,
    { value: device.pasids.size, accepted: 'a stage-1 domain, or none attached PASIDs' },
  );
};
