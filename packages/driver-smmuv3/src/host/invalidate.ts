import { COMMAND, RANGE_ALL, TLBI } from '../spec/commands.ts';
import type { CommandQueue } from './command-queue.ts';

const { NUM, SCALE, TG, LEAF } = TLBI.fields;
const GRANULE_4K = 1;
/** NUM + 1 at most. */
const MAX_MULTIPLE = 32;
/** From this many pages on a whole VMID is cheaper than page by page. */
const PAGES_WITHOUT_RANGES = 512;
/** Largest range that SCALE can name. */
const MAX_RANGE_PAGES = 2 ** 31;
const PFN_LOW = 2 ** 20;

/**
 * The invalidation commands of one unit by name. Each adds to the queue's batch; `submit` hands
 * them over.
 *
 * @spec SMMUv3 4.3, 4.4
 */
export class Invalidate {
  readonly #queue: CommandQueue;
  readonly #ranges: boolean;

  /** @param ranges the unit takes range forms (IDR3.RIL) */
  constructor(queue: CommandQueue, ranges: boolean) {
    this.#queue = queue;
    this.#ranges = ranges;
  }

  /**
   * The cached configuration of a stream.
   *
   * @param leafOnly the level-1 descriptor above the entry did not change
   */
  stream(sid: number, leafOnly: boolean): void {
    this.#queue.push(COMMAND.CFGI_STE, sid, leafOnly ? 1 : 0, 0);
  }

  /** All configuration and all translations. */
  all(): void {
    this.#queue.push(COMMAND.CFGI_STE_RANGE, 0, RANGE_ALL, 0);
    this.#queue.push(COMMAND.TLBI_NSNH_ALL, 0, 0, 0);
  }

  /** All translations of a VMID. */
  vmid(vmid: number): void {
    this.#queue.push(COMMAND.TLBI_S12_VMALL, vmid, 0, 0);
  }

  /**
   * Stage-2 translations of a VMID in a range of 4 KiB frames. @hot
   *
   * @param last inclusive
   * @param leafOnly no table was freed
   */
  stage2(vmid: number, start: number, last: number, leafOnly: boolean): void {
    let pages = last - start + 1;
    if (pages > (this.#ranges ? MAX_RANGE_PAGES : PAGES_WITHOUT_RANGES)) {
      this.vmid(vmid);
      return;
    }
    for (let pfn = start; pages > 0; ) {
      const { scale, multiple } = this.#ranges ? nextPiece(pages) : SINGLE_PAGE;
      this.#stage2Piece(vmid, pfn, scale, multiple, leafOnly);
      const done = multiple * 2 ** scale;
      pages -= done;
      pfn += done;
    }
  }

  #stage2Piece(
    vmid: number,
    pfn: number,
    scale: number,
    multiple: number,
    leafOnly: boolean,
  ): void {
    const single = scale === 0 && multiple === 1;
    const size = ((multiple - 1) << NUM.shift) | (scale << SCALE.shift);
    const lo = ((pfn % PFN_LOW) << 12) | (leafOnly ? LEAF.mask : 0);
    const granule = single ? 0 : GRANULE_4K << TG.shift;
    const hi = Math.floor(pfn / PFN_LOW);
    this.#queue.push(COMMAND.TLBI_S2_IPA | size, vmid, (lo | granule) >>> 0, hi);
  }

  /** A command of a guest that was checked: the four u32 words of `words` from `at` on. */
  raw(words: ArrayLike<number>, at: number): void {
    const [w0 = 0, w1 = 0, w2 = 0, w3 = 0] = [0, 1, 2, 3].map((index) => words[at + index]);
    this.#queue.push(w0, w1, w2, w3);
  }

  /** All stage-1 and nested translations of a VMID. */
  stage1All(vmid: number): void {
    this.#queue.push(COMMAND.TLBI_NH_ALL, vmid, 0, 0);
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

const SINGLE_PAGE = { scale: 0, multiple: 1 } as const;

/** The largest piece that starts here: the odd part of `pages`, five bits of it. */
const nextPiece = (pages: number): { readonly scale: number; readonly multiple: number } => {
  const scale = 31 - Math.clz32(pages & -pages);
  return { scale, multiple: (pages / 2 ** scale) % MAX_MULTIPLE };
};
