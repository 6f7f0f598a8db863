/** What a VT-d host wrote for a device, read as hardware finds it: registers, then memory. */
import type { Endpoint } from '@iommukit/core';
import { RTADDR, type VtdHardware } from '@iommukit/driver-vtd';
import type { Scenario } from './guest-image.ts';

const PAGE = ~0xfffn;
const PASID_ENTRY_QWORDS = 8;
const PASIDS_PER_TABLE = 64;

/**
 * HPA of a PASID's entry in the device's PASID table.
 *
 * @returns 0 when the host has made no table for it
 * @spec VT-d 3.4.3 (root, context, PASID directory, PASID table)
 */
export const pasidEntryAddress = (
  scenario: Scenario,
  hardware: VtdHardware,
  { rid }: Endpoint,
  pasid: number,
): number => {
  const table = (entry: number) => Number(scenario.physical(entry) & PAGE);
  const root = Number(hardware.readRegister64(RTADDR.offset) & PAGE);
  const bus = rid >> 8;
  const devfn = rid & 0xff;
  const contexts = table(root + bus * 16 + (devfn >> 7) * 8);
  const directory = table(contexts + (devfn & 0x7f) * 32);
  const pasids = table(directory + Math.floor(pasid / PASIDS_PER_TABLE) * 8);
  return pasids === 0 ? 0 : pasids + (pasid % PASIDS_PER_TABLE) * 64;
};

/** The eight quadwords of a PASID's entry; all zero without a table. */
export const pasidEntry = (
  scenario: Scenario,
  hardware: VtdHardware,
  device: Endpoint,
  pasid: number,
): bigint[] => {
  const at = pasidEntryAddress(scenario, hardware, device, pasid);
  return Array.from({ length: PASID_ENTRY_QWORDS }, (_, i) =>
    at === 0 ? 0n : scenario.physical(at + 8 * i),
  );
};

/** PASIDs from 0 to `last` (inclusive) whose entry is not all zero. */
export const pasidsInUse = (
  scenario: Scenario,
  hardware: VtdHardware,
  device: Endpoint,
  last: number,
): number[] =>
  Array.from({ length: last + 1 }, (_, pasid) => pasid).filter((pasid) =>
    pasidEntry(scenario, hardware, device, pasid).some((qword) => qword !== 0n),
  );
