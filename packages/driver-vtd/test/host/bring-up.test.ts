import { HostMemory, Machine, type UnitHost } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import { createVtdHardware } from '../../src/hardware/index.ts';
import { type BringUpOptions, bringUp } from '../../src/host/bring-up.ts';
import {
  clearPasidPresent,
  PASID_ENTRY_WORDS,
  storePasidEntry,
} from '../../src/host/pasid-table.ts';
import { MessageGate } from '../../src/message-gate.ts';
import { RecordingUnit } from './recording-unit.ts';

const CAP = 0x91d2_078c_2278_0e06n;
const CAP_PLMR_PHMR = 0x60n;
const ECAP = 0x33_ed9e_a400_f0c7n;
const OPTIONS: BringUpOptions = { name: 'vtd0', index: 0, scalable: true, hostAddressBits: 46 };

const REG = {
  GCMD: 0x18,
  GSTS: 0x1c,
  RTADDR: 0x20,
  FSTS: 0x34,
  FECTL: 0x38,
  FEDATA: 0x3c,
  FEADDR: 0x40,
  FEUADDR: 0x44,
  PMEN: 0x64,
  IQT: 0x88,
  IQA: 0x90,
  PQH: 0xc0,
  PQT: 0xc8,
  PQA: 0xd0,
  PECTL: 0xe0,
  PEDATA: 0xe4,
  PEADDR: 0xe8,
  PEUADDR: 0xec,
} as const;

const GCMD = { TE: 0x8000_0000, SRTP: 0x4000_0000, QIE: 0x0400_0000 } as const;

const up = (cap = CAP, before?: (registers: RecordingUnit) => void, scalable = true) => {
  const machine = new Machine({ ramBytes: 16 << 20 });
  const registers = new RecordingUnit(cap, ECAP, machine.memory);
  before?.(registers);
  const host: UnitHost = { machine, reportPageFault: () => false, reportFault: () => {} };
  const parts = bringUp(registers, host, { ...OPTIONS, scalable });
  const writes = registers.log.flatMap((entry) =>
    entry.kind === 'register' ? [[entry.offset, entry.lo, entry.hi] as const] : [],
  );
  return { machine, registers, parts, writes };
};

