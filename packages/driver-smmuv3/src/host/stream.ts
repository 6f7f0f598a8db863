/**
 * The stream table entry of a device, from what is attached to it, and its device TLB.
 *
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_update_ste, arm_smmu_attach_commit)
 */
import { S1_DSS } from '../spec/stream-table-entry.ts';
import { CdTable } from './cd-table.ts';
import type { DeviceState } from './device-state.ts';
import { NO_SSID } from './device-state.ts';
import { ABORT_ENTRY, cdTableEntry } from './stream-entries.ts';
import type { UnitContext } from './unit-context.ts';

/** The descriptors of a device, made when it first needs one. @throws {IommuError} ENOMEM */
export const cdTableOf = (unit: UnitContext, device: DeviceState): CdTable => {
  device.cdTable ??= new CdTable(unit.memory, unit.invalidate, device.sid, device.ssidBits);
  return device.cdTable;
};

/** Bring the device's stream table entry to what its attachments say. */
export const rewriteStream = (unit: UnitContext, device: DeviceState): void => {
  unit.table.write(device.sid, entryOf(unit, device), unit.invalidate);
};

/** PASIDs that are attached use ATS whatever the requests without do. */
const wantsAts = (device: DeviceState): boolean =>
  device.ats && (device.pasids.size > 0 || (device.domain?.wantsAts(device) ?? false));

const entryOf = (unit: UnitContext, device: DeviceState): Uint32Array => {
  const { domain, cdTable, pasids, stall } = device;
  const traits = { ats: wantsAts(device), stall };
  if (cdTable && (domain?.usesCdTable || pasids.size > 0)) {
    return cdTableEntry(unit.caps, cdTable, traits, defaultSubstream(device));
  }
  return domain ? domain.streamEntry(device, traits) : ABORT_ENTRY;
};

const defaultSubstream = ({ domain }: DeviceState): number => {
  if (domain === undefined) return S1_DSS.TERMINATE;
  return domain.usesCdTable ? S1_DSS.SSID0 : S1_DSS.BYPASS;
};

/**
 * What the device itself caches, once the unit translates for the new domain: all of it when ATS
 * goes on or off, else what the changed substream left.
 *
 * @param ssid the substream that changed, or -1
 */
export const settleAts = (unit: UnitContext, device: DeviceState, ssid: number): void => {
  const wanted = wantsAts(device);
  if (!wanted && !device.atsEnabled) return;
  const isSame = wanted === device.atsEnabled;
  device.atsEnabled = wanted;
  unit.invalidate.wholeDeviceTlb(device.sid, isSame ? ssid : NO_SSID);
  unit.invalidate.submit();
};
