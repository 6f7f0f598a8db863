import {
  ATC_INV,
  ATC_SIZE_ALL,
  COMMAND,
  PRI_RESP,
  RANGE_ALL,
  RESUME,
  TLBI,
} from '../spec/commands.ts';
import type { CommandQueue } from './command-queue.ts';
import { atcSize, levelOf, nextPiece, withoutLevel } from './range-pieces.ts';

const { NUM, SCALE, TG, TTL, LEAF } = TLBI.fields;
const PAGE_LG2 = 12;
/** From this many steps on everything of a tag is cheaper than step by step. */
const STEPS_WITHOUT_RANGES_LG2 = 9;
/** Largest range that SCALE can name. */
const MAX_RANGE_PAGES = 2 ** 31;
const PFN_LOW = 2 ** 20;
const { SSV, SSID } = ATC_INV.fields;
const ASID_SHIFT = 16;
/** VMID of streams without a stage 2. */
const NO_VMID = 0;

/** What decides how commands look. */
export interface InvalidationFeatures {
  /** The unit takes range forms and levels (IDR3.RIL). */
  readonly rangeInvalidation: boolean;
  /** The unit has EL2 stream worlds. */
  readonly el2: boolean;
  /** Stage 1 of the host is in the EL2-E2H world. */
  readonly e2h: boolean;
}

/** What a TLBI by address names besides the addresses. */
interface TaggedRange {
  readonly opcode: number;
  /** ASID and VMID as they lie in the command. */
  readonly tags: number;
}

/**
 * The invalidation commands of one unit by name. Each adds to the queue's batch; `submit` hands
 * them over. Frames are of 4 KiB, `last` inclusive.
 *
 * @spec SMMUv3 4.3 to 4.5
 */
export class Invalidate {
  readonly #queue: CommandQueue;
  readonly #ranges: boolean;
  readonly #el2: boolean;
  readonly #byAsid: number;
  readonly #byAddress: number;

  constructor(queue: CommandQueue, { rangeInvalidation, el2, e2h }: InvalidationFeatures) {
    this.#queue = queue;
    this.#ranges = rangeInvalidation;
    this.#el2 = el2;
    this.#byAsid = e2h ? COMMAND.TLBI_EL2_ASID : COMMAND.TLBI_NH_ASID;
    this.#byAddress = e2h ? COMMAND.TLBI_EL2_VA : COMMAND.TLBI_NH_VA;
  }

  /**
   * The cached configuration of a stream.
   *
   * @param leafOnly the level-1 descriptor above the entry did not change
   */
  stream(sid: number, leafOnly: boolean): void {
    this.#queue.push(COMMAND.CFGI_STE, sid, leafOnly ? 1 : 0, 0);
  }

  /**
   * The cached context descriptor of a substream; 0 is also that of requests without one.
   *
   * @param leafOnly the level-1 descriptor above it did not change
   */
  context(sid: number, ssid: number, leafOnly: boolean): void {
    const w0 = (COMMAND.CFGI_CD | (ssid << SSID.shift)) >>> 0;
    this.#queue.push(w0, sid, leafOnly ? 1 : 0, 0);
  }

