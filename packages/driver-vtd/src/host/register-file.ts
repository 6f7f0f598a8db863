/**
 * The registers of one remapping unit, as the host half sees them: the only way into the hardware
 * beside physical memory.
 *
 * @spec VT-d 11.2: 32-bit registers take dword accesses, 64-bit ones aligned qword or two dword
 *   accesses
 */
export interface RegisterFile {
  /**
   * @param offset bytes from the start of the register page, a multiple of 4
   * @returns u32, unsigned
   */
  read32(offset: number): number;
  /** @param value low 32 bits count */
  write32(offset: number, value: number): void;
  /**
   * One qword access, which takes effect as a whole.
   *
   * @param offset a multiple of 8
   * @param lo bits 31:0
   * @param hi bits 63:32
   */
  write64(offset: number, lo: number, hi: number): void;
}
