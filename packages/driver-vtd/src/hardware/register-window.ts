/**
 * The register space as software sees it: dword and qword accesses at byte offsets.
 *
 * @spec VT-d 11.2 (register access)
 */
import { hi32, lo32, u64 } from '@iommukit/bits';
import { CCMD, IOTLB } from '../spec/registers.ts';
import type { Features } from './capabilities.ts';
import type { RegisterFile } from './register-file.ts';

/** Accesses to a unit's registers; the unit acts on {@link written}. */
export abstract class RegisterWindow {
  readonly features: Features;
  /** The register file; tools only, software goes through {@link readReg32} and {@link writeReg32}. */
  readonly registers: RegisterFile;

  constructor(features: Features, registers: RegisterFile) {
    this.features = features;
    this.registers = registers;
  }

  /** Software writes an existing dword. */
  protected abstract written(offset: number, value: number): void;

  /**
   * Read a dword register.
   * @param offset bytes from the register base, a multiple of 4
   * @throws {RangeError} when the offset is no multiple of 4
   */
  readReg32(offset: number): number {
    checkAligned(offset, 4);
    return offset >= 0 && offset < this.registers.bytes ? this.registers.read(offset) : 0;
  }

  /**
   * Write a dword register, with its side effects.
   * @throws {RangeError} when the offset is no multiple of 4
   */
  writeReg32(offset: number, value: number): void {
    checkAligned(offset, 4);
    if (offset >= 0 && offset < this.registers.bytes) this.written(offset, value >>> 0);
  }

  /** Read two dwords. @throws {RangeError} when the offset is no multiple of 8 */
  readRegister64(offset: number): bigint {
    checkAligned(offset, 8);
    return u64(this.readReg32(offset), this.readReg32(offset + 4));
  }

  /**
   * Write two dwords; the one that starts something goes last.
   * @throws {RangeError} when the offset is no multiple of 8, or the value has more than 64 bits
   */
  writeRegister64(offset: number, value: number | bigint): void {
    checkAligned(offset, 8);
    const whole = BigInt(value);
    if (whole < 0n || whole >> 64n !== 0n)
      throw new RangeError(`register ${offset.toString(16)}h: ${value} does not have 64 bits`);
    const highLast = this.#startsInHighDword(offset);
    if (highLast) this.writeReg32(offset, lo32(whole));
    this.writeReg32(offset + 4, hi32(whole));
    if (!highLast) this.writeReg32(offset, lo32(whole));
  }

  /** Read a register of 4 or 8 bytes. */
  readRegister(offset: number, size: 4 | 8): number | bigint {
    return size === 8 ? this.readRegister64(offset) : this.readReg32(offset);
  }

  /** Write a register of 4 or 8 bytes. */
  writeRegister(offset: number, size: 4 | 8, value: number | bigint): void {
    if (size === 8) this.writeRegister64(offset, value);
    else this.writeReg32(offset, Number(value));
  }

  #startsInHighDword(offset: number): boolean {
    const { ivaOffset, frcdOffset, frcdCount } = this.features;
    if (offset === CCMD.offset || offset === ivaOffset + IOTLB.offset) return true;
    return offset >= frcdOffset && offset < frcdOffset + 16 * frcdCount;
  }
}

function checkAligned(offset: number, size: number): void {
  if (!Number.isInteger(offset) || offset % size !== 0)
    throw new RangeError(`register offset ${offset} is not a multiple of ${size}`);
}
