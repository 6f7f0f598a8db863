/**
 * Page request queue: requests in, descriptors in memory, automatic responses.
 *
 * @spec VT-d 7.4 (page requests), 7.5 (queue), 11.4.11
 */
import type { BusPort, PageRequest } from '@iommukit/core';
import { RESPONSE_CODE } from '../spec/invalidation-descriptors.ts';
import { PAGE_REQ_DSC, PAGE_REQ_TYPE } from '../spec/page-request.ts';
import { PQA, PQH, PQT, PRS } from '../spec/registers.ts';
import type { EventUnit } from './event-unit.ts';
import { type HardwareMemory, writeDword } from './memory.ts';
import { joinAddress, splitPfnHigh, splitPfnLow } from './page-index.ts';
import type { RegisterFile } from './register-file.ts';

const F = PAGE_REQ_DSC.fields;
const PPR = PRS.fields.PPR.mask;
const PRO = PRS.fields.PRO.mask;
const DESCRIPTOR_BYTES = 32;
const PAGE = 0xffff_f000 | 0;

/** Dwords of a page request descriptor. */
export function pageRequestWords(request: PageRequest, out: Int32Array): void {
  const { rid, pasid, addressPfn, read, write, exec, priv, last, prgi } = request;
  out.fill(0);
  out[0] = PAGE_REQ_TYPE | (rid << F.RID.shift) | (pasid >= 0 ? F.PP.mask : 0);
  if (pasid >= 0) out[1] = pasid | (exec ? F.EXR.mask : 0) | (priv ? F.PMR.mask : 0);
  out[2] =
    (read ? F.RDR.mask : 0) |
    (write ? F.WRR.mask : 0) |
    (last ? F.LPIG.mask : 0) |
    ((prgi & 0x1ff) << F.PRGI.shift) |
    splitPfnLow(addressPfn);
  out[3] = splitPfnHigh(addressPfn);
}

/** The queue, and what happens to requests that do not get into it. */
export class PageRequestQueue {
  /** Requests written to the queue. */
  queued = 0;
  /** Requests lost to overflow. */
  overflowed = 0;

  readonly #registers: RegisterFile;
  readonly #memory: HardwareMemory;
  readonly #bus: BusPort;
  readonly #event: EventUnit;
  readonly #words = new Int32Array(8);

  constructor(registers: RegisterFile, memory: HardwareMemory, bus: BusPort, event: EventUnit) {
    this.#registers = registers;
    this.#memory = memory;
    this.#bus = bus;
    this.#event = event;
  }

  /** Answer the last request of a group without software. */
  respond(request: PageRequest, code: number): void {
    if (!request.last) return;
    const { rid, pasid, prgi } = request;
    this.#bus.deliverPageResponse({ rid, pasid, prgi, code });
  }

  /** Requests were lost since software last cleared PRO. */
  get overflow(): boolean {
    return (this.#registers.get(PRS.offset) & PRO) !== 0;
  }

  /** Whether nothing can be written: overflow, or one entry is left. */
  get full(): boolean {
    const registers = this.#registers;
    const next = this.#next(registers.get(PQT.offset));
    return this.overflow || next === this.#masked(registers.get(PQH.offset));
  }

  /** Steps 5 and 6: answer instead of queueing when the queue has overflowed or is full. */
  refuses(request: PageRequest): boolean {
    if (!this.full) return false;
    this.overflowed++;
    if (!this.overflow) this.#raise(PRO);
    this.respond(request, RESPONSE_CODE.SUCCESS);
    return true;
  }

  /** Step 7: write the descriptor and tell software. */
  push(request: PageRequest, answered: boolean): void {
    const registers = this.#registers;
    const tail = this.#masked(registers.get(PQT.offset));
    const base = joinAddress(registers.get(PQA.offset) & PAGE, registers.get(PQA.offset + 4));
    pageRequestWords(request, this.#words);
    for (let i = 0; i < 8; i++)
      if (!writeDword(this.#memory, base + tail + i * 4, this.#words[i] as number)) {
        if (answered) this.respond(request, RESPONSE_CODE.INVALID);
        return;
      }
    this.queued++;
    registers.set(PQT.offset, this.#next(tail));
    this.#raise(PPR);
  }

  #raise(bit: number): void {
    const status = this.#registers.get(PRS.offset);
    this.#registers.change(PRS.offset, bit, 0);
    if ((status & (PPR | PRO)) === 0) this.#event.signal();
  }

  /** Software cleared bits of PRS. */
  statusWritten(): void {
    if ((this.#registers.get(PRS.offset) & (PPR | PRO)) === 0) this.#event.statusCleared();
  }

  #masked(offset: number): number {
    const bytes = 4096 << (this.#registers.get(PQA.offset) & PQA.fields.PQS.mask);
    return offset & (bytes - DESCRIPTOR_BYTES);
  }

  #next(tail: number): number {
    return this.#masked(this.#masked(tail) + DESCRIPTOR_BYTES);
  }
}
