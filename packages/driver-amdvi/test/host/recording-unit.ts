/**
 * A register page that records instead of translating: commands are read out of the ring and their
 * waits executed. For tests of encodings, of the order of stores and commands, and of units whose
 * registers say something else.
 */
import {
  type IommuDriver,
  Machine,
  type MachineOptions,
  type PageFault,
  type TranslationAgent,
  type UnitDevice,
  type UnrecoverableFault,
} from '@iommukit/core';
import { createPoolIn } from '@iommukit/pgtable-fast';
import { bringUp } from '../../src/host/bring-up.ts';
import type { RegisterFile } from '../../src/host/register-file.ts';
import { AmdviUnit, type HostOptions } from '../../src/host/unit.ts';

/** Offsets that the recorder acts on. */
const AT = { CMD_BUF_BASE: 0x8, CMD_BUF_HEAD: 0x2000, CMD_BUF_TAIL: 0x2008, STATUS: 0x2020 };
const EFR = 0x30;
const EFR2 = 0x1a0;
const CMD_BUF_RUN = 16;
const COMPLETION_WAIT = 1n;

/** Everything the host half makes use of: guest tables of five levels, PASIDs, page requests. */
export const GUEST_EFR = 0x0017_40f3_0000_9852n;
/** The same with guest tables of four levels. */
export const GUEST_EFR_4 = GUEST_EFR & ~0x3000n;
/** GCR3TRPModeSup, HtRangeIgnore. */
const GUEST_EFR2 = 0x808n;

export type Access =
  | { readonly kind: 'register'; readonly offset: number; readonly value: bigint }
  | { readonly kind: 'memory'; readonly pa: number; readonly bytes: number }
  | { readonly kind: 'command'; readonly qw0: bigint; readonly qw1: bigint };

const u64 = (lo: number, hi: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);

class RecordingUnit implements RegisterFile {
  readonly machine: Machine;
  readonly log: Access[] = [];
  /** u32 by offset. */
  readonly values = new Map<number, number>();
  /** Called after every store to memory. */
  onStore: ((pa: number) => void) | undefined;
  #head = 0;

  constructor(efr: bigint, efr2: bigint, options: MachineOptions = {}) {
    this.machine = new Machine(options);
    this.#set64(EFR, efr);
    this.#set64(EFR2, efr2);
    this.values.set(AT.STATUS, CMD_BUF_RUN);
    this.machine.memory.onWrite = (pa, bytes) => {
      this.log.push({ kind: 'memory', pa, bytes });
      this.onStore?.(pa);
    };
  }

  readReg32(offset: number): number {
    if (offset === AT.CMD_BUF_HEAD) return this.#head;
    return (this.values.get(offset) ?? 0) >>> 0;
  }

  writeReg32(offset: number, value: number): void {
    this.log.push({ kind: 'register', offset, value: BigInt(value >>> 0) });
    if (offset === AT.STATUS) {
      this.values.set(offset, (this.readReg32(offset) & ~value) | CMD_BUF_RUN);
    } else this.values.set(offset, value);
  }

  writeReg64(offset: number, lo: number, hi: number): void {
    this.log.push({ kind: 'register', offset, value: u64(lo, hi) });
    this.values.set(offset, lo);
    this.values.set(offset + 4, hi);
    if (offset === AT.CMD_BUF_BASE) this.#head = 0;
    if (offset === AT.CMD_BUF_TAIL) this.#run();
  }

  /** 64 bits of memory. */
  qword(pa: number): bigint {
    return u64(this.machine.memory.read32(pa), this.machine.memory.read32(pa + 4));
  }

  /** A device's entry, four qwords. */
  entry(rid: number): bigint[] {
    const base = this.readReg32(4) * 2 ** 32 + ((this.readReg32(0) & 0xffff_f000) >>> 0);
    return [0, 8, 16, 24].map((at) => this.qword(base + rid * 32 + at));
  }

  /** Address of a device's entry. */
  entryPa(rid: number): number {
    return this.readReg32(4) * 2 ** 32 + ((this.readReg32(0) & 0xffff_f000) >>> 0) + rid * 32;
  }

  /** Commands since `log` had `from` entries, waits left out. */
  commands(from = 0): string[] {
    return this.log
      .slice(from)
      .flatMap((entry) => (entry.kind === 'command' ? [entry] : []))
      .filter(({ qw0 }) => qw0 >> 60n !== COMPLETION_WAIT)
      .map(({ qw0, qw1 }) => `${hex(qw0)} ${hex(qw1)}`);
  }

  #set64(offset: number, value: bigint): void {
    this.values.set(offset, Number(value & 0xffff_ffffn));
    this.values.set(offset + 4, Number(value >> 32n));
  }

  #run(): void {
    const hi = this.readReg32(AT.CMD_BUF_BASE + 4);
    const lo = this.readReg32(AT.CMD_BUF_BASE);
    const base = (hi & 0xf_ffff) * 2 ** 32 + ((lo & 0xffff_f000) >>> 0);
    const size = 16 * 2 ** ((hi >>> 24) & 0xf);
    while (this.#head !== this.readReg32(AT.CMD_BUF_TAIL)) {
      this.#execute(base + this.#head);
      this.#head = (this.#head + 16) % size;
    }
  }

  #execute(pa: number): void {
    const qw0 = this.qword(pa);
    const qw1 = this.qword(pa + 8);
    this.log.push({ kind: 'command', qw0, qw1 });
    if (qw0 >> 60n !== COMPLETION_WAIT || (qw0 & 1n) === 0n) return;
    const target = Number(qw0 & 0x000f_ffff_ffff_fff8n);
    this.machine.memory.write64(target, Number(qw1 & 0xffff_ffffn), Number(qw1 >> 32n));
  }
}

const hex = (value: bigint): string => value.toString(16).padStart(16, '0');

const DRIVER = { name: 'recorded', hwInfoType: 4 } as IommuDriver;
const AGENT = { translatePage: () => -1 } as TranslationAgent;

export interface RecordedOptions extends Partial<HostOptions> {
  readonly efr?: bigint;
  readonly efr2?: bigint;
  readonly iotlbSup?: boolean;
  readonly npCache?: boolean;
  readonly pasidPageRequestsOnly?: boolean;
}

/** A host half over a recorder. */
export const recorded = (options: RecordedOptions = {}) => {
  const registers = new RecordingUnit(options.efr ?? GUEST_EFR, options.efr2 ?? GUEST_EFR2);
  const { machine } = registers;
  const faults: UnrecoverableFault[] = [];
  const pageFaults: PageFault[] = [];
  const host = {
    machine,
    reportPageFault: (_device: UnitDevice, fault: PageFault) => pageFaults.push(fault) > 0,
    reportFault: (fault: UnrecoverableFault) => {
      faults.push(fault);
    },
  };
  const parts = bringUp(registers, host, {
    name: 'recorded0',
    index: 0,
    firmware: {
      hostAddressBits: 48,
      iotlbSup: options.iotlbSup ?? true,
      npCache: options.npCache ?? false,
    },
    pasidPageRequestsOnly: options.pasidPageRequestsOnly ?? false,
  });
  const unit = new AmdviUnit(DRIVER, AGENT, parts, createPoolIn(machine.memory, 48), {
    guestTablesByDefault: options.guestTablesByDefault ?? false,
    emptyViommus: options.emptyViommus ?? false,
    unityMaps: options.unityMaps ?? [],
  });
  const device: UnitDevice = { name: 'nic', rid: 0x108, pasidBits: 20, ats: true, pri: true };
  unit.probeDevice(device);
  return { registers, machine, parts, unit, device, faults, pageFaults };
};
