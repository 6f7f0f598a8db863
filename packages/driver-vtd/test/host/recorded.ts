/**
 * Commands that this hardware model would forgive, because it caches less than the architecture
 * allows: what is sent is compared with what the specification asks for.
 */
import { Machine, type TranslationAgent, type UnitHost } from '@iommukit/core';
import { createPoolIn } from '@iommukit/pgtable-fast';
import { expect } from 'vitest';
import { createVtdHardware, LEGACY_PROFILE } from '../../src/hardware/index.ts';
import { bringUp } from '../../src/host/bring-up.ts';
import type { RegisterFile } from '../../src/host/register-file.ts';
import { VtdUnit } from '../../src/host/unit.ts';
import { vtd } from '../../src/index.ts';
import { MessageGate } from '../../src/message-gate.ts';
import { HWPT, map, reach, SVA_DEVICE, stampedPage, watch } from './fixture.ts';
import { RecordingUnit } from './recording-unit.ts';

const CAP = 0x91d2_078c_2278_0e06n;
const ECAP = 0x33_ed9e_a400_f0c7n;
const CAP_CM = 1n << 7n;
const CAP_ESRTPS = 1n << 63n;

const NO_AGENT: TranslationAgent = { translatePage: () => -1 };
const HOST_OPTIONS = {
  firstStageByDefault: true,
  strictReserved: false,
  erratum772415: true,
  rmrrs: [],
};

const hostOf = (machine: Machine): UnitHost => ({
  machine,
  reportPageFault: () => false,
  reportFault: () => {},
});

/** The host half on a register page of anybody's. */
const hostHalf = (
  machine: Machine,
  registers: RegisterFile,
  scalable: boolean,
  agent: TranslationAgent = NO_AGENT,
): VtdUnit => {
  const pool = createPoolIn(machine.memory, 46);
  const parts = bringUp(registers, hostOf(machine), {
    name: 'vtd0',
    index: 0,
    scalable,
    hostAddressBits: 46,
  });
  return new VtdUnit(vtd(), agent, parts, pool, HOST_OPTIONS);
};

const recorded = (cap: bigint, scalable: boolean) => {
  const machine = new Machine({ ramBytes: 16 << 20 });
  const registers = new RecordingUnit(cap, ECAP, machine.memory);
  const device = machine.addEndpoint(SVA_DEVICE);
  return { machine, registers, device, unit: hostHalf(machine, registers, scalable) };
};

const sent = (registers: RecordingUnit, from: number): string[] =>
  registers.descriptors(from).map(([qw0]) => (qw0 as bigint).toString(16));

const RID = 0x28n;

/** What {@link RecordingUnit} saw, against the specification. */
export const RECORDED: Readonly<Record<string, () => void>> = {
  'VT-d 6.6: global invalidations after SRTP without ESRTPS': () => {
    expect(sent(recorded(CAP & ~CAP_ESRTPS, true).registers, 0)).toEqual(['11', '37', 'd2']);
    expect(sent(recorded(CAP & ~CAP_ESRTPS, false).registers, 0)).toEqual(['11', 'd2']);
    expect(sent(recorded(CAP, true).registers, 0)).toEqual([]);
  },

  'VT-d 6.1: caching mode hears of every entry that appears': () => {
    const { registers, unit, device } = recorded(CAP | CAP_CM, true);
    let from = registers.log.length;
    unit.probeDevice(device);
    expect(sent(registers, from)).toEqual([((RID << 32n) | 0x31n).toString(16)]);
    from = registers.log.length;
    const domain = unit.allocPaging(device, { flags: HWPT.PASID });
    unit.attach(device, 5, domain);
    expect(sent(registers, from)).toEqual(['37', '500000017', '500020017', '500020026']);
    from = registers.log.length;
    unit.releaseDevice(device);
    expect(sent(registers, from).slice(-2)).toEqual([((RID << 32n) | 0x31n).toString(16), '37']);
  },

  'VT-d 6.1: caching mode in legacy mode': () => {
    const { registers, unit, device } = recorded(CAP | CAP_CM, false);
    unit.probeDevice(device);
    const from = registers.log.length;
    unit.attach(device, -1, unit.allocPaging(device, { flags: 0 }));
    expect(sent(registers, from)).toEqual([((RID << 32n) | 0x31n).toString(16), '200e2']);
  },

  'a second owner takes over a running unit': () => {
    const machine = new Machine({ ramBytes: 16 << 20 });
    const device = machine.addEndpoint(SVA_DEVICE);
    const gate = new MessageGate(machine);
    const hardware = createVtdHardware({
      memory: machine.memory,
      bus: gate,
      capabilities: LEGACY_PROFILE,
      sanitize: watch.hardware !== undefined,
    });
    watch.hardware?.push(hardware);
    device.agent = hardware;
    const pages = [stampedPage(machine), stampedPage(machine)] as const;
    const takeOver = (page: number): void => {
      const unit = hostHalf(machine, gate.registersOf(hardware), false, hardware);
      unit.probeDevice(device);
      expect(reach(device, 0x100)).toBe(-1);
      const domain = unit.allocPaging(device, { flags: 0 });
      map(domain, 0x100, page);
      unit.attach(device, -1, domain);
      expect(reach(device, 0x100)).toBe(page);
    };
    takeOver(pages[0]);
    takeOver(pages[1]);
  },
};
