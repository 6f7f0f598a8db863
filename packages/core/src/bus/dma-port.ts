/**
 * Untranslated DMA of one device: page by page through its unit, and the transfers that a unit
 * stalls.
 * @module
 */
import { addressToPfn } from '@iommukit/bits';
import type { PhysicalMemory } from '../memory/physical-memory.ts';
import { type DmaPath, DmaTransfer, type StartDmaOptions } from './dma-transfer.ts';
import type { DmaOptions } from './endpoint-options.ts';
import { InterruptWrites } from './interrupt-write.ts';
import { ACCESS, type BusPort, isStalled, RAZ_WI, type TranslationAgent } from './request.ts';

const PAGE_BYTES = 4096;

/** What {@link DmaPort.move} adds to the bytes that moved before a stall. */
const STALL_MARK = -1;

/** The device of a port. */
export interface DmaRequester {
  readonly rid: number;
  readonly agent: TranslationAgent | undefined;
}

/** Sends the untranslated requests of a device. */
export class DmaPort {
  readonly #device: DmaRequester;
  readonly #memory: PhysicalMemory;
  readonly #stalled = new Map<number, DmaTransfer>();
  readonly #path: DmaPath;
  readonly #interrupts: InterruptWrites;

  /**
   * @param device asked for its agent at every request
   * @param bus where its interrupts go
   */
  constructor(device: DmaRequester, memory: PhysicalMemory, bus: BusPort) {
    this.#device = device;
    this.#memory = memory;
    this.#interrupts = new InterruptWrites(bus, device.rid);
    this.#path = {
      translate: (pasid, iovaPfn, access, offset, part) =>
        this.#translate(pasid, iovaPfn, access, offset, part),
      move: (pa, part, write) => this.copy(pa, part, write),
      wait: (ticket, transfer) => this.#stalled.set(ticket, transfer),
    };
  }

  /** Transfers that wait for the IOMMU, oldest first. */
  get stalledTransfers(): readonly DmaTransfer[] {
    return [...this.#stalled.values()].filter((transfer) => !transfer.done);
  }

  /**
   * Move bytes without an object for it (one costs 15 ns of 75, and garbage); a request that the
   * IOMMU stalls or swallows goes on as a {@link DmaTransfer}. @hot
   *
   * @param iova first byte, 64 bits
   * @returns bytes moved before the first blocked page or hole; when a stall is not resolved during
   *   the call -1 - bytes moved so far: a write goes on from a copy, a read is given up
   */
  move(
    iova: number | bigint,
    bytes: Uint8Array,
    pasid: number,
    options: DmaOptions,
    write: boolean,
  ): number {
    const access = accessOf(options, write);
    let pfn = addressToPfn(iova);
    let offset = offsetInPage(iova);
    let done = 0;
    while (done < bytes.length) {
      const length = Math.min(PAGE_BYTES - offset, bytes.length - done);
      const part = bytes.subarray(done, done + length);
      const frame = this.#translate(pasid, pfn, access, offset, part);
      if (frame === RAZ_WI || isStalled(frame)) {
        return goOn(this.#transfer(iova, bytes, pasid, options, write, done), frame);
      }
      if (frame < 0) return done;
      const moved = this.copy(frame * PAGE_BYTES + offset, part, write);
      done += moved;
      if (moved < length) return done;
      pfn += 1;
      offset = 0;
    }
    return done;
  }

  /** Start a transfer that waits where {@link DmaPort.move} stops. */
  start(
    iova: number | bigint,
    bytes: Uint8Array,
    pasid: number,
    options: StartDmaOptions,
    write: boolean,
  ): DmaTransfer {
    const transfer = this.#transfer(iova, bytes, pasid, options, write, 0);
    transfer.run();
    return transfer;
  }

  /** Bytes moved from or to physical memory, before the first hole. @hot */
  copy(pa: number, part: Uint8Array, write: boolean): number {
    return write ? this.#memory.copyIn(pa, part) : this.#memory.copyOut(pa, part);
  }

  /** A stalled request is over: a frame, or a negative code. */
  resumed(ticket: number, frame: number): void {
    const transfer = this.#stalled.get(ticket);
    this.#stalled.delete(ticket);
    transfer?.resume(frame);
  }

  /** Give up every transfer that waits; what comes for them later is dropped. */
  cancelStalled(): void {
    const transfers = this.stalledTransfers;
    this.#stalled.clear();
    for (const transfer of transfers) transfer.cancel();
  }

  #translate(
    pasid: number,
    iovaPfn: number,
    access: number,
    offset: number,
    part: Uint8Array,
  ): number {
    const { agent, rid } = this.#device;
    if (!agent) return iovaPfn;
    return this.#interrupts.isFor(agent, pasid, iovaPfn, access)
      ? this.#interrupts.send(agent, iovaPfn, offset, part)
      : agent.translatePage(rid, pasid, iovaPfn, access, offset);
  }

  #transfer(
    iova: number | bigint,
    bytes: Uint8Array,
    pasid: number,
    options: StartDmaOptions,
    write: boolean,
    moved: number,
  ): DmaTransfer {
    const access = accessOf(options, write);
    const [pfn, offset] = [addressToPfn(iova), offsetInPage(iova)];
    const plan = { write, pasid, access, pfn, offset, bytes, moved };
    return new DmaTransfer(this.#path, plan, options.onDone);
  }
}

const accessOf = (options: DmaOptions, write: boolean): number =>
  (write ? ACCESS.WRITE : ACCESS.READ) | (options.access ?? 0);

/** What a synchronous DMA returns whose next request has the negative answer `frame`. */
const goOn = (transfer: DmaTransfer, frame: number): number => {
  transfer.resume(frame);
  if (transfer.done) return transfer.bytesMoved;
  if (transfer.write) transfer.keepCopy();
  else transfer.cancel();
  return STALL_MARK - transfer.bytesMoved;
};

/** Byte offset of an address in its page. @hot */
export const offsetInPage = (iova: number | bigint): number =>
  Number(typeof iova === 'bigint' ? iova & 0xfffn : iova % PAGE_BYTES);
