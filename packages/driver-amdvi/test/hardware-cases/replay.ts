/**
 * Runs a case against the hardware half of a unit, through its registers and memory alone, as a
 * guest would.
 */
import { PhysicalMemory, parseRid } from '@iommukit/core';
import { type CaseFault, type HardwareCase, type ProbeResult, stepsOf } from './case-file.ts';

/** A unit as a case sees it. */
export interface CaseUnit {
  read32(offset: number): number;
  write32(offset: number, value: number): void;
  write64(offset: number, lo: number, hi: number): void;
  /** @returns 4 KiB frame, or negative when refused */
  translatePage(rid: number, pasid: number, pfn: number, access: number, offset: number): number;
  /** Take the fault records that were written since the last call, decoded. */
  takeFaults(): CaseFault[];
}

/** What a replay gave, in the shape of `expect`. */
export interface CaseOutcome {
  readonly results: (ProbeResult | { readonly id: string; readonly value: string })[];
  readonly memory: { readonly id: string; readonly hex: string }[];
}

const RAM = { base: 0x4000_0000, size: 0x4000_0000 } as const;
const FILLED = { base: 0x4800_0000, size: 0x0100_0000 } as const;
const ACCESS = { READ: 1, WRITE: 2 } as const;
const PAGE = 4096n;

const hexOf = (value: bigint): string => `0x${value.toString(16)}`;

/** RAM of the machine that cases assume, made once and cleaned between cases. */
export class CaseMemory {
  readonly memory = new PhysicalMemory();
  readonly #region = this.memory.addRegion({ name: 'ram', ...RAM });
  readonly #written = new Set<number>();

  constructor() {
    for (let at = 0; at < FILLED.size; at += 4) this.#fillWord(FILLED.base + at);
    this.memory.onWrite = (pa, length) => this.#note(pa, length);
  }

  /** Put everything back that was written; `extra` names pages written behind `memory`'s back. */
  clean(): void {
    for (const page of this.#written) {
      const at = page * 4096 - RAM.base;
      this.#region.u8.fill(0, at, at + 4096);
      const pa = page * 4096;
      if (pa < FILLED.base || pa >= FILLED.base + FILLED.size) continue;
      for (let word = 0; word < 4096; word += 4) this.#fillWord(pa + word);
    }
    this.#written.clear();
  }

  /** Note pages that hardware wrote. */
  touched(pa: number, length: number): void {
    this.#note(pa, length);
  }

  #fillWord(pa: number): void {
    this.#region.i32[(pa - RAM.base) >>> 2] = 0xa000_0000 | ((pa - RAM.base) >>> 2);
  }

  #note(pa: number, length: number): void {
    const last = Math.floor((pa + length - 1) / 4096);
    for (let page = Math.floor(pa / 4096); page <= last; page++) this.#written.add(page);
  }
}

const bytesOf = (step: { hex?: string; q?: readonly (number | string)[] }): Uint8Array => {
  if (step.hex !== undefined) return Uint8Array.from(Buffer.from(step.hex, 'hex'));
  const words = step.q ?? [];
  const bytes = Buffer.alloc(words.length * 8);
  words.forEach((word, at) => {
    bytes.writeBigUInt64LE(BigInt(word), at * 8);
  });
  return Uint8Array.from(bytes);
};

/** Run every step of a case in order. */
export const replayCase = (item: HardwareCase, ram: CaseMemory, unit: CaseUnit): CaseOutcome => {
  const outcome: CaseOutcome = { results: [], memory: [] };
  for (const step of stepsOf(item)) {
    switch (step.op) {
      case 'mem':
        ram.memory.copyIn(Number(step.addr), bytesOf(step));
        break;
      case 'reg':
        writeRegister(unit, Number(step.off), step.size ?? 4, BigInt(step.value ?? 0));
        break;
      case 'check_reg':
        checkRegister(unit, step, outcome);
        break;
      case 'read_mem': {
        const bytes = new Uint8Array(step.len ?? 0);
        ram.memory.copyOut(Number(step.addr), bytes);
        outcome.memory.push({ id: step.id ?? '', hex: Buffer.from(bytes).toString('hex') });
        break;
      }
      case 'probe':
        outcome.results.push(probe(unit, ram, step));
    }
  }
  return outcome;
};

const writeRegister = (unit: CaseUnit, off: number, size: number, value: bigint): void => {
  const lo = Number(value & 0xffff_ffffn);
  if (size === 4) unit.write32(off, lo);
  else unit.write64(off, lo, Number(value >> 32n));
};

const checkRegister = (
  unit: CaseUnit,
  step: { off?: unknown; size?: number; mask?: unknown; value?: unknown; id?: string },
  outcome: CaseOutcome,
): void => {
  const off = Number(step.off);
  let value = BigInt(unit.read32(off));
  if (step.size === 8) value |= BigInt(unit.read32(off + 4)) << 32n;
  if (step.mask !== undefined) value &= BigInt(step.mask as string);
  if (value === BigInt(step.value as string)) return;
  outcome.results.push({ id: step.id ?? `register ${hexOf(BigInt(off))}`, value: hexOf(value) });
};

/** One DMA of a device. The `pa` counts only when something answers there. */
const probe = (
  unit: CaseUnit,
  ram: CaseMemory,
  step: { id?: string; bdf?: string; iova?: number | string; write?: boolean; pasid?: number },
): ProbeResult => {
  const iova = BigInt(step.iova ?? 0);
  const access = step.write === true ? ACCESS.WRITE : ACCESS.READ;
  const offset = Number(iova % PAGE);
  const rid = parseRid(step.bdf ?? '');
  // Records that register writes since the previous probe caused.
  const before = unit.takeFaults();
  const frame = unit.translatePage(rid, step.pasid ?? -1, Number(iova / PAGE), access, offset);
  const faults = unit.takeFaults();
  const id = step.id === undefined ? {} : { id: step.id };
  if (frame < 0) return { ...id, ok: false, faults, before };
  const pa = frame * 4096 + offset;
  const answers = ram.memory.regionAt(pa) !== undefined;
  return { ...id, ok: answers, faults, before, ...(answers ? { pa: hexOf(BigInt(pa)) } : {}) };
};
