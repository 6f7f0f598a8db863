/** A VT-d unit as a case sees it: one fault record, read and cleared around every probe. */
import { decode } from '@iommukit/bits';
import { type BusPort, INVALIDATION_ANSWER } from '@iommukit/core';
import { createVtdHardware, FAULT_RECORD, type VtdHardware } from '@iommukit/driver-vtd';
import type { CaseFault, HardwareCase } from './case-file.ts';
import type { CaseMemory } from './case-memory.ts';
import type { CaseUnit } from './replay.ts';

const FRCD_OFFSET = 0x220;
const FSTS_OFFSET = 0x34;

const silentBus: BusPort = {
  deliverPageResponse() {},
  invalidateDeviceTlb: () => INVALIDATION_ANSWER.COMPLETE,
  raiseMessage() {},
};

/** The registers of the machine that a case's `model` describes. */
const capabilitiesFor = (model: Readonly<Record<string, unknown>>) => {
  const width = Number(model['aw_bits'] ?? 48);
  const pasidBits = Number(model['pasid_bits'] ?? 0);
  let cap = 0x80d2_008c_2200_0006n | (BigInt(width - 1) << 16n);
  cap |= width >= 48 ? 0x600n : 0x200n;
  if (model['caching_mode']) cap |= 1n << 7n;
  if (model['first_stage']) cap |= 1n << 56n;
  let ecap = 0xf0_0f4an;
  if (model['scalable']) ecap |= model['first_stage'] ? 0x8800_0000_0000n : 0x4800_8000_0000n;
  if (model['device_iotlb']) ecap |= 1n << 2n;
  if (model['snoop_control']) ecap |= 1n << 7n;
  if (pasidBits > 0) ecap |= (1n << 40n) | (BigInt(pasidBits - 1) << 35n);
  if (model['svm']) ecap |= 0x0402_2000_0004n;
  return { registers: { ver: 0x10, cap, ecap }, width };
};

/** Read and clear the fault record, as a guest's fault handler does. */
const takeFaults = (hardware: VtdHardware): CaseFault[] => {
  const words = Uint32Array.from({ length: 4 }, (_, at) =>
    hardware.readReg32(FRCD_OFFSET + at * 4),
  );
  hardware.writeReg32(FSTS_OFFSET, 1);
  const record = decode(FAULT_RECORD, words);
  if (record.F === 0) return [];
  hardware.writeReg32(FRCD_OFFSET + 12, 0x8000_0000);
  return [
    {
      reason: record.FR,
      bdf: record.SID,
      iova: `0x${record.FI.toString(16)}`,
      write: record.T1 === 0,
      ...(record.PP === 1 && { pasid: record.PV }),
    },
  ];
};

/** Build the unit of a case. */
export const createVtdUnit = ({ model = {} }: HardwareCase, memory: CaseMemory): CaseUnit => {
  const { registers, width } = capabilitiesFor(model);
  const hardware = createVtdHardware({
    memory,
    bus: silentBus,
    capabilities: registers,
    hostAddressWidthBits: width,
    // What the cases were checked against: walks that snoop, 64-bit fault addresses.
    compatibility: { coherentWalks: true, fullFaultAddress: true, forgetFaults: true },
  });
  return {
    read32: (offset) => hardware.readReg32(offset),
    write32: (offset, value) => hardware.writeReg32(offset, value),
    write64: (offset, lo, hi) => hardware.writeRegister64(offset, (BigInt(hi) << 32n) | BigInt(lo)),
    translatePage: (rid, pasid, pfn, access) => hardware.translatePage(rid, pasid, pfn, access),
    takeFaults: () => takeFaults(hardware),
  };
};