  /** All configuration and all translations. */
  all(): void {
    this.#queue.push(COMMAND.CFGI_STE_RANGE, 0, RANGE_ALL, 0);
    if (this.#el2) this.#queue.push(COMMAND.TLBI_EL2_ALL, 0, 0, 0);
    this.#queue.push(COMMAND.TLBI_NSNH_ALL, 0, 0, 0);
  }

  /** All translations of a VMID, of both stages. */
  vmid(vmid: number): void {
    this.#queue.push(COMMAND.TLBI_S12_VMALL, vmid, 0, 0);
  }

  /** Translations of a VMID that began in stage 1. */
  vmidStage1(vmid: number): void {
    this.#queue.push(COMMAND.TLBI_NH_ALL, vmid, 0, 0);
  }

  /** All translations of an ASID of the host. */
  asid(asid: number): void {
    this.#queue.push(this.#byAsid, (NO_VMID | (asid << ASID_SHIFT)) >>> 0, 0, 0);
  }

  /**
   * Stage-1 translations of an ASID of the host in a range. @hot
   *
   * @param leafLg2 lg2 of the bytes of every leaf there, or 0
   * @param leafOnly no table was freed
   */
  stage1(asid: number, start: number, last: number, leafLg2: number, leafOnly: boolean): void {
    const tags = (NO_VMID | (asid << ASID_SHIFT)) >>> 0;
    const range = { opcode: this.#byAddress, tags };
    if (!this.range(range, start, last, leafLg2, leafOnly)) this.asid(asid);
  }

  /**
   * Stage-2 translations of a VMID in a range; results of both stages stay. @hot
   *
   * @param leafLg2 lg2 of the bytes of every leaf there, or 0
   * @param leafOnly no table was freed
   */
  stage2(vmid: number, start: number, last: number, leafLg2: number, leafOnly: boolean): void {
    const range = { opcode: COMMAND.TLBI_S2_IPA, tags: vmid };
    if (!this.range(range, start, last, leafLg2, leafOnly)) this.vmid(vmid);
  }

  /**
   * Name a range in commands.
   *
   * @param granuleLg2 lg2 of the bytes of the table's smallest page
   * @returns false, with nothing added, when everything under the tag is cheaper
   */
  range(
    range: TaggedRange,
    start: number,
    last: number,
    leafLg2: number,
    leafOnly: boolean,
    granuleLg2 = PAGE_LG2,
  ): boolean {
    const pages = last - start + 1;
    const knownLeaf = leafOnly ? leafLg2 : 0;
    if (!this.#ranges) return this.#stepwise(range, start, pages, knownLeaf, leafOnly);
    if (pages > MAX_RANGE_PAGES) return false;
    const level = levelOf(knownLeaf, granuleLg2);
    const perGranule = 2 ** (granuleLg2 - PAGE_LG2);
    let granules = pages / perGranule;
    if (level === 0) granules = withoutLevel(granules);
    const granuleCode = (granuleLg2 - PAGE_LG2) / 2 + 1;
    const shape = (granuleCode << TG.shift) | (level << TTL.shift) | (leafOnly ? LEAF.mask : 0);
    for (let pfn = start; granules > 0; ) {
      const { scale, multiple } = nextPiece(granules);
      const size = ((multiple - 1) << NUM.shift) | (scale << SCALE.shift);
      this.#push(range.opcode | size, range.tags, pfn, shape);
      granules -= multiple * 2 ** scale;
      pfn += multiple * 2 ** scale * perGranule;
    }
    return true;
  }

  /** One command for each leaf, or each page where the leaves are not known. */
  #stepwise(
    { opcode, tags }: TaggedRange,
    start: number,
    pages: number,
    leafLg2: number,
    leafOnly: boolean,
  ): boolean {
    const step = 2 ** Math.max(leafLg2 - PAGE_LG2, 0);
    if (pages >= step * 2 ** STEPS_WITHOUT_RANGES_LG2) return false;
    for (let done = 0; done < pages; done += step) {
      this.#push(opcode, tags, start + done, leafOnly ? LEAF.mask : 0);
    }
    return true;
  }

  #push(w0: number, tags: number, pfn: number, low: number): void {
    const address = ((pfn % PFN_LOW) << PAGE_LG2) | low;
    this.#queue.push(w0 >>> 0, tags, address >>> 0, Math.floor(pfn / PFN_LOW));
  }

  /**
   * What a device itself caches of a range.
   *
   * @param ssid 20 bits, or -1 = entries of every substream and of none
   */
  deviceTlb(sid: number, ssid: number, start: number, last: number): void {
    const size = atcSize(start, last);
    const pages = 2 ** size;
    this.#atc(sid, ssid, Math.floor(start / pages) * pages, size);
  }

  /** Everything that a device caches of a substream; -1 = everything at all. */
  wholeDeviceTlb(sid: number, ssid: number): void {
    this.#atc(sid, ssid, 0, ATC_SIZE_ALL);
  }

  #atc(sid: number, ssid: number, pfn: number, size: number): void {
    const substream = ssid < 0 ? 0 : SSV.mask | (ssid << SSID.shift);
    this.#push(COMMAND.ATC_INV | substream, sid, pfn, size);
  }

  /** A command of a guest that was checked: the four u32 words of `words` from `at` on. */
  raw(words: ArrayLike<number>, at: number): void {
    const [w0 = 0, w1 = 0, w2 = 0, w3 = 0] = [0, 1, 2, 3].map((index) => words[at + index]);
    this.#queue.push(w0, w1, w2, w3);
  }

  /**
   * Let a stalled transaction go on, or end it.
   *
   * @param stag 16 bits, of the event
   * @param retry translate it again; else it aborts
   */
  resume(sid: number, stag: number, retry: boolean): void {
    const { AC, AB } = RESUME.fields;
    this.#queue.push(COMMAND.RESUME | (retry ? AC.mask : AB.mask), sid, stag, 0);
  }

  /**
   * Answer a page request group.
   *
   * @param ssid 20 bits, or -1 = requests without SubstreamID
   * @param response one of PRI_RESPONSE
   */
  pageResponse(sid: number, ssid: number, prgIndex: number, response: number): void {
    const substream = ssid < 0 ? 0 : SSV.mask | (ssid << SSID.shift);
    const { RESP } = PRI_RESP.fields;
    const w0 = (COMMAND.PRI_RESP | substream) >>> 0;
    this.#queue.push(w0, sid, prgIndex | (response << RESP.shift), 0);
  }

  /** Forget what was added since the last `submit`. */
  discard(): void {
    this.#queue.discard();
  }

  /** Hand over and wait. */
  submit(): void {
    this.#queue.submit();
  }
}
