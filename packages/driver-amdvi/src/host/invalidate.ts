import { COMMAND, INVALIDATE_IOMMU_PAGES } from '../spec/commands.ts';
import type { CommandBuffer } from './command-buffer.ts';
import { type CoverWords, coverWords, wholeDomain } from './page-cover.ts';

const { S, PDE } = INVALIDATE_IOMMU_PAGES.fields;
const OPCODE_SHIFT = 28;

/**
 * The invalidation commands of one unit by name. Each adds one command to the buffer's batch;
 * `submit` hands them over.
 *
 * @spec AMD IOMMU 2.4
 */
export class Invalidate {
  readonly #commands: CommandBuffer;

  constructor(commands: CommandBuffer) {
    this.#commands = commands;
  }

  /** The cached device table entry of a device. */
  deviceEntry(rid: number): void {
    this.#commands.push(rid, COMMAND.INVALIDATE_DEVTAB_ENTRY << OPCODE_SHIFT, 0, 0);
  }

  /**
   * Translations of a domain in a range of 4 KiB frames. @hot
   *
   * @param last inclusive
   * @param tables table entries changed too (PDE)
   */
  pages(domainId: number, start: number, last: number, tables: boolean): void {
    this.#pages(domainId, coverWords(start, last), tables);
  }

  /** All translations of a domain. */
  domain(domainId: number): void {
    this.#pages(domainId, wholeDomain(), true);
  }

  #pages(domainId: number, cover: CoverWords, tables: boolean): void {
    const flags = (cover.sized ? S.mask : 0) | (tables ? PDE.mask : 0);
    const opcode = COMMAND.INVALIDATE_IOMMU_PAGES << OPCODE_SHIFT;
    this.#commands.push(0, opcode | domainId, (cover.lo | flags) >>> 0, cover.hi);
  }

  /** Every cache of the unit. */
  all(): void {
    this.#commands.push(0, (COMMAND.INVALIDATE_IOMMU_ALL << OPCODE_SHIFT) >>> 0, 0, 0);
  }

  /** Hand over and wait. */
  submit(): void {
    this.#commands.submit();
  }
}
