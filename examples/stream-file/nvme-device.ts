import { decode, encode } from '@iommukit/bits';
import { type Endpoint, PRG_RESPONSE, type WantedPage } from '@iommukit/core';
import {
  BLOCK_BYTES,
  COMPLETION,
  CQE_BYTES,
  MAX_TRANSFER_BYTES,
  NVME_REGISTER,
  READ_COMMAND,
  SQE_BYTES,
  STATUS,
} from './nvme-layout.ts';

const PAGE_BYTES = 4096;
/** Missing pages that one page request group asks for at the most. */
const PAGES_PER_GROUP = 8;
/** How often a page is asked for before the command fails. */
const MAX_PAGE_REQUESTS = 3;

/** What the blocks are stored on. */
export interface Medium {
  /** Number of {@link BLOCK_BYTES} blocks. */
  readonly blocks: number;
  /** Fill `target` with the bytes from block `lba` on; zeros beyond the end. */
  read(lba: number, target: Uint8Array): void;
}

/** A Read command on its way: which page is next, and how often it has been asked for. */
interface Transfer {
  readonly cid: number;
  readonly pages: readonly number[];
  readonly data: Uint8Array;
  next: number;
  requests: number;
}

/**
 * An NVMe-like block device. It knows nothing of IOMMUs but what a PCIe function knows: its
 * queues are fetched with untranslated requests that carry its PASID, data goes through its ATC
 * with ATS, and a page that is not there is asked for with PRI and waited for.
 */
export class NvmeDevice {
  readonly #endpoint: Endpoint;
  readonly #medium: Medium;
  readonly #buffer = new Uint8Array(MAX_TRANSFER_BYTES);
  readonly #free: Uint8Array[] = [];
  readonly #unposted: { cid: number; SC: number }[] = [];
  readonly stats = { commands: 0, bytes: 0, pageRequests: 0, pageRequestGroups: 0 };
  #pasid = 0;
  #sq = 0;
  #cq = 0;
  #entries = 0;
  #sqHead = 0;
  #sqTail = 0;
  #cqTail = 0;
  #cqHead = 0;
  #phase = 1;
  #enabled = false;

  constructor(endpoint: Endpoint, medium: Medium) {
    this.#endpoint = endpoint;
    this.#medium = medium;
  }

  /** Number of blocks, as Identify Namespace would report it. */
  get blocks(): number {
    return this.#medium.blocks;
  }

  /**
   * A register write by the guest. 64-bit registers take an address below 2^53.
   *
   * @throws {RangeError} when there is no such register or the value is out of its range
   */
  writeRegister(offset: number, value: number): void {
    switch (offset) {
      case NVME_REGISTER.PASID:
        this.#pasid = value;
        return;
      case NVME_REGISTER.AQA:
        this.#entries = (value & 0xfff) + 1;
        return;
      case NVME_REGISTER.ASQ:
        this.#sq = value;
        return;
      case NVME_REGISTER.ACQ:
        this.#cq = value;
        return;
      case NVME_REGISTER.CC:
        this.#reset((value & 1) === 1);
        return;
      case NVME_REGISTER.SQ0TDBL:
        this.#checkDoorbell(value);
        this.#sqTail = value;
        this.#run();
        return;
      case NVME_REGISTER.CQ0HDBL:
        this.#checkDoorbell(value);
        this.#cqHead = value;
        this.#postCompletions();
        return;
      default:
        throw new RangeError(`the device has no register at offset 0x${offset.toString(16)}`);
    }
  }

