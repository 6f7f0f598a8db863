/** The SMMUv3 as a case sees it: event queue read after every probe. */
import { decode, u64 } from '@iommukit/bits';
import type { CaseFault } from '../../../driver-amdvi/test/hardware-cases/case-file.ts';
import type { CaseMemory, CaseUnit } from '../../../driver-amdvi/test/hardware-cases/replay.ts';
import type { SmmuCapabilities } from '../../src/hardware/capabilities.ts';
import { SmmuHardware } from '../../src/hardware/iommu.ts';
import { EVENT, EVENT_CLASS, EVENT_RECORD } from '../../src/spec/index.ts';

const nameOf = (codes: Readonly<Record<string, number>>, code: number): string =>
  Object.entries(codes).find(([, value]) => value === code)?.[0] ?? `code ${code}`;

/** Decode one record of eight dwords as cases spell it. */
export const describeEvent = (words: Uint32Array): CaseFault => {
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

/** The machine that cases assume. */
export const caseCapabilities = (stage: unknown): SmmuCapabilities => ({
  idr0: { S1P: stage === '2' ? 0 : 1, S2P: stage === '1' ? 0 : 1 },
  idr1: { SSIDSIZE: 0 },
  idr5: { OAS: 4 },
});

const EVENTQ_BASE = 0xa0;
const EVENTQ_PROD = 0x100a8;
const EVENTQ_CONS = 0x100ac;

/** Build a unit over the memory of cases. */
export const createSmmuUnit = (ram: CaseMemory, capabilities: SmmuCapabilities): CaseUnit => {
  const { memory } = ram;
  // Cases assume a TLB that tags global pages with their ASID.
  const hardware = new SmmuHardware({ memory, capabilities, caches: { globalPages: false } });
  const words = new Uint32Array(8);
  const takeFaults = (): CaseFault[] => {
    const faults: CaseFault[] = [];
    const register = hardware.readReg32(EVENTQ_BASE);
    const lg2 = register & 31;
    const base = (register & ~31) >>> 0;
    const wrap = 2 ** (lg2 + 1) - 1;
    let cons = hardware.readReg32(EVENTQ_CONS) & wrap;
    while (cons !== (hardware.readReg32(EVENTQ_PROD) & wrap)) {
      const at = base + (cons & (wrap >>> 1)) * 32;
      ram.touched(at, 32);
      for (let word = 0; word < 8; word += 2) memory.read64(at + word * 4, words, word);
      faults.push(describeEvent(words));
      cons = (cons + 1) & wrap;
    }
    hardware.writeReg32(EVENTQ_CONS, cons);
    return faults;
  };
  return {
    takeFaults,
    read32: (offset) => hardware.readReg32(offset),
    write32: (offset, value) => hardware.writeReg32(offset, value),
    write64: (offset, lo, hi) => hardware.writeReg64(offset, lo, hi),
    translatePage: (...request) => hardware.translatePage(...request),
  };
};
