/**
 * Walks one or both stages for a request, and keeps the result in the TLB. Every kind of request
 * comes here when the TLB does not help.
 *
 * @spec SMMUv3 3.3, 3.4, 3.17 (TLB tagging)
 */
import { ENTRY_KIND } from '@iommukit/pgtable-fast';
import { EVENT_CLASS } from '../spec/events.ts';
import { STE_CONFIG } from '../spec/stream-table-entry.ts';
import { type CacheAccess, sourceTag, WORLD_TAG } from './caches.ts';
import { type Stage1Config, type Stage2Config, type StreamConfig, WORLD } from './configuration.ts';
import type { Stage1Walker } from './stage1-walker.ts';
import { PRIVILEGED_SHIFT, RIGHT, type Stage2Walker } from './stage2-walker.ts';
import { GLOBAL_TAG } from './translation-commands.ts';

const EVERY_RIGHT = RIGHT.READ | RIGHT.WRITE | RIGHT.EXEC;

/** Lookup key of translations of an IPA, which stage 2 alone makes. @hot */
export const stage2Source = (stream: StreamConfig): number =>
  sourceTag(stream.vmid, STE_CONFIG.S2, 0, 0);

/** Lookup key of translations of a VA. @hot */
export const stage1Source = (stream: StreamConfig, context: Stage1Config): number =>
  sourceTag(stream.vmid, stream.config, context.aset, context.world);

/** The walkers and the TLB behind them; the result of the last walk stands in the fields. */
export class Stages {
  /** 4 KiB frame of the result. */
  pfn = 0;
  /** 4 KiB frame between the stages: what stage 1 made of the input. */
  ipaPfn = 0;
  /** Rights of the result: user in bits 2:0, privileged in 5:3. */
  rights = 0;
  /** lg2 of the bytes over which the result is linear. */
  sizeLg2 = 12;
  /** False: the first write has to make a leaf dirty; the entry lets none pass. */
  dirtyKnown = true;
  readonly #caches: CacheAccess;
  readonly #stage1: Stage1Walker;
  readonly #stage2: Stage2Walker;

  constructor(caches: CacheAccess, stage1: Stage1Walker, stage2: Stage2Walker) {
    this.#caches = caches;
    this.#stage1 = stage1;
    this.#stage2 = stage2;
  }

  /**
   * Stage 2 of a stream that has one. @hot
   *
   * @param pfn 4 KiB frame of the IPA
   * @param need rights without which it is a fault, user or privileged; a write makes the leaf dirty
   * @returns true when it faulted
   */
  walkStage2(stream: StreamConfig, pfn: number, need: number): boolean {
    const stage2 = this.#stage2;
    if (stream.stage2 === undefined || stage2.walk(stream.stage2, pfn, need, EVENT_CLASS.IN)) {
      return true;
    }
    this.ipaPfn = pfn;
    this.pfn = stage2.pfn;
    this.rights = stage2.rights;
    this.sizeLg2 = stage2.sizeLg2;
    this.dirtyKnown = stage2.dirtyKnown;
    this.#caches.tlb.insert(
      stage2Source(stream),
      GLOBAL_TAG,
      pfn,
      stage2.pfn,
      stage2.sizeLg2,
      stage2.rights,
      stage2.dirtyKnown,
      ENTRY_KIND.SECOND_STAGE,
      stream.vmid,
      GLOBAL_TAG,
    );
    return false;
  }

  /**
   * Stage 1, and stage 2 behind it when the stream has one. @hot
   *
   * @param pfn 4 KiB frame of the VA, its ignored top byte replaced
   * @param need rights of the request, in bits 2:0; a write makes the leaves dirty
   * @param privileged whose rights of stage 1 count
   * @returns true when it faulted
   */
  walk(
    stream: StreamConfig,
    context: Stage1Config,
    pfn: number,
    need: number,
    privileged: boolean,
  ): boolean {
    const stage1 = this.#stage1;
    const placed = privileged ? need << PRIVILEGED_SHIFT : need;
    if (stage1.walk(context, pfn, placed, stream.stage2)) return true;
    this.ipaPfn = stage1.pfn;
    this.pfn = stage1.pfn;
    this.rights = stage1.rights;
    this.sizeLg2 = stage1.sizeLg2;
    this.dirtyKnown = stage1.dirtyKnown;
    // A translation request may ask where nothing is allowed: stage 2 has no part in that.
    if ((privileged ? this.rights >>> PRIVILEGED_SHIFT : this.rights & EVERY_RIGHT) === 0) {
      return false;
    }
    if (stream.stage2 !== undefined && this.#combine(stream.stage2, placed)) return true;
    this.#insert(stream, context, pfn);
    return false;
  }

  /** What stage 2 makes of the IPA. @returns true when it faulted */
  #combine(config: Stage2Config, need: number): boolean {
    const stage2 = this.#stage2;
    if (stage2.walk(config, this.ipaPfn, need, EVENT_CLASS.IN)) return true;
    this.pfn = stage2.pfn;
    this.rights &= stage2.rights;
    this.dirtyKnown = this.dirtyKnown && stage2.dirtyKnown;
    this.sizeLg2 = Math.min(this.sizeLg2, stage2.sizeLg2);
    return false;
  }

  #insert(stream: StreamConfig, context: Stage1Config, pfn: number): void {
    const caches = this.#caches;
    const { asid } = context;
    caches.tlb.insert(
      stage1Source(stream, context),
      asid,
      pfn,
      this.pfn,
      this.sizeLg2,
      this.rights,
      this.dirtyKnown,
      stream.stage2 === undefined ? ENTRY_KIND.FIRST_STAGE : ENTRY_KIND.NESTED,
      context.world === WORLD.NS_EL1 ? stream.vmid : (WORLD_TAG[context.world] as number),
      this.#stage1.global && caches.knowsGlobalPages ? GLOBAL_TAG : asid,
    );
  }
}
