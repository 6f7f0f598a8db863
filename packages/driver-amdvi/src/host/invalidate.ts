import { COMMAND, INVALIDATE_IOMMU_PAGES } from '../spec/commands.ts';
import type { CommandBuffer } from './command-buffer.ts';
import { type CoverWords, coverWords, wholeDomain } from './page-cover.ts';

const { S, PDE, GN } = INVALIDATE_IOMMU_PAGES.fields;
const OPCODE_SHIFT = 28;
/** Invalidations that a device takes at once: the most that its ATS capability can announce. */
const MAX_PEND = 32;

/** The tag of translations that go through host tables alone, or through anything of a domain. */
export const NO_GUEST = -1;

/**
 * The commands of one unit by name. Each adds one command to the buffer's batch; `submit` hands
 * them over.
 *
 * Tags are a DomainID and a PASID; {@link NO_GUEST} in its place means GN=0: translations of host
 * tables, and everything nested over them.
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
   * Translations of a range of 4 KiB frames. @hot
   *
   * @param pasid 20 bits, or {@link NO_GUEST}
   * @param last inclusive
   * @param tables table entries changed too (PDE)
   */
  pages(domainId: number, pasid: number, start: number, last: number, tables: boolean): void {
    this.cover(domainId, pasid, coverWords(start, last), tables);
  }

  /** All translations of a tag. */
  domain(domainId: number, pasid: number = NO_GUEST): void {
    this.cover(domainId, pasid, wholeDomain(), true);
  }

  /**
   * A range in the device's own TLB.
   *
   * @param pasid 20 bits, or -1 for entries without PASID
   */
  devicePages(rid: number, pasid: number, start: number, last: number): void {
    this.deviceCover(rid, pasid, coverWords(start, last));
  }

  /** Everything of a PASID, or everything without PASID, in the device's own TLB. */
  deviceTlb(rid: number, pasid: number): void {
    this.deviceCover(rid, pasid, wholeDomain());
  }

  /**
   * Answer a group of page requests.
   *
   * @param pasid 20 bits, or -1
   * @param prgi 9 bits
   * @param code 0 success, 1 invalid request, 15 failure
   * @spec AMD IOMMU 2.4.7
   */
  completePpr(rid: number, pasid: number, prgi: number, code: number): void {
    const guest = pasid >= 0;
    const opcode = COMMAND.COMPLETE_PPR_REQUEST << OPCODE_SHIFT;
    this.#commands.push(
      rid,
      opcode | (guest ? pasid : 0),
      guest ? GN.mask : 0,
      (code << PPR_CODE_SHIFT) | prgi,
    );
  }

  /**
   * Every cache of the unit.
   *
   * @param atOnce the unit has INVALIDATE_IOMMU_ALL; else one by one
   */
  everything(atOnce: boolean): void {
    if (atOnce) {
      this.#commands.push(0, (COMMAND.INVALIDATE_IOMMU_ALL << OPCODE_SHIFT) >>> 0, 0, 0);
      return;
    }
    for (let id = 0; id < 0x1_0000; id++) {
      this.deviceEntry(id);
      this.domain(id);
    }
  }

  /** Hand over and wait. */
  submit(): void {
    this.#commands.submit();
  }

  /** As {@link Invalidate.pages}, of a range as a command names it. */
  cover(domainId: number, pasid: number, cover: CoverWords, tables: boolean): void {
    const guest = pasid !== NO_GUEST;
    const flags = (cover.sized ? S.mask : 0) | (tables ? PDE.mask : 0) | (guest ? GN.mask : 0);
    const opcode = COMMAND.INVALIDATE_IOMMU_PAGES << OPCODE_SHIFT;
    this.#commands.push(guest ? pasid : 0, opcode | domainId, (cover.lo | flags) >>> 0, cover.hi);
  }

  /**
   * As {@link Invalidate.devicePages}, of a range as a command names it. The PASID stands in three
   * pieces; QueueID is the DeviceID, as Linux has it.
   */
  deviceCover(rid: number, pasid: number, cover: CoverWords): void {
    const guest = pasid >= 0;
    const tag = guest ? pasid : 0;
    const flags = (cover.sized ? S.mask : 0) | (guest ? GN.mask : 0);
    const opcode = COMMAND.INVALIDATE_IOTLB_PAGES << OPCODE_SHIFT;
    this.#commands.push(
      (rid | (((tag >>> 8) & 0xff) << 16) | (MAX_PEND << 24)) >>> 0,
      opcode | (((tag >>> 16) & 0xf) << 24) | ((tag & 0xff) << 16) | rid,
      (cover.lo | flags) >>> 0,
      cover.hi,
    );
  }
}

/** Response code of COMPLETE_PPR_REQUEST, bits 47:44 of its second qword. */
const PPR_CODE_SHIFT = 12;
