/**
 * Commands of a guest: its command buffer's entries, with the guest's numbers in them replaced by
 * the unit's.
 *
 * @spec AMD IOMMU 2.4
 */
import { refuse, type UserArray } from '@iommukit/core';
import {
  COMMAND,
  COMMAND_BYTES,
  COMPLETION_WAIT,
  INVALIDATE_IOMMU_PAGES,
} from '../spec/commands.ts';
import type { DeviceState } from './device-state.ts';
import { NO_GUEST } from './invalidate.ts';
import type { CoverWords } from './page-cover.ts';
import type { AmdviViommu } from './viommu.ts';
import { VIOMMU_INVALIDATE_DATA_AMD } from './viommu-types.ts';

const OP = 'IOMMU_HWPT_INVALIDATE';
const WORDS = COMMAND_BYTES / 4;
const OPCODE_SHIFT = 28;
const PRGI_MASK = 0x1ff;
const { S, PDE, GN } = INVALIDATE_IOMMU_PAGES.fields;
const U20 = 0xf_ffff;
const U16 = 0xffff;

/** Bits of each command that a guest may set, u32 words; others are reserved. */
const ALLOWED: Readonly<Record<number, readonly [number, number, number, number]>> = {
  [COMMAND.COMPLETION_WAIT]: [0xffff_ffff, 0x000f_ffff, 0xffff_ffff, 0xffff_ffff],
  [COMMAND.INVALIDATE_DEVTAB_ENTRY]: [U16, 0, 0, 0],
  [COMMAND.INVALIDATE_IOMMU_PAGES]: [U20, U16, 0xffff_f007, 0xffff_ffff],
  [COMMAND.INVALIDATE_IOTLB_PAGES]: [0xffff_ffff, 0x0fff_ffff, 0xffff_f005, 0xffff_ffff],
  [COMMAND.INVALIDATE_INTERRUPT_TABLE]: [U16, 0, 0, 0],
  [COMMAND.PREFETCH_IOMMU_PAGES]: [0xff00_ffff, U20, 0xffff_f015, 0xffff_ffff],
  [COMMAND.COMPLETE_PPR_REQUEST]: [U16, U20, 4, 0xf1ff],
  [COMMAND.INVALIDATE_IOMMU_ALL]: [0, 0, 0, 0],
};

type Command = readonly [number, number, number, number];

/** Runs the commands of one guest. */
export class GuestCommands {
  readonly #viommu: AmdviViommu;

  constructor(viommu: AmdviViommu) {
    this.#viommu = viommu;
  }

  /**
   * Run an array of commands. Those before the first bad one are done and counted.
   *
   * @throws {IommuError} EINVAL for another data type or no entries; EIO for a command that is none,
   *   or names a device that the guest does not have
   */
  run(array: UserArray): void {
    array.done = 0;
    if (array.type !== VIOMMU_INVALIDATE_DATA_AMD) {
      throw refuse('EINVAL', OP, 'data-type', `type ${array.type} is not commands of AMD guests`, {
        value: array.type,
        accepted: `VIOMMU_INVALIDATE_DATA_AMD (${VIOMMU_INVALIDATE_DATA_AMD})`,
      });
    }
    const { invalidate } = this.#viommu.context;
    try {
      for (let index = 0; index < array.entryCount; index++) {
        const type = VIOMMU_INVALIDATE_DATA_AMD;
        const bytes = array.copyEntry(index, type, COMMAND_BYTES, COMMAND_BYTES);
        this.#add(readCommand(bytes));
        array.done++;
      }
    } finally {
      invalidate.submit();
    }
  }

