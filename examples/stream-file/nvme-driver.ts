import { decode, encode } from '@iommukit/bits';
import type { Guest } from './guest.ts';
import type { NvmeDevice } from './nvme-device.ts';
import {
  BLOCK_BYTES,
  COMPLETION,
  CQE_BYTES,
  MAX_TRANSFER_BYTES,
  NVME_REGISTER,
  READ_COMMAND,
  SQE_BYTES,
} from './nvme-layout.ts';

const PAGE_BYTES = 4096;
const QUEUE_ENTRIES = 64;
/** Every so many-th page of a data buffer is left unmapped until the device asks for it. */
const ABSENT_EVERY = 8;

/** Bytes that one command reads, where the guest's RAM allows. */
const LARGEST_READ_BYTES = MAX_TRANSFER_BYTES / 2;

const QUEUE_GVA = 0x4000_0000;
const PRP_LIST_GVA = 0x4100_0000;
const DATA_GVA = 0x7f_c000_0000;
/** A page of the first data buffer that is mapped from the start. */
export const EXAMPLE_GVA = DATA_GVA + 3 * PAGE_BYTES;

/** One buffer: where it is, and what is in it. */
interface Slot {
  readonly gva: number;
  readonly prpListGva: number;
  busy: boolean;
  offset: number;
  length: number;
}

/** A command that ended, in the order of the file. */
export interface Arrived {
  /** First byte in the file. */
  readonly offset: number;
  readonly length: number;
  /** Where it is in guest memory. */
  readonly gva: number;
  /** NVMe status code, 0 = success. */
  readonly status: number;
}

/** The guest's driver of the block device: queues, PRP lists and buffers in guest memory. */
export class NvmeDriver {
  readonly #guest: Guest;
  readonly #device: NvmeDevice;
  readonly #slots: Slot[] = [];
  readonly #transferBytes: number;
  #sqTail = 0;
  #cqHead = 0;
  #phase = 1;
  #inFlight = 0;

  /**
   * Set the queues up and tell the device where they are.
   *
   * @param pasid tag of the guest's address space, 20 bits
   */
  constructor(guest: Guest, device: NvmeDevice, pasid: number) {
    this.#guest = guest;
    this.#device = device;
    this.#transferBytes = Math.min(LARGEST_READ_BYTES, guest.ram.sizeBytes / 64);
    this.#mapPages(QUEUE_GVA, 2);
    const slots = 8;
    this.#mapPages(PRP_LIST_GVA, slots);
    for (let index = 0; index < slots; index++) this.#slots.push(this.#createSlot(index));
    device.writeRegister(NVME_REGISTER.PASID, pasid);
    device.writeRegister(NVME_REGISTER.AQA, QUEUE_ENTRIES - 1);
    device.writeRegister(NVME_REGISTER.ASQ, QUEUE_GVA);
    device.writeRegister(NVME_REGISTER.ACQ, QUEUE_GVA + PAGE_BYTES);
    device.writeRegister(NVME_REGISTER.CC, 1);
  }

  /** Bytes of the data buffers together. */
  get bufferBytes(): number {
    return this.#slots.length * this.#transferBytes;
  }

  /** Commands submitted and not yet reaped. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /**
   * Submit reads of the file's bytes from `offset` on while buffers are free, then ring the
   * doorbell once.
   *
   * @param lengthBytes length of the whole file
   * @returns offset of the first byte not yet asked for
   */
  submit(offset: number, lengthBytes: number): number {
    let next = offset;
    for (const slot of this.#slots) {
      if (next >= lengthBytes) break;
      if (slot.busy) continue;
      this.#write(slot, next, Math.min(this.#transferBytes, lengthBytes - next));
      next += slot.length;
    }
    if (next > offset) this.#device.writeRegister(NVME_REGISTER.SQ0TDBL, this.#sqTail);
    return next;
  }

