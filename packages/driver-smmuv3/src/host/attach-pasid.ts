/**
 * Put a domain to work for one PASID of a device, in place of what was there.
 *
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_s1_set_dev_pasid, arm_smmu_set_pasid,
 *   arm_smmu_blocking_set_dev_pasid)
 */
import { refuse } from '@iommukit/core';
import { NO_CONTEXT } from './context-descriptors.ts';
import type { DeviceState } from './device-state.ts';
import { SmmuPagingDomain } from './domain.ts';
import { cdTableOf, rewriteStream, settleAts } from './stream.ts';
import type { TranslatingDomain } from './translating-domain.ts';
import type { UnitContext } from './unit-context.ts';

const OP = 'attach';

/**
 * @param pasid 0 or more
 * @param next undefined blocks the PASID
 * @throws {IommuError} EOPNOTSUPP for a device or unit without PASIDs and for a domain that no PASID
 *   can have; EINVAL for PASID 0 and those beyond the device, a stage-2 domain, a domain of another
 *   unit, or a device whose other requests go through a stage 2; ENOMEM
 */
export const attachPasid = (
  unit: UnitContext,
  device: DeviceState,
  pasid: number,
  next: TranslatingDomain | undefined,
): void => {
  if (next === undefined) {
    detachPasid(unit, device, pasid);
    return;
  }
  checkRange(unit, device, pasid);
  const domain = stage1Only(next);
  const old = device.pasids.get(pasid);
  if (old === domain) return;
  domain.checkFits(unit);
  checkStream(device);
  const table = cdTableOf(unit, device);
  table.reserve(pasid);
  domain.addTags(device, pasid);
  device.pasids.set(pasid, domain);
  table.write(pasid, domain.contextEntry(device));
  rewriteStream(unit, device);
  settleAts(unit, device, pasid);
  old?.removeTags(device, pasid);
};

/** Block a PASID. With the last one the entry becomes again what the other requests need. */
const detachPasid = (unit: UnitContext, device: DeviceState, pasid: number): void => {
  const old = device.pasids.get(pasid);
  if (!old) return;
  device.cdTable?.write(pasid, NO_CONTEXT);
  settleAts(unit, device, pasid);
  old.removeTags(device, pasid);
  device.pasids.delete(pasid);
  if (device.pasids.size > 0) return;
  rewriteStream(unit, device);
  if (!device.domain?.wantsAts(device)) settleAts(unit, device, pasid);
};

const checkRange = (unit: UnitContext, device: DeviceState, pasid: number): void => {
  const { ssidBits } = device;
  if (ssidBits === 0) {
    const lacking = unit.caps.ssidBits === 0 ? 'the unit' : 'the device';
    const message = `${device.device.name} cannot use PASIDs under ${unit.name}: ${lacking} has none`;
    throw refuse('EOPNOTSUPP', OP, 'pasid-support', message, { value: pasid });
  }
  if (pasid > 0 && pasid < 2 ** ssidBits) return;
  throw cannot(
    'EINVAL',
    'pasid-range',
    `PASID ${pasid} of ${device.device.name} cannot be used; 0 stands for requests without`,
    `1 to ${2 ** ssidBits - 1}`,
  );
};

const stage1Only = (domain: TranslatingDomain): SmmuPagingDomain => {
  const accepted = 'a stage-1 paging domain';
  if (!(domain instanceof SmmuPagingDomain)) {
    const message = `no PASID can have a ${domain.kind} domain of its own`;
    throw cannot('EOPNOTSUPP', 'pasid-domain', message, accepted);
  }
  if (domain.usesCdTable) return domain;
  const message = 'all requests of a stream share one stage 2, so a PASID cannot have its own';
  throw cannot('EINVAL', 'pasid-stage', message, accepted);
};

/** Without a CD table there is no place for PASIDs, unless the other requests bypass or abort. */
const checkStream = ({ device, domain }: DeviceState): void => {
  if (domain === undefined || domain.usesCdTable || domain.kind === 'identity') return;
  throw cannot(
    'EINVAL',
    'pasid-stream',
    `requests of ${device.name} without PASID go through a stage 2, which leaves no room for PASIDs`,
    'a device on a stage-1 domain, in bypass or blocked',
  );
};

const cannot = (code: 'EINVAL' | 'EOPNOTSUPP', rule: string, message: string, accepted: string) =>
  refuse(code, OP, rule, message, { accepted });
