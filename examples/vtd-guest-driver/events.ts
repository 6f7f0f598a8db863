import { decode, encode } from '@iommukit/bits';
import {
  CAP,
  FAULT_RECORD,
  FEADDR,
  FECTL,
  FEDATA,
  FEUADDR,
  FSTS,
  PAGE_GRP_RESP_DSC,
  PAGE_REQ_DSC,
  PEADDR,
  PECTL,
  PEDATA,
  PEUADDR,
  PQA,
  PQH,
  PQT,
  PRS,
} from '@iommukit/driver-vtd';
import type { InvalidationQueue } from './invalidation-queue.ts';
import { type Platform, readRegister64, readWords, writeRegister64 } from './platform.ts';

/** Data of the unit's two interrupt messages. */
const MESSAGE = { FAULT: 1, PAGE_REQUEST: 2 } as const;
const QUEUE_BYTES = 4096;
const PAGE_REQUEST_BYTES = 32;
const FAULT_RECORD_BYTES = 16;

const readFault = (words: Uint32Array) => decode(FAULT_RECORD, words);
const readPageRequest = (words: Uint32Array) => decode(PAGE_REQ_DSC, words);

/** A fault record by the specification's names. */
export type Fault = ReturnType<typeof readFault>;
/** A page request by the specification's names. */
export type PageRequest = ReturnType<typeof readPageRequest>;

/** What the unit tells a driver by interrupt: faults and page requests. */
export class Events {
  /** What the unit recorded, oldest first. */
  readonly faults: Fault[] = [];
  /** Decides whether a page that a device asks for is there now; false refuses it. */
  onPageRequest: (request: PageRequest) => boolean = () => false;
  readonly #platform: Platform;
  readonly #queue: InvalidationQueue;
  readonly #pageRequests: number;

  constructor(platform: Platform, queue: InvalidationQueue) {
    this.#platform = platform;
    this.#queue = queue;
    this.#pageRequests = platform.allocPages(1);
    this.#enable();
  }

  /** Fault status register, decoded. */
  get faultStatus() {
    return decode(FSTS, [this.#platform.readRegister(FSTS.offset)]);
  }

  /** Page request queue, and both interrupts unmasked. */
  #enable(): void {
    const { writeRegister } = this.#platform;
    writeRegister64(this.#platform, PQH.offset, new Uint32Array(2));
    writeRegister64(this.#platform, PQT.offset, new Uint32Array(2));
    writeRegister64(this.#platform, PQA.offset, encode(PQA, { PQA: this.#pageRequests, PQS: 0 }));
    const address = this.#platform.routeInterrupt((data) => {
      if (data === MESSAGE.FAULT) this.#serveFaults();
      else if (data === MESSAGE.PAGE_REQUEST) this.#servePageRequests();
    });
    writeRegister(FEDATA.offset, MESSAGE.FAULT);
    writeRegister(FEADDR.offset, address);
    writeRegister(FEUADDR.offset, 0);
    writeRegister(FECTL.offset, 0);
    writeRegister(PEDATA.offset, MESSAGE.PAGE_REQUEST);
    writeRegister(PEADDR.offset, address);
    writeRegister(PEUADDR.offset, 0);
    writeRegister(PECTL.offset, 0);
  }

  /** Read fault records from FSTS.FRI on, give each back by writing its F, then the overflow bit. */
  #serveFaults(): void {
    const { FRO, NFR } = decode(CAP, readRegister64(this.#platform, CAP.offset));
    let index = this.faultStatus.FRI;
    for (let count = 0; count <= NFR && this.faultStatus.PPF === 1; count++) {
      const at = FRO * 16 + index * FAULT_RECORD_BYTES;
      const words = Uint32Array.from({ length: 4 }, (_, i) =>
        this.#platform.readRegister(at + 4 * i),
      );
      const fault = readFault(words);
      if (fault.F === 1) this.faults.push(fault);
      this.#platform.writeRegister(at + 12, FAULT_RECORD.fields.F.mask);
      index = (index + 1) % (NFR + 1);
    }
    this.#platform.writeRegister(FSTS.offset, FSTS.fields.PFO.mask);
  }

  /** Take requests up to the tail, answer the last one of each group. */
  #servePageRequests(): void {
    const { readRegister, writeRegister } = this.#platform;
    writeRegister(PRS.offset, PRS.fields.PPR.mask);
    const tail = readRegister(PQT.offset);
    let head = readRegister(PQH.offset);
    let served = true;
    while (head !== tail) {
      const request = readPageRequest(readWords(this.#platform, this.#pageRequests + head, 8));
      served = this.onPageRequest(request) && served;
      if (request.LPIG === 1) {
        this.#respond(request, served);
        served = true;
      }
      head = (head + PAGE_REQUEST_BYTES) % QUEUE_BYTES;
    }
    writeRegister64(this.#platform, PQH.offset, Uint32Array.of(head, 0));
  }

  #respond({ RID, PP, PASID, PRGI }: PageRequest, served: boolean): void {
    const RC = served ? 'SUCCESS' : 'INVALID';
    this.#queue.push(PAGE_GRP_RESP_DSC, { TYPE: 'PAGE_GRP_RESP', PP, PASID, RID, PRGI, RC });
    this.#queue.flush();
  }
}
