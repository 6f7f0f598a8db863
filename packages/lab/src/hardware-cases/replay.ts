/**
 * Runs a case against the hardware half of a unit, through its registers and memory alone, as a
 * guest would.
 */
import { ACCESS, NO_PASID, parseRid } from '@iommukit/core';
import { type CaseFault, type CaseStep, type HardwareCase, stepsOf } from './case-file.ts';
import type { CaseMemory } from './case-memory.ts';

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
  readonly results: Record<string, unknown>[];
  readonly memory: { readonly id: string; readonly hex: string }[];
}

const PAGE = 4096n;

const hexOf = (value: number | bigint): string => `0x${value.toString(16)}`;

const bytesOf = ({ hex, q = [] }: CaseStep): Uint8Array => {
  if (hex !== undefined) return Uint8Array.from(Buffer.from(hex, 'hex'));
  const bytes = Buffer.alloc(q.length * 8);
  q.forEach((word, at) => {
    bytes.writeBigUInt64LE(BigInt(word), at * 8);
  });
  return Uint8Array.from(bytes);
};

/** Run every step of a case in order. */
export const replayCase = (item: HardwareCase, memory: CaseMemory, unit: CaseUnit): CaseOutcome => {
  const outcome: CaseOutcome = { results: [], memory: [] };
  for (const step of stepsOf(item)) runStep(step, memory, unit, outcome);
  return outcome;
};

const runStep = (
  step: CaseStep,
  memory: CaseMemory,
  unit: CaseUnit,
  outcome: CaseOutcome,
): void => {
  switch (step.op) {
    case 'mem':
      memory.write(Number(step.addr), bytesOf(step));
      return;
    case 'reg':
      writeRegister(unit, step);
      return;
    case 'check_reg':
      checkRegister(unit, step, outcome);
      return;
    case 'read_mem': {
      const bytes = memory.read(Number(step.addr), Number(step.len ?? 4));
      outcome.memory.push({ id: step.id ?? '', hex: Buffer.from(bytes).toString('hex') });
      return;
    }
    case 'probe':
      outcome.results.push(probe(unit, memory, step));
      return;
    default:
      throw new RangeError(
        `a case step is mem, reg, check_reg, read_mem or probe, not '${step.op}'`,
      );
  }
};

const writeRegister = (unit: CaseUnit, { off, size = 4, value = 0 }: CaseStep): void => {
  const wide = BigInt(value);
  const lo = Number(wide & 0xffff_ffffn);
  if (size === 4) unit.write32(Number(off), lo);
  else unit.write64(Number(off), lo, Number(wide >> 32n));
};

const checkRegister = (unit: CaseUnit, step: CaseStep, outcome: CaseOutcome): void => {
  const off = Number(step.off);
  let value = BigInt(unit.read32(off));
  if (step.size === 8) value |= BigInt(unit.read32(off + 4)) << 32n;
  if (step.mask !== undefined) value &= BigInt(step.mask);
  if (value === BigInt(step.value ?? 0)) return;
  outcome.results.push({ id: step.id ?? `check_reg ${hexOf(off)}`, value: hexOf(value) });
};

/** One DMA of a device, page by page. A `pa` counts only when something answers there. */
const probe = (unit: CaseUnit, memory: CaseMemory, step: CaseStep): Record<string, unknown> => {
  const before = unit.takeFaults();
  const { ok, segments } = translateSpan(unit, memory, step);
  const faults = unit.takeFaults();
  return {
    ...(step.id !== undefined && { id: step.id }),
    ok,
    faults,
    ...(ok && { pa: segments[0] }),
    ...(segments.length > 1 && { segments }),
    ...(before.length > 0 && { before }),
  };
};

const translateSpan = (
  unit: CaseUnit,
  memory: CaseMemory,
  step: CaseStep,
): { ok: boolean; segments: string[] } => {
  const rid = parseRid(step.bdf ?? '00:04.0');
  const pasid = step.pasid === undefined ? NO_PASID : Number(step.pasid);
  const access = step.write === true ? ACCESS.WRITE : ACCESS.READ;
  const iova = BigInt(step.iova ?? 0);
  const end = iova + BigInt(step.len ?? 4);
  const segments: string[] = [];
  for (let at = iova; at < end; at = (at / PAGE + 1n) * PAGE) {
    const offset = Number(at % PAGE);
    const frame = unit.translatePage(rid, pasid, Number(at / PAGE), access, offset);
    const pa = frame * 4096 + offset;
    if (frame < 0 || memory.regionAt(pa) === undefined) return { ok: false, segments };
    segments.push(hexOf(pa));
  }
  return { ok: true, segments };
};
