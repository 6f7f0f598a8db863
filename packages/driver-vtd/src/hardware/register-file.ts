/**
 * Storage of the register page: values by dword, and what software may change of each.
 *
 * @spec VT-d 11.2 (access), 11.4 (registers)
 */
import type { Register } from '@iommukit/bits';
import * as registers from '../spec/registers.ts';
import type { Features } from './capabilities.ts';

const PAGE_BYTES = 4096;
const MTRR_FIRST = 0x120;
const MTRR_LAST = 0x218;
const RECORD_BYTES = 16;
const SSIRWE = registers.RTADDR.fields.SSIRWE.mask;
const EIME = registers.IRTA.fields.EIME.mask;

/** Dword index of a register by its offset. */
const at = (offset: number) => offset >>> 2;

/** Offsets of dwords whose fields survive a warm reset; the fault records do too. */
const STICKY = [
  registers.FSTS.offset,
  registers.ICS.offset,
  registers.IQERCD.offset,
  registers.IQERCD.offset + 4,
  registers.PRS.offset,
];

/** Registers that a unit lacks read as zero and drop writes. */
function isAbsent(register: Register, features: Features): boolean {
  const { name } = register;
  if (name === 'IVA' || name === 'IOTLB') return true;
  if (/^(IQ|IC|IE)/.test(name)) return !features.qi;
  if (name === 'IRTA') return !features.interruptRemapping;
  if (/^(PQ|PE|PRS$)/.test(name)) return !features.pageRequests;
  if (/^MTRR/.test(name)) return !features.memoryTypes;
  if (/^EC(MD|EO|RSP)$/.test(name)) return !features.enhancedCommands;
  if (/^VC/.test(name)) return !features.virtualCommands;
  if (name === 'RDTC') return !features.resourceDirector;
  if (name === 'PMEN') return !features.plmr && !features.phmr;
  if (/^PLM/.test(name)) return !features.plmr;
  return /^PHM/.test(name) && !features.phmr;
}

/** All fixed-offset registers of the specification. */
export const REGISTERS: readonly Register[] = Object.values(registers).filter(
  (value): value is Register & typeof value =>
    typeof value === 'object' && 'offset' in value && 'rwMask' in value,
) as unknown as readonly Register[];

/** Values and masks, one u32 each per dword of the register pages. */
export class RegisterFile {
  /** What each dword holds. */
  readonly values: Uint32Array;
  /** Bits that a write replaces. */
  readonly writable: Uint32Array;
  /** Bits that a written one clears. */
  readonly writeOneToClear: Uint32Array;
  /** Bits that read as zero. */
  readonly hidden: Uint32Array;
  /** Size of the register space in bytes. */
  readonly bytes: number;
  readonly #resets: Uint32Array;
  /** Dwords that a warm reset leaves alone. */
  readonly #sticky: readonly number[];

  constructor(features: Features) {
    const last = Math.max(
      PAGE_BYTES,
      features.frcdOffset + features.frcdCount * RECORD_BYTES,
      features.ivaOffset + RECORD_BYTES,
    );
    this.bytes = Math.ceil(last / PAGE_BYTES) * PAGE_BYTES;
    const dwords = this.bytes / 4;
    const { frcdOffset, frcdCount } = features;
    this.#sticky = [
      ...STICKY.map(at),
      ...Array.from({ length: frcdCount * 4 }, (_, i) => at(frcdOffset) + i),
    ];
    this.values = new Uint32Array(dwords);
    this.writable = new Uint32Array(dwords);
    this.writeOneToClear = new Uint32Array(dwords);
    this.hidden = new Uint32Array(dwords);
    this.#resets = new Uint32Array(dwords);
    for (const register of REGISTERS)
      if (!isAbsent(register, features)) this.#place(register, register.offset);
    this.#place(registers.IVA, features.ivaOffset);
    this.#place(registers.IOTLB, features.ivaOffset + registers.IOTLB.offset);
    if (features.memoryTypes) this.writable.fill(0xffff_ffff, at(MTRR_FIRST), at(MTRR_LAST) + 2);
    if (!features.ssIoRights) this.#drop(registers.RTADDR.offset, SSIRWE);
    if (!features.extendedInterrupts) this.#drop(registers.IRTA.offset, EIME);
    this.#placeCapabilities(features);
    this.values.set(this.#resets);
  }

  #place(register: { readonly words: number } & Register, offset: number): void {
    for (let half = 0; half < register.words; half++) {
      const index = at(offset) + half;
      this.writable[index] = (register.rwMask[half] as number) | (register.woMask[half] as number);
      this.writeOneToClear[index] = register.rw1cMask[half] as number;
      this.hidden[index] = register.woMask[half] as number;
      this.#resets[index] = register.reset[half] as number;
    }
  }

  /** A field that this unit lacks. */
  #drop(offset: number, bits: number): void {
    this.writable[at(offset)] = (this.writable[at(offset)] as number) & ~bits;
  }

  #placeCapabilities(features: Features): void {
    this.#resets[at(registers.VER.offset)] = features.ver;
    this.#resets[at(registers.CAP.offset)] = features.capLo;
    this.#resets[at(registers.CAP.offset) + 1] = features.capHi;
    this.#resets[at(registers.ECAP.offset)] = features.ecapLo;
    this.#resets[at(registers.ECAP.offset) + 1] = features.ecapHi;
    if (features.virtualCommands) this.#resets[at(registers.VCCAP.offset)] = 7;
  }

  /**
   * Every register to its reset value.
   * @param warm keep sticky fields: error and overflow status, and the records behind them
   */
  reset(warm: boolean): void {
    const { values } = this;
    const sticky = warm ? this.#sticky.map((index) => values[index] as number) : [];
    values.set(this.#resets);
    sticky.forEach((value, i) => {
      values[this.#sticky[i] as number] = value;
    });
  }

  /** What a dword holds. */
  get(offset: number): number {
    return this.values[offset >>> 2] as number;
  }

  /** Hardware's own write: any bit. */
  set(offset: number, value: number): void {
    this.values[offset >>> 2] = value;
  }

  /** Set and clear bits, as hardware. */
  change(offset: number, set: number, clear: number): void {
    this.values[offset >>> 2] = ((this.values[offset >>> 2] as number) & ~clear) | set;
  }

  /** What software reads. */
  read(offset: number): number {
    return ((this.values[offset >>> 2] as number) & ~(this.hidden[offset >>> 2] as number)) >>> 0;
  }

  /** What software writes; returns what the dword holds then. */
  write(offset: number, value: number): number {
    const index = offset >>> 2;
    const old = this.values[index] as number;
    const writable = this.writable[index] as number;
    const cleared = (this.writeOneToClear[index] as number) & value;
    const result = (((old & ~writable) | (value & writable)) & ~cleared) >>> 0;
    this.values[index] = result;
    return result;
  }
}
