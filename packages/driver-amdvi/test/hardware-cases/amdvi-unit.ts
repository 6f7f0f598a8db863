/** The AMD IOMMU as a case sees it: event log read after every probe. */
import { decode } from '@iommukit/bits';
import { AmdviHardware, type AmdviHardwareOptions } from '../../src/hardware/iommu.ts';
import { EVENT, EVENT_ENTRY } from '../../src/spec/index.ts';
import type { CaseFault } from './case-file.ts';
import type { CaseMemory, CaseUnit } from './replay.ts';

const nameOf = (code: number): string =>
  Object.entries(EVENT).find(([, value]) => value === code)?.[0] ?? `code ${code}`;

/** Flags that cases name. PE, which they leave out, is checked by the vectors. */
const CASE_FLAGS = ['GN', 'NX', 'US', 'I', 'PR', 'RW', 'RZ', 'TR'] as const;

/** Decode one event of four dwords as cases spell it. */
export const describeEvent = (words: Uint32Array): CaseFault => {
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

const HEAD = 0x2010;
const TAIL = 0x2018;

/** Build a unit over the memory of cases. */
export const createAmdviUnit = (
  ram: CaseMemory,
  options: Partial<AmdviHardwareOptions> = {},
): CaseUnit & { readonly hardware: AmdviHardware } => {
  const { memory } = ram;
  const hardware = new AmdviHardware({ memory, ...options });
  const words = new Uint32Array(4);
  const takeFaults = (): CaseFault[] => {
    const faults: CaseFault[] = [];
    const base = (hardware.readReg32(0x10) & ~0xfff) >>> 0;
    const bytes = 16 * 2 ** ((hardware.readReg32(0x14) >>> 24) & 15);
    let head = hardware.readReg32(HEAD);
    while (head !== hardware.readReg32(TAIL)) {
      ram.touched(base + head, 16);
      memory.read64(base + head, words, 0);
      memory.read64(base + head + 8, words, 2);
      faults.push(describeEvent(words));
      head = (head + 16) % bytes;
    }
    hardware.writeReg32(HEAD, head);
    return faults;
  };
  return {
    hardware,
    takeFaults,
    read32: (offset) => hardware.readReg32(offset),
    write32: (offset, value) => hardware.writeReg32(offset, value),
    write64: (offset, lo, hi) => hardware.writeReg64(offset, lo, hi),
    translatePage: (...request) => hardware.translatePage(...request),
  };
};