describe('bring-up from reset', () => {
  it('VT-d 10: in this order, each register once', () => {
    const { writes, registers, parts } = up();
    const names = new Map<number, string>(Object.entries(REG).map(([name, at]) => [at, name]));
    const order = writes.map(([offset]) => names.get(offset) ?? 'FRCD');
    expect(order).toEqual([
      ...Array<string>(8).fill('FRCD'),
      'FSTS',
      ...['IQT', 'IQA', 'GCMD'],
      ...['RTADDR', 'GCMD'],
      ...['PQH', 'PQT', 'PQA', 'PEDATA', 'PEADDR', 'PEUADDR', 'PECTL'],
      ...['FEDATA', 'FEADDR', 'FEUADDR', 'FECTL'],
      'GCMD',
    ]);
    const commands = writes.filter(([offset]) => offset === REG.GCMD).map(([, lo]) => lo);
    expect(commands).toEqual([
      GCMD.QIE,
      GCMD.QIE + GCMD.SRTP,
      // GSTS shows QIES and RTPS; only the level is repeated, not the one-shot command.
      GCMD.TE + GCMD.QIE,
    ]);
    const rtaddr = writes.find(([offset]) => offset === REG.RTADDR);
    expect(rtaddr?.slice(1)).toEqual([(parts.tables.rootPa % 2 ** 32) + 0x400, 1]);
    expect(registers.read32(REG.IQA) & 0xfff).toBe(0x801);
    expect(registers.read32(REG.PQA) & 0xfff).toBe(4);
  });

  it('legacy mode: TTM 00, 128-bit descriptors, no page request queue', () => {
    const { writes, registers } = up(CAP, undefined, false);
    expect(writes.find(([offset]) => offset === REG.RTADDR)?.[1]).toSatisfy(
      (lo: number) => (lo & 0xc00) === 0,
    );
    expect(registers.read32(REG.IQA) & 0xfff).toBe(0);
    expect(writes.some(([offset]) => offset === REG.PQA)).toBe(false);
  });

  it('a unit left running by an earlier owner: TE off, then QIE off, then all from the start', () => {
    const { writes } = up(CAP, (registers) =>
      registers.values.set(REG.GSTS, GCMD.TE + GCMD.SRTP + GCMD.QIE),
    );
    const commands = writes.filter(([offset]) => offset === REG.GCMD).map(([, lo]) => lo);
    expect(commands.slice(0, 3)).toEqual([GCMD.QIE, 0, GCMD.QIE]);
  });

  it('VT-d 11.4.8: protected memory goes off before translation goes on', () => {
    const { writes } = up(CAP | CAP_PLMR_PHMR);
    const offsets = writes.map(([offset]) => offset);
    expect(offsets.indexOf(REG.PMEN)).toBe(offsets.length - 2);
    expect(offsets.at(-1)).toBe(REG.GCMD);
  });

  it('protected memory of firmware blocks nothing afterwards', () => {
    const machine = new Machine({ ramBytes: 16 << 20, ramBase: 0x100_0000 });
    const gate = new MessageGate(machine);
    const hardware = createVtdHardware({
      memory: machine.memory,
      bus: gate,
      capabilities: { cap: { PLMR: 1 } },
    });
    hardware.writeReg32(0x68, 0x100_0000);
    hardware.writeReg32(0x6c, 0x1ff_ffff);
    hardware.writeReg32(REG.PMEN, 0x8000_0000);
    expect(hardware.readReg32(REG.PMEN) & 1).toBe(1);
    const host: UnitHost = { machine, reportPageFault: () => false, reportFault: () => {} };
    bringUp(gate.registersOf(hardware), host, OPTIONS);
    expect(hardware.readReg32(REG.PMEN) & 1).toBe(0);
  });

  it('VT-d 11.4.4 (RWBF): the write buffer is flushed before SRTP', () => {
    const { writes } = up(CAP | 0x10n, undefined, false);
    const commands = writes.filter(([offset]) => offset === REG.GCMD).map(([, lo]) => lo);
    expect(commands).toEqual([
      GCMD.QIE,
      GCMD.QIE + 0x0800_0000,
      GCMD.QIE + GCMD.SRTP,
      GCMD.TE + GCMD.QIE,
    ]);
  });

  it('fault records of an earlier owner are thrown away, not reported', () => {
    const machine = new Machine({ ramBytes: 16 << 20 });
    const gate = new MessageGate(machine);
    const hardware = createVtdHardware({ memory: machine.memory, bus: gate });
    const reported: number[] = [];
    const host: UnitHost = {
      machine,
      reportPageFault: () => false,
      reportFault: ({ addressPfn }) => reported.push(addressPfn),
    };
    bringUp(gate.registersOf(hardware), host, OPTIONS);
    hardware.writeReg32(REG.FECTL, 0x8000_0000);
    hardware.translatePage(0x20, -1, 0x11, 1);
    expect(hardware.readReg32(REG.FSTS) & 2).toBe(2);
    bringUp(gate.registersOf(hardware), host, OPTIONS);
    expect(hardware.readReg32(REG.FSTS)).toBe(0);
    hardware.translatePage(0x20, -1, 0x22, 1);
    expect(reported).toEqual([0x22]);
  });

  it('gives up on a unit that does not answer', () => {
    const dead = (registers: RecordingUnit): void => {
      registers.write32 = () => {};
    };
    expect(() => up(CAP, dead)).toThrow(/EIO.*GSTS bit 26/);
  });

  it('says when RAM is too small', () => {
    const machine = new Machine({ ramBytes: 8 * 4096 });
    const host: UnitHost = { machine, reportPageFault: () => false, reportFault: () => {} };
    const registers = new RecordingUnit(CAP, ECAP, machine.memory);
    expect(() => bringUp(registers, host, OPTIONS)).toThrow(/ENOMEM.*page request queue/);
  });
});

describe('VT-d 9.6: entries are never seen half written', () => {
  const table = () => {
    const machine = new Machine({ ramBytes: 1 << 20 });
    const memory = new HostMemory(machine.memory);
    const pa = memory.alloc(1, 'test', 'a table');
    const stores: number[] = [];
    machine.memory.onWrite = (at) => stores.push(at - pa);
    return { memory, pa, stores };
  };
  const words = Uint32Array.from({ length: PASID_ENTRY_WORDS }, (_, i) => i * 2 + 1);

  it('absent to present: the 64 bits with P last', () => {
    const { memory, pa, stores } = table();
    storePasidEntry(memory, pa, words);
    expect(stores).toHaveLength(8);
    expect(stores.at(-1)).toBe(0);
    const read = new Uint32Array(PASID_ENTRY_WORDS);
    memory.loadWords(pa, read);
    expect(read).toEqual(words);
  });

  it('present to absent: only P changes at first', () => {
    const { memory, pa, stores } = table();
    storePasidEntry(memory, pa, words);
    stores.length = 0;
    clearPasidPresent(memory, pa, words);
    expect(stores).toEqual([0]);
    expect([memory.load32(pa), memory.load32(pa + 4)]).toEqual([0, words[1]]);
  });

  it('16 bytes are one store', () => {
    const { memory, pa, stores } = table();
    memory.store128(pa + 16, words, 4);
    expect(stores).toEqual([16]);
    expect([16, 20, 24, 28].map((at) => memory.load32(pa + at))).toEqual([...words.slice(4, 8)]);
  });
});