  /** Take completions from the queue; their buffers stay busy until {@link release}. */
  reap(): Arrived[] {
    const arrived: Arrived[] = [];
    for (;;) {
      const entry = this.#guest.bytes(QUEUE_GVA + PAGE_BYTES + this.#cqHead * CQE_BYTES, CQE_BYTES);
      const { P, CID, SC } = decode(COMPLETION, new Uint32Array(entry.buffer, entry.byteOffset, 4));
      if (P !== this.#phase) break;
      const slot = this.#slots[Number(CID)] as Slot;
      arrived.push({ offset: slot.offset, length: slot.length, gva: slot.gva, status: Number(SC) });
      this.#cqHead = (this.#cqHead + 1) % QUEUE_ENTRIES;
      if (this.#cqHead === 0) this.#phase ^= 1;
      this.#inFlight--;
    }
    if (arrived.length > 0) this.#device.writeRegister(NVME_REGISTER.CQ0HDBL, this.#cqHead);
    return arrived;
  }

  /** Give the buffer of an arrived read back. */
  release(arrived: Arrived): void {
    const slot = this.#slots.find(({ gva }) => gva === arrived.gva);
    if (slot) slot.busy = false;
  }

  /** The guest's page fault handler: give the page at `gva` memory if it lies in a buffer. */
  handlePageFault(gva: number): boolean {
    const end = DATA_GVA + this.#slots.length * MAX_TRANSFER_BYTES;
    if (gva < DATA_GVA || gva >= end) return false;
    const page = gva - (gva % PAGE_BYTES);
    if (this.#guest.translate(page) < 0) this.#guest.mapPage(page, this.#guest.allocPage());
    return true;
  }

  #createSlot(index: number): Slot {
    const gva = DATA_GVA + index * MAX_TRANSFER_BYTES;
    for (let page = 0; page < this.#transferBytes / PAGE_BYTES; page++) {
      if (page % ABSENT_EVERY === ABSENT_EVERY - 1) continue;
      this.#guest.mapPage(gva + page * PAGE_BYTES, this.#guest.allocPage());
    }
    return {
      gva,
      prpListGva: PRP_LIST_GVA + index * PAGE_BYTES,
      busy: false,
      offset: 0,
      length: 0,
    };
  }

  #mapPages(gva: number, count: number): void {
    for (let page = 0; page < count; page++) {
      this.#guest.mapPage(gva + page * PAGE_BYTES, this.#guest.allocPage());
    }
  }

  #write(slot: Slot, offset: number, length: number): void {
    slot.busy = true;
    slot.offset = offset;
    slot.length = length;
    const pages = Math.ceil(length / PAGE_BYTES);
    if (pages > 2) this.#writePrpList(slot, pages);
    const entry = encode(READ_COMMAND, {
      OPC: 2,
      CID: this.#slots.indexOf(slot),
      NSID: 1,
      PRP1: slot.gva,
      PRP2: pages > 2 ? slot.prpListGva : slot.gva + PAGE_BYTES,
      SLBA: offset / BLOCK_BYTES,
      NLB: Math.ceil(length / BLOCK_BYTES) - 1,
    });
    const gva = QUEUE_GVA + this.#sqTail * SQE_BYTES;
    this.#guest
      .bytes(gva, SQE_BYTES)
      .set(new Uint8Array(entry.buffer, entry.byteOffset, SQE_BYTES));
    this.#sqTail = (this.#sqTail + 1) % QUEUE_ENTRIES;
    this.#inFlight++;
  }

  #writePrpList(slot: Slot, pages: number): void {
    const bytes = this.#guest.bytes(slot.prpListGva, PAGE_BYTES);
    const words = new DataView(bytes.buffer, bytes.byteOffset, PAGE_BYTES);
    for (let page = 1; page < pages; page++) {
      const gva = slot.gva + page * PAGE_BYTES;
      words.setUint32((page - 1) * 8, gva % 2 ** 32, true);
      words.setUint32((page - 1) * 8 + 4, Math.floor(gva / 2 ** 32), true);
    }
  }
}
