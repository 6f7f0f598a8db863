/** An AMD IOMMU as a case sees it: the event log is read around every probe. */
import { decode } from '@iommukit/bits';
import { AmdviHardware, EVENT, EVENT_ENTRY } from '@iommukit/driver-amdvi';
import type { CaseFault, HardwareCase } from './case-file.ts';
import type { CaseMemory } from './case-memory.ts';
import type { CaseUnit } from './replay.ts';

const LOG_BASE = 0x10;
const LOG_HEAD = 0x2010;
const LOG_TAIL = 0x2018;
const EVENT_BYTES = 16;

const nameOf = (code: number): string =>
  Object.entries(EVENT).find(([, value]) => value === code)?.[0] ?? `code ${code}`;

/** Flags that cases name. */
const CASE_FLAGS = ['GN', 'NX', 'US', 'I', 'PR', 'RW', 'RZ', 'TR'] as const;

const describeEvent = (words: Uint32Array): CaseFault => {
  const event = decode(EVENT_ENTRY, words);
  const address = BigInt(event.ADDR);
  return {
    name: nameOf(event.CODE),
    code: event.CODE,
    bdf: event.DEVICE_ID,
    domain: event.DOMAIN_ID,
    flag_names: CASE_FLAGS.filter((name) => event[name] === 1),
    present: event.PR === 1,
    address: `0x${address.toString(16)}`,
    address_page: `0x${((address / 4096n) * 4096n).toString(16)}`,
  };
};

const takeFaults = (hardware: AmdviHardware, memory: CaseMemory): CaseFault[] => {
  const faults: CaseFault[] = [];
  const base = (hardware.readReg32(LOG_BASE) & ~0xfff) >>> 0;
  const bytes = EVENT_BYTES * 2 ** ((hardware.readReg32(LOG_BASE + 4) >>> 24) & 15);
  let head = hardware.readReg32(LOG_HEAD);
  while (head !== hardware.readReg32(LOG_TAIL)) {
    faults.push(describeEvent(memory.readWords(base + head, 4)));
    head = (head + EVENT_BYTES) % bytes;
  }
  hardware.writeReg32(LOG_HEAD, head);
  return faults;
};

/** Build the unit of a case. */
export const createAmdviUnit = (_item: HardwareCase, memory: CaseMemory): CaseUnit => {
  const hardware = new AmdviHardware({ memory });
  return {
    read32: (offset) => hardware.readReg32(offset),
    write32: (offset, value) => hardware.writeReg32(offset, value),
    write64: (offset, lo, hi) => hardware.writeReg64(offset, lo, hi),
    translatePage: (...request) => hardware.translatePage(...request),
    takeFaults: () => takeFaults(hardware, memory),
  };
};