  #add(command: Command): void {
    const [w0, w1] = command;
    const opcode = w1 >>> OPCODE_SHIFT;
    if (opcode === COMMAND.COMPLETION_WAIT) this.#wait(command);
    else if (opcode === COMMAND.INVALIDATE_IOMMU_PAGES) this.#pages(command);
    else if (opcode === COMMAND.INVALIDATE_IOMMU_ALL) this.#everything();
    else if (opcode === COMMAND.INVALIDATE_IOTLB_PAGES) this.#deviceTlb(command);
    else if (opcode === COMMAND.COMPLETE_PPR_REQUEST) this.#completePpr(command);
    // The unit does not read the guest's device and interrupt tables, and may ignore a prefetch.
    else this.#device(w0);
  }

  /**
   * A DomainID that no nested domain has was never used as a tag. GN=0 would be about host tables of
   * the guest, which it has none of.
   */
  #pages([w0, w1, w2, w3]: Command): void {
    const { domainIds, context } = this.#viommu;
    const hostId = domainIds.hostIdOf(w1 & U16);
    if (hostId < 0) return;
    const cover = coverOf(w2, w3);
    if ((w2 & GN.mask) === 0) context.invalidate.domain(hostId, NO_GUEST);
    else context.invalidate.cover(hostId, w0 & U20, cover, (w2 & PDE.mask) !== 0);
  }

  /** A device without ATS would not answer, and has nothing to forget. */
  #deviceTlb([w0, w1, w2, w3]: Command): void {
    const { rid, ats } = this.#device(w0);
    const cover = coverOf(w2, w3);
    const pasid = ((w1 >>> 16) & 0xff) + ((w0 >>> 8) & 0xff00) + ((w1 >>> 8) & 0xf_0000);
    if (!ats) return;
    this.#viommu.context.invalidate.deviceCover(rid, (w2 & GN.mask) === 0 ? -1 : pasid, cover);
  }

  #completePpr([w0, w1, w2, w3]: Command): void {
    const { rid } = this.#device(w0);
    const pasid = (w2 & GN.mask) === 0 ? -1 : w1 & U20;
    this.#viommu.context.invalidate.completePpr(rid, pasid, w3 & PRGI_MASK, (w3 >>> 12) & 0xf);
  }

  #everything(): void {
    const { domainIds, context } = this.#viommu;
    for (const hostId of domainIds.hostIds) context.invalidate.domain(hostId, NO_GUEST);
  }

  /** What came before is done; then the guest's own memory says so. */
  #wait([w0, w1, w2, w3]: Command): void {
    const { context, parent } = this.#viommu;
    context.invalidate.submit();
    if ((w0 & COMPLETION_WAIT.fields.S.mask) === 0) return;
    const gfn = (w1 & U20) * 2 ** 20 + (w0 >>> 12);
    const frame = parent.writableFrame(gfn);
    if (frame < 0) {
      throw refuse('EIO', OP, 'guest-store', 'COMPLETION_WAIT stores where the guest has nothing', {
        value: gfn * 4096,
        accepted: 'an address that the nest parent maps writable',
      });
    }
    context.memory.store64(frame * 4096 + (w0 & 0xff8), w2, w3);
  }

  #device(w0: number): DeviceState {
    const id = w0 & U16;
    const device = this.#viommu.devices.get(id);
    if (device) return device;
    throw refuse('EIO', OP, 'guest-device-id', `the guest has no device ${id}`, {
      value: id,
      accepted: 'the virt_id of a vDEVICE of this vIOMMU',
    });
  }
}

/**
 * Pages as a command names them.
 *
 * @throws {IommuError} EIO for all address bits one with S, which means no range
 */
const coverOf = (w2: number, w3: number): CoverWords => {
  const lo = (w2 & 0xffff_f000) >>> 0;
  const sized = (w2 & S.mask) !== 0;
  if (!sized || lo !== 0xffff_f000 || w3 !== 0xffff_ffff) return { lo, hi: w3, sized };
  throw refuse('EIO', OP, 'guest-range', 'an address of ones is no range', {
    value: w3,
    accepted: '7FFF_FFFF_FFFF_F000h with S for everything',
  });
};

/** @throws {IommuError} EIO for an unknown command or reserved bits in one */
const readCommand = (bytes: Uint8Array): Command => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const words = Array.from({ length: WORDS }, (_, at) => view.getUint32(at * 4, true));
  const command = words as unknown as Command;
  const opcode = command[1] >>> OPCODE_SHIFT;
  const allowed = ALLOWED[opcode];
  const opcodeMask = 0xf << OPCODE_SHIFT;
  const fits = allowed?.every((mask, at) => {
    const known = at === 1 ? mask | opcodeMask : mask;
    return ((words[at] as number) & ~known) === 0;
  });
  if (fits) return command;
  throw refuse('EIO', OP, 'guest-command', `command ${opcode} is none, or has reserved bits set`, {
    value: opcode,
    accepted: 'commands 1 to 8 of AMD IOMMU 2.4',
  });
};
