/** An SMMUv3 as a case sees it: the event queue is read around every probe. */
import { decode, u64 } from '@iommukit/bits';
import { EVENT, EVENT_CLASS, EVENT_RECORD, SmmuHardware } from '@iommukit/driver-smmuv3';
import type { CaseFault, HardwareCase } from './case-file.ts';
import type { CaseMemory } from './case-memory.ts';
import type { CaseUnit } from './replay.ts';

const EVENTQ_BASE = 0xa0;
const EVENTQ_PROD = 0x100a8;
const EVENTQ_CONS = 0x100ac;
const RECORD_BYTES = 32;

const nameOf = (codes: Readonly<Record<string, number>>, code: number): string =>
  Object.entries(codes).find(([, value]) => value === code)?.[0] ?? `code ${code}`;

const describeEvent = (words: Uint32Array): CaseFault => {
  const event = decode(EVENT_RECORD, words);
  return {
    name: nameOf(EVENT, event.CODE),
    type: event.CODE,
    bdf: event.SID,
    iova: `0x${u64(words[4] as number, words[5] as number).toString(16)}`,
    ipa: `0x${event.IPA.toString(16)}`,
    stage: event.S2 + 1,
    cls: nameOf(EVENT_CLASS, event.CLASS),
    write: event.RNW === 0,
    stall: event.STALL === 1,
  };
};

const takeFaults = (hardware: SmmuHardware, memory: CaseMemory): CaseFault[] => {
  const faults: CaseFault[] = [];
  const register = hardware.readReg32(EVENTQ_BASE);
  const lg2 = register & 31;
  const base = (register & ~31) >>> 0;
  const wrap = 2 ** (lg2 + 1) - 1;
  let cons = hardware.readReg32(EVENTQ_CONS) & wrap;
  while (cons !== (hardware.readReg32(EVENTQ_PROD) & wrap)) {
    faults.push(describeEvent(memory.readWords(base + (cons & (wrap >>> 1)) * RECORD_BYTES, 8)));
    cons = (cons + 1) & wrap;
  }
  hardware.writeReg32(EVENTQ_CONS, cons);
  return faults;
};

/** Build the unit of a case. */
export const createSmmuUnit = ({ model = {} }: HardwareCase, memory: CaseMemory): CaseUnit => {
  const stage = model['stage'];
  const hardware = new SmmuHardware({
    memory,
    capabilities: {
      idr0: { S1P: stage === '2' ? 0 : 1, S2P: stage === '1' ? 0 : 1 },
      idr1: { SSIDSIZE: 0 },
      idr5: { OAS: 4 },
    },
    // Cases assume a TLB that tags global pages with their ASID.
    caches: { globalPages: false },
  });
  return {
    read32: (offset) => hardware.readReg32(offset),
    write32: (offset, value) => hardware.writeReg32(offset, value),
    write64: (offset, lo, hi) => hardware.writeReg64(offset, lo, hi),
    translatePage: (...request) => hardware.translatePage(...request),
    takeFaults: () => takeFaults(hardware, memory),
  };
};
