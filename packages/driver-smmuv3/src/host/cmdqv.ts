/**
 * The host's side of a Tegra241 CMDQV: which interface and which queues a guest has.
 *
 * @linux drivers/iommu/arm/arm-smmu-v3/tegra241-cmdqv.c
 */
import { decode, encode } from '@iommukit/bits';
import { addressHi, addressLo, type HwInfo, refuse } from '@iommukit/core';
import {
  CMDQ_ALLOC,
  CMDQV,
  CMDQV_PARAM,
  SID_MATCH,
  VCMDQ,
  VCMDQ_BASE,
  VINTF,
  VINTF_CONFIG,
} from '../spec/cmdqv.ts';

/** `IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV`. */
export const HW_INFO_TYPE_TEGRA241_CMDQV = 3;

const INFO_BYTES = 8;
const VIOMMU_OP = 'IOMMU_VIOMMU_ALLOC';
const VDEVICE_OP = 'IOMMU_VDEVICE_ALLOC';
const ENABLE = 1;
/** Dwords of a queue on page 0. */
const QUEUE_WORDS = 6;

/** The register window of a CMDQV. */
export interface CmdqvRegisters {
  readReg32(offset: number): number;
  writeReg32(offset: number, value: number): void;
}

/** Whoever an interface belongs to. */
export interface VintfOwner {
  /** @param map 16 bytes: two 64-bit words, a bit for each of its queues with an error */
  reportErrors(map: Uint8Array): void;
}

/** One CMDQV that is up. */
export class CmdqvHost {
  readonly queuesPerVintf: number;
  readonly sidsPerVintf: number;
  readonly #registers: CmdqvRegisters;
  readonly #version: number;
  /** Owners of interfaces; 0 is the host's own. */
  readonly #owners: (VintfOwner | undefined)[];
  /** Translations of StreamIDs in use, by interface. */
  readonly #sids = new Map<number, Set<number>>();

  /** Bring it up. */
  constructor(registers: CmdqvRegisters) {
    const param = decode(CMDQV_PARAM, [registers.readReg32(CMDQV.PARAM)]);
    this.#registers = registers;
    this.#version = param.VER;
    this.queuesPerVintf = 2 ** (param.VCMDQ_LOG2 - param.VINTF_LOG2);
    this.sidsPerVintf = 2 ** param.SID_PER_VM_LOG2;
    this.#owners = new Array(2 ** param.VINTF_LOG2).fill(undefined);
    registers.writeReg32(CMDQV.CONFIG, ENABLE);
  }

