/**
 * A DMA that may take its time: page by page, stopped where its IOMMU stalls a request, going on when
 * the IOMMU says what became of it.
 * @module
 */
import type { DmaOptions } from './endpoint-options.ts';
import { isStalled, RAZ_WI, stallTicket } from './request.ts';

const PAGE_BYTES = 4096;

/** Where a {@link DmaTransfer} stands. */
export const DMA_STATE = {
  /** A request of it is stalled in the IOMMU; it goes on when that is resolved. */
  STALLED: 'stalled',
  /** Every byte has moved. */
  COMPLETE: 'complete',
  /** A page was blocked, or nothing answers at its address. */
  BLOCKED: 'blocked',
  /** The device was reset, or left the bus, while it was stalled. */
  CANCELLED: 'cancelled',
} as const;

/** One of {@link DMA_STATE}. */
export type DmaState = (typeof DMA_STATE)[keyof typeof DMA_STATE];

/** How a DMA that may stall is started. */
export interface StartDmaOptions extends DmaOptions {
  /** Called once, when nothing will move any more; before the start returns if it never stalls. */
  readonly onDone?: (transfer: DmaTransfer) => void;
}

/** What a transfer needs of its device. */
export interface DmaPath {
  /**
   * Frame of a page, or a negative code; see `TranslationAgent.translatePage`.
   * @param part what is to move there
   */
  translate(
    pasid: number,
    iovaPfn: number,
    access: number,
    offset: number,
    part: Uint8Array,
  ): number;
  /** Bytes moved before the first hole. */
  move(pa: number, part: Uint8Array, write: boolean): number;
  /** The request with this ticket is stalled; `transfer` waits for it. */
  wait(ticket: number, transfer: DmaTransfer): void;
}

/** What a transfer moves. */
export interface DmaPlan {
  readonly write: boolean;
  readonly pasid: number;
  /** Sum of ACCESS bits. */
  readonly access: number;
  /** 4 KiB frame of the first byte, and its offset there. */
  readonly pfn: number;
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** Bytes that have moved before it starts. */
  readonly moved: number;
}

/**
 * One DMA. `Endpoint.startWrite` and `startRead` make it; the buffer belongs to it until `done`.
 *
 * @spec SMMUv3 3.12.2 (stalled transactions)
 */
export class DmaTransfer {
  readonly write: boolean;
  readonly pasid: number;
  readonly #path: DmaPath;
  readonly #plan: DmaPlan;
  #bytes: Uint8Array;
  readonly #onDone: ((transfer: DmaTransfer) => void) | undefined;
  #moved: number;
  #state: DmaState = DMA_STATE.STALLED;

  /** Made by the device; nothing moves before {@link DmaTransfer.run}. */
  constructor(path: DmaPath, plan: DmaPlan, onDone?: (transfer: DmaTransfer) => void) {
    this.#path = path;
    this.#plan = plan;
    this.#bytes = plan.bytes;
    this.#moved = plan.moved;
    this.#onDone = onDone;
    this.write = plan.write;
    this.pasid = plan.pasid;
  }

  /** Where it stands. */
  get state(): DmaState {
    return this.#state;
  }

  /** Nothing will move any more. */
  get done(): boolean {
    return this.#state !== DMA_STATE.STALLED;
  }

  /**
   * Bytes that the device sees as moved. Those that an IOMMU swallowed (reads of zero, ignored
   * writes) count: a device cannot tell.
   */
  get bytesMoved(): number {
    return this.#moved;
  }

  /** Go on as far as it goes. */
  run(): void {
    while (this.#moved < this.#bytes.length) {
      const at = this.#plan.offset + this.#moved;
      const pfn = this.#plan.pfn + Math.floor(at / PAGE_BYTES);
      const { access } = this.#plan;
      const part = this.#nextPart();
      const frame = this.#path.translate(this.pasid, pfn, access, at % PAGE_BYTES, part);
      if (!this.#take(frame)) return;
    }
    this.#end(DMA_STATE.COMPLETE);
  }

  /** What became of the stalled request: a frame, or a negative code. */
  resume(frame: number): void {
    if (this.done || !this.#take(frame)) return;
    this.run();
  }

  /** Go on from a copy: the buffer belongs to the caller again. */
  keepCopy(): void {
    this.#bytes = this.#bytes.slice();
  }

  /** The device gives up. */
  cancel(): void {
    if (!this.done) this.#end(DMA_STATE.CANCELLED);
  }

  /** Use the answer for the page that is next. @returns whether to go on */
  #take(frame: number): boolean {
    if (isStalled(frame)) {
      this.#path.wait(stallTicket(frame), this);
      return false;
    }
    if (frame === RAZ_WI) return this.#swallow();
    return frame < 0 ? this.#end(DMA_STATE.BLOCKED) : this.#moveTo(frame);
  }

  /** The rest of the page that is next. */
  #nextPart(): Uint8Array {
    const room = PAGE_BYTES - ((this.#plan.offset + this.#moved) % PAGE_BYTES);
    return this.#bytes.subarray(this.#moved, this.#moved + room);
  }

  #swallow(): true {
    const part = this.#nextPart();
    if (!this.write) part.fill(0);
    this.#moved += part.length;
    return true;
  }

  #moveTo(frame: number): boolean {
    const part = this.#nextPart();
    const offset = (this.#plan.offset + this.#moved) % PAGE_BYTES;
    const moved = this.#path.move(frame * PAGE_BYTES + offset, part, this.write);
    this.#moved += moved;
    return moved === part.length || this.#end(DMA_STATE.BLOCKED);
  }

  #end(state: DmaState): false {
    this.#state = state;
    this.#onDone?.(this);
    return false;
  }
}