  #checkDoorbell(value: number): void {
    if (!this.#enabled || !(value >= 0 && value < this.#entries)) {
      throw new RangeError(
        `doorbell value ${value}: the queues have ${this.#enabled ? this.#entries : 0} entries`,
      );
    }
  }

  #reset(enable: boolean): void {
    this.#enabled = enable;
    this.#sqHead = this.#sqTail = this.#cqHead = this.#cqTail = 0;
    this.#phase = 1;
    this.#unposted.length = 0;
  }

  /** Fetch and start commands until the queue is empty. */
  #run(): void {
    while (this.#sqHead !== this.#sqTail) {
      const entry = this.#fetch(this.#sq + this.#sqHead * SQE_BYTES, SQE_BYTES);
      this.#sqHead = (this.#sqHead + 1) % this.#entries;
      if (!entry) return;
      this.#start(entry);
    }
  }

  #start(entry: Uint8Array): void {
    const command = decode(READ_COMMAND, new Uint32Array(entry.buffer, entry.byteOffset, 16));
    const bytes = (command.NLB + 1) * BLOCK_BYTES;
    const lba = Number(command.SLBA);
    this.stats.commands++;
    const refusal = this.#refusal(command.OPC, lba, bytes);
    const pages =
      refusal === STATUS.SUCCESS
        ? this.#dataPages(Number(command.PRP1), Number(command.PRP2), bytes)
        : undefined;
    if (!pages) {
      this.#complete(command.CID, refusal || STATUS.DATA_TRANSFER_ERROR);
      return;
    }
    const data = (this.#free.pop() ?? new Uint8Array(MAX_TRANSFER_BYTES)).subarray(0, bytes);
    this.#medium.read(lba, data);
    this.#transfer({ cid: command.CID, pages, data, next: 0, requests: 0 });
  }

  #refusal(opcode: number, lba: number, bytes: number): number {
    if (opcode !== 2) return STATUS.INVALID_OPCODE;
    if (bytes > MAX_TRANSFER_BYTES) return STATUS.INVALID_FIELD;
    if (lba + bytes / BLOCK_BYTES > this.#medium.blocks) return STATUS.LBA_OUT_OF_RANGE;
    return STATUS.SUCCESS;
  }

  /** The pages of a buffer: PRP1 alone, PRP1 and PRP2, or PRP1 and the list at PRP2. */
  #dataPages(prp1: number, prp2: number, bytes: number): number[] | undefined {
    const count = Math.ceil(bytes / PAGE_BYTES);
    if (count <= 2) return [prp1, prp2].slice(0, count);
    const list = this.#fetch(prp2, (count - 1) * 8);
    if (!list) return undefined;
    const words = new DataView(list.buffer, list.byteOffset, list.byteLength);
    const pages = [prp1];
    for (let at = 0; at < list.length; at += 8) {
      pages.push(words.getUint32(at + 4, true) * 2 ** 32 + words.getUint32(at, true));
    }
    return pages;
  }

  /** Move data until the command is done or a page is missing. */
  #transfer(transfer: Transfer): void {
    const { pages, data } = transfer;
    while (transfer.next < pages.length) {
      const at = transfer.next * PAGE_BYTES;
      const part = data.subarray(at, Math.min(at + PAGE_BYTES, data.length));
      const page = pages[transfer.next] as number;
      if (this.#endpoint.atsWrite(page, part, { pasid: this.#pasid }) < part.length) {
        this.#askForPages(transfer);
        return;
      }
      transfer.next++;
      transfer.requests = 0;
    }
    this.stats.bytes += data.length;
    this.#finish(transfer, STATUS.SUCCESS);
  }

  #askForPages(transfer: Transfer): void {
    if (transfer.requests++ === MAX_PAGE_REQUESTS) {
      this.#finish(transfer, STATUS.DATA_TRANSFER_ERROR);
      return;
    }
    const missing: WantedPage[] = [];
    for (
      let at = transfer.next;
      at < transfer.pages.length && missing.length < PAGES_PER_GROUP;
      at++
    ) {
      const iova = transfer.pages[at] as number;
      if (!this.#endpoint.atsTranslate(iova, true, { pasid: this.#pasid })) {
        missing.push({ iova, write: true });
      }
    }
    if (missing.length === 0) {
      this.#transfer(transfer);
      return;
    }
    this.stats.pageRequests += missing.length;
    this.stats.pageRequestGroups++;
    this.#endpoint.requestPages(missing, { pasid: this.#pasid }, (code) => {
      if (code === PRG_RESPONSE.SUCCESS) this.#transfer(transfer);
      else this.#finish(transfer, STATUS.DATA_TRANSFER_ERROR);
    });
  }

  #finish(transfer: Transfer, status: number): void {
    this.#free.push(new Uint8Array(transfer.data.buffer));
    this.#complete(transfer.cid, status);
  }

  /** Post a completion, or keep it until the driver has made room in the queue. */
  #complete(cid: number, SC: number): void {
    this.#unposted.push({ cid, SC });
    this.#postCompletions();
  }

  #postCompletions(): void {
    while (this.#unposted.length > 0 && (this.#cqTail + 1) % this.#entries !== this.#cqHead) {
      const { cid, SC } = this.#unposted.shift() as { cid: number; SC: number };
      this.#post(cid, SC);
    }
  }

  #post(cid: number, SC: number): void {
    const entry = encode(COMPLETION, { SQHD: this.#sqHead, CID: cid, P: this.#phase, SC });
    const bytes = new Uint8Array(entry.buffer, entry.byteOffset, CQE_BYTES);
    this.#endpoint.dmaWrite(this.#cq + this.#cqTail * CQE_BYTES, bytes, { pasid: this.#pasid });
    this.#cqTail = (this.#cqTail + 1) % this.#entries;
    if (this.#cqTail === 0) this.#phase ^= 1;
  }

  #fetch(gva: number, length: number): Uint8Array | undefined {
    const bytes = this.#buffer.subarray(0, length);
    const done = this.#endpoint.dmaRead(gva, bytes, { pasid: this.#pasid });
    return done === length ? bytes : undefined;
  }
}