  /** `struct iommu_hw_info_tegra241_cmdqv`: what a guest gets of it. */
  get info(): HwInfo {
    const data = new Uint8Array(INFO_BYTES);
    const sizes = [this.queuesPerVintf, this.sidsPerVintf].map(Math.log2);
    data.set([this.#version, ...sizes], 4);
    return { type: HW_INFO_TYPE_TEGRA241_CMDQV, data };
  }

  /** Errors of guests' queues go to the guests. */
  service(): void {
    this.#owners.forEach((owner, vintf) => {
      const map = this.#registers.readReg32(CMDQV.VINTF_ERR_MAP + 4 * (vintf >> 5));
      if (owner && (map >>> (vintf & 31)) & 1) owner.reportErrors(this.#errorsOf(vintf));
    });
  }

  #errorsOf(vintf: number): Uint8Array {
    const bytes = new Uint8Array(16);
    const view = new DataView(bytes.buffer);
    for (let word = 0; word < 4; word++) {
      const at = registerOf(vintf, VINTF.LVCMDQ_ERR_MAP) + 4 * word;
      view.setUint32(4 * word, this.#registers.readReg32(at), true);
    }
    return bytes;
  }

  /**
   * Give an interface to a guest.
   *
   * @param page0 where the guest finds its queues' registers, physical
   * @throws {IommuError} ENOSPC when all are taken
   */
  takeVintf(owner: VintfOwner, vmid: number, page0: number): number {
    const vintf = this.#owners.findIndex((each, at) => at > 0 && each === undefined);
    if (vintf < 0) {
      const most = this.#owners.length - 1;
      throw refuse('ENOSPC', VIOMMU_OP, 'vintfs', `all ${most} interfaces for guests are in use`, {
        accepted: `at most ${most} vIOMMUs of this type`,
      });
    }
    this.#owners[vintf] = owner;
    this.#sids.set(vintf, new Set());
    this.moveVintf(vintf, page0);
    const [config = 0] = encode(VINTF_CONFIG, { EN: 1, VMID: vmid });
    this.#registers.writeReg32(registerOf(vintf, VINTF.CONFIG), config);
    return vintf;
  }

  /** The guest's page is elsewhere. */
  moveVintf(vintf: number, page0: number): void {
    const at = registerOf(vintf, VINTF.PAGE0_BASE);
    this.#registers.writeReg32(at, addressLo(page0));
    this.#registers.writeReg32(at + 4, addressHi(page0));
  }

  /** Take an interface back; its queues are gone already. */
  releaseVintf(vintf: number): void {
    this.#registers.writeReg32(registerOf(vintf, VINTF.CONFIG), 0);
    this.moveVintf(vintf, 0);
    this.#owners[vintf] = undefined;
    this.#sids.delete(vintf);
  }

  /**
   * Let a guest name a device.
   *
   * @returns where the translation is, for `unmapSid`
   * @throws {IommuError} ENOSPC when an interface has as many as it can hold
   */
  mapSid(vintf: number, vsid: number, sid: number): number {
    const taken = this.#sids.get(vintf) as Set<number>;
    let slot = 0;
    while (taken.has(slot)) slot++;
    if (slot === this.sidsPerVintf) {
      throw refuse('ENOSPC', VDEVICE_OP, 'vintf-sids', 'the interface names no more devices', {
        accepted: `at most ${this.sidsPerVintf} vDEVICEs of one vIOMMU`,
      });
    }
    taken.add(slot);
    const [match = 0] = encode(SID_MATCH, { EN: 1, VIRT_SID: vsid });
    this.#registers.writeReg32(registerOf(vintf, VINTF.SID_REPLACE) + 4 * slot, sid);
    this.#registers.writeReg32(registerOf(vintf, VINTF.SID_MATCH) + 4 * slot, match);
    return slot;
  }

  unmapSid(vintf: number, slot: number): void {
    this.#registers.writeReg32(registerOf(vintf, VINTF.SID_MATCH) + 4 * slot, 0);
    this.#registers.writeReg32(registerOf(vintf, VINTF.SID_REPLACE) + 4 * slot, 0);
    this.#sids.get(vintf)?.delete(slot);
  }

  /**
   * Give a queue in memory to a guest; it enables it itself.
   *
   * @param isNew its registers start at zero; else they go on as they are
   */
  mapQueue(vintf: number, index: number, base: number, lg2: number, isNew: boolean): void {
    const queue = vintf * this.queuesPerVintf + index;
    const [lo = 0, hi = 0] = encode(VCMDQ_BASE, { ADDR: base, LOG2SIZE: lg2 });
    const at = CMDQV.VCMDQ_PAGE1 + queue * CMDQV.VCMDQ_STRIDE + VCMDQ.BASE;
    const [own = 0] = encode(CMDQ_ALLOC, { ALLOCATED: 1, LVCMDQ: index, VINTF: vintf });
    if (isNew) this.#clear(vintf, index);
    this.#registers.writeReg32(at, lo);
    this.#registers.writeReg32(at + 4, hi);
    this.#registers.writeReg32(CMDQV.CMDQ_ALLOC + 4 * queue, own);
  }

  /** Take a queue back: it is off, and nothing of it is left. */
  unmapQueue(vintf: number, index: number): void {
    const queue = vintf * this.queuesPerVintf + index;
    const at = CMDQV.VCMDQ_PAGE1 + queue * CMDQV.VCMDQ_STRIDE + VCMDQ.BASE;
    this.#clear(vintf, index);
    this.#registers.writeReg32(CMDQV.CMDQ_ALLOC + 4 * queue, 0);
    this.#registers.writeReg32(at, 0);
    this.#registers.writeReg32(at + 4, 0);
  }

  #clear(vintf: number, index: number): void {
    const own = CMDQV.VINTF_PAGES + vintf * CMDQV.VINTF_PAGES_STRIDE;
    const at = own + index * CMDQV.VCMDQ_STRIDE;
    this.#registers.writeReg32(at + VCMDQ.CONFIG, 0);
    for (let word = 0; word < QUEUE_WORDS; word++) this.#registers.writeReg32(at + 4 * word, 0);
    const gerror = this.#registers.readReg32(at + VCMDQ.GERROR);
    this.#registers.writeReg32(at + VCMDQ.GERRORN, gerror);
  }
}

const registerOf = (vintf: number, register: number): number =>
  CMDQV.VINTF + vintf * CMDQV.VINTF_STRIDE + register;
