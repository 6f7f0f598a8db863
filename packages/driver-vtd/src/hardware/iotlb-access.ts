/**
 * Between requests and the IOTLB: look-up over all page sizes, filling, and kept faults of caching
 * mode.
 *
 * @spec VT-d 6.1 (caching mode), 6.2.4
 */
import { FAULT_REASON } from '../spec/fault-reasons.ts';
import { PGTT } from '../spec/pasid-entry.ts';
import type { Caches } from './caches.ts';
import { TLB } from './iotlb.ts';
import type { RequestParts } from './request-parts.ts';
import { needTable, samePermission, touchesInterruptRange } from './request-rules.ts';
import { RIGHT, SS_FAIL } from './second-stage-walker.ts';
import type { Translator } from './translate.ts';

/** Uses the IOTLB for a request engine. */
export class IotlbAccess {
  /** What an entry must offer, by access bits. */
  readonly need: Int32Array;
  readonly #parts: RequestParts;
  readonly #translator: Translator;
  readonly #caches: Caches;

  constructor(parts: RequestParts) {
    this.#parts = parts;
    this.#translator = parts.translator;
    this.#caches = parts.caches;
    this.need = needTable(parts.features.zeroLengthRead);
  }

  readonly #hit = { meta: 0, target: 0, sizeLg2: 12 };

  /** The entry of a page, whatever its size; the result is reused. */
  find(source: number, spread: number, pfn: number) {
    const hit = this.#hit;
    for (let sizeLg2 = 12; sizeLg2 <= 30; sizeLg2 += 9) {
      const array = this.#caches.iotlb.arrayFor(sizeLg2);
      const frames = 2 ** (sizeLg2 - 12);
      const slot = array.find(source, spread, Math.floor(pfn / frames));
      if (slot < 0) continue;
      hit.meta = array.meta[slot] as number;
      hit.target = (array.target[slot] as number) + (pfn % frames);
      hit.sizeLg2 = sizeLg2;
      return hit;
    }
    return undefined;
  }

  /** Keep the translator's result; in pieces of 4 KiB where a large page meets FEEx_xxxxh. */
  fill(source: number, spread: number, pfn: number, untagged: boolean): void {
    if (this.#parts.dry) return;
    const t = this.#translator;
    let { sizeLg2 } = t;
    if (sizeLg2 > 12 && touchesInterruptRange(t.pfn, pfn, sizeLg2, untagged)) sizeLg2 = 12;
    const frames = 1 << (sizeLg2 - 12);
    const offset = (pfn | 0) & (frames - 1);
    const meta =
      TLB.GOOD |
      t.rights |
      (t.cleanWrite ? TLB.CLEAN_WRITE : 0) |
      (t.noSnoop ? TLB.SNOOP : 0) |
      (t.pgtt << TLB.PGTT_SHIFT);
    const array = this.#caches.iotlb.arrayFor(sizeLg2);
    const page = (pfn - offset) / frames;
    array.insert(source, spread, page, t.pfn - offset, meta, t.did, t.pasidTag);
    this.#parts.sanitizer?.filled(source, sizeLg2, page);
  }

  /** Caching mode: keep a second-stage fault too. */
  fillFault(source: number, spread: number, pfn: number, reason: number): void {
    const t = this.#translator;
    if (this.#parts.dry) return;
    if (t.ssFailure !== SS_FAIL.EMPTY && t.ssFailure !== SS_FAIL.RESERVED) return;
    const meta = (reason << TLB.REASON_SHIFT) | (t.pgtt << TLB.PGTT_SHIFT) | (t.fpd ? TLB.FPD : 0);
    this.#caches.iotlb.page4K.insert(source, spread, pfn, 0, meta, t.did, t.pasidTag);
  }

  /** Caching mode: the fault that a kept entry means for this access; 0 = walk. */
  cachedFault(source: number, spread: number, pfn: number, access: number): number {
    const hit = this.find(source, spread, pfn);
    if (hit === undefined) return 0;
    const reason = hit.meta >>> TLB.REASON_SHIFT;
    this.#translator.fpd = (hit.meta & TLB.FPD) !== 0;
    if (reason !== 0) return samePermission(reason, access);
    const pgtt = (hit.meta & TLB.PGTT_MASK) >>> TLB.PGTT_SHIFT;
    if (pgtt !== 0 && pgtt !== PGTT.SECOND_STAGE) return 0;
    const absent = (this.need[access & 127] as number) & ~hit.meta & (RIGHT.R | RIGHT.W);
    if (absent === 0) return 0;
    if ((absent & RIGHT.W) !== 0)
      return pgtt === 0 ? FAULT_REASON.LEGACY_WRITE : FAULT_REASON.WRITE;
    return pgtt === 0 ? FAULT_REASON.LEGACY_READ : FAULT_REASON.READ;
  }
}
