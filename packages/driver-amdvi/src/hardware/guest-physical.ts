/**
 * Guest physical addresses on their way to memory: through the host table when the device table
 * entry has one, unchanged otherwise.
 *
 * @spec AMD IOMMU 2.2.6.2 (nested translation)
 */
import { type HostTableWalker, RIGHT, WALK } from './host-table-walker.ts';

const PAGE_BYTES = 4096;

/** The host stage below a guest walk; how it refused last stands in its fields. */
export class GuestPhysical {
  /** Host table, byte address. */
  root = 0;
  /** Its levels; 0 = guest physical addresses are system physical. */
  mode = 0;
  /** DTE.HAD. */
  had = 0;
  /** One of {@link WALK}: how the host walk ended. */
  result: number = WALK.OK;
  /** What it was asked for: 4 KiB frame, byte offset, and whether it was a write. */
  pfn = 0;
  offset = 0;
  write = false;
  readonly #host: HostTableWalker;

  constructor(host: HostTableWalker) {
    this.#host = host;
  }

  /**
   * System physical address of an entry that is read, or written to set its bits. @hot
   *
   * @param gpa byte address
   * @returns byte address, or -1 when the host table refuses
   */
  toSystem(gpa: number, write: boolean): number {
    if (this.mode === 0) return gpa;
    const offset = gpa % PAGE_BYTES;
    const result = this.page((gpa - offset) / PAGE_BYTES, offset, write ? RIGHT.W : RIGHT.R, write);
    return result === WALK.OK ? this.#host.pfn * PAGE_BYTES + offset : -1;
  }

  /**
   * Walk for a page; the walker's fields hold the result. @hot
   *
   * @param need rights that the host table must give
   * @param write owe the host's dirty bit
   */
  page(pfn: number, offset: number, need: number, write: boolean): number {
    const result = this.#host.walk(this.root, this.mode, pfn, need, write, this.had);
    this.result = result;
    if (result !== WALK.OK) {
      this.pfn = pfn;
      this.offset = offset;
      this.write = write;
    }
    return result;
  }
}
