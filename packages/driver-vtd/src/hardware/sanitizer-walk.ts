/**
 * Walks that use no cache, and how a cached translation differs from them.
 */
import { ACCESS } from '@iommukit/core';
import { type IotlbEntry, TLB } from './iotlb.ts';
import { RIGHT } from './second-stage-walker.ts';
import type { Translator } from './translate.ts';
import { ADDRESS_TYPE, type TranslationRequest } from './translation-request.ts';

/** Dirty bits: first stage bit 6, second stage bit 9. */
const DIRTY_BITS = 0x240;

/** Requester and PASID of a packed IOTLB source. */
export function unpackSource(source: number): { rid: number; pasid: number; priv: number } {
  const priv = ((source % 2) + 2) % 2;
  const whole = (source - priv) / 2;
  const pasid = Math.floor(whole / 0x1_0000);
  return { rid: whole - pasid * 0x1_0000, pasid, priv };
}

/** How an entry is stale. */
export interface Staleness {
  readonly kind: 'stale-translation' | 'stale-dirty';
  /** Fault reason of the fresh walk, 0 = it succeeds. */
  readonly reason: number;
}

/** Walks beside a unit, with the unit's latched state. */
export class FreshWalk {
  /** Where the result of the last walk stands. */
  readonly translator: Translator;
  readonly #unit: Translator;

  /** @param translator a dry translator that uses no cache */
  constructor(unit: Translator, translator: Translator) {
    this.#unit = unit;
    this.translator = translator;
  }

  /** Fresh walk; the result stands in the fresh translator. */
  walk(rid: number, pasid: number, pfn: number, access: number, priv: boolean): number {
    const write = (access & (ACCESS.WRITE | ACCESS.ATOMIC)) !== 0;
    const read = !write || (access & (ACCESS.READ | ACCESS.ATOMIC)) !== 0;
    const request: TranslationRequest = {
      rid,
      pasid,
      pfn,
      want: (read ? RIGHT.R : 0) | (write ? RIGHT.W : 0),
      write,
      blameWrite: write,
      priv,
      exec: false,
      addressType: ADDRESS_TYPE.UNTRANSLATED,
    };
    if ((access & ACCESS.ZERO_LENGTH) !== 0 && !write) request.want = 0;
    this.translator.follow(this.#unit);
    return this.translator.resolve(request);
  }

  /** The fresh walk would set a dirty bit that the cached entry makes the unit skip. */
  owesDirty(access: number): boolean {
    if ((access & (ACCESS.WRITE | ACCESS.ATOMIC)) === 0) return false;
    const { pending } = this.translator;
    for (let i = 0; i < pending.count; i++)
      if (((pending.bits[i] as number) & DIRTY_BITS) !== 0) return true;
    return false;
  }

  /** How an IOTLB entry differs from a fresh walk with the rights that it grants. */
  staleness(entry: IotlbEntry): Staleness | undefined {
    const { rid, pasid, priv } = unpackSource(entry.source);
    const { meta } = entry;
    const kept = meta >>> TLB.REASON_SHIFT;
    const writes = (meta & (TLB.W | TLB.CLEAN_WRITE)) === (TLB.W | TLB.CLEAN_WRITE);
    const reads = (meta & TLB.R) !== 0 ? ACCESS.READ : 0;
    const access = (writes ? ACCESS.WRITE : 0) | reads || ACCESS.WRITE;
    const reason = this.walk(rid, pasid, entry.iovaPfn, access, priv === 1);
    if (kept !== 0) return reason !== 0 ? undefined : { kind: 'stale-translation', reason };
    if (reason !== 0 || this.translator.pfn !== entry.pfn)
      return { kind: 'stale-translation', reason };
    return this.owesDirty(access) ? { kind: 'stale-dirty', reason } : undefined;
  }
}
