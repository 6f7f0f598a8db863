/**
 * The registers of one unit as the host half sees them: the only way into the hardware beside
 * physical memory.
 */
export interface RegisterFile {
  /**
   * @param offset bytes from the start of the register page, a multiple of 4
   * @returns u32, unsigned
   */
  readReg32(offset: number): number;
  /** @param value low 32 bits count */
  writeReg32(offset: number, value: number): void;
  /**
   * One qword access, which takes effect as a whole.
   *
   * @param offset a multiple of 8
   * @param lo bits 31:0
   * @param hi bits 63:32
   */
  writeReg64(offset: number, lo: number, hi: number): void;
}
