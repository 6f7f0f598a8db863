/**
 * Paging domains: a stage-2 table of the host, its pending invalidations, the entries that point
 * to it.
 *
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_domain_finalise_s2)
 */
import { encode } from '@iommukit/bits';
import { type IommuUnit, type PagingDomain, refuse } from '@iommukit/core';
import {
  armStage2,
  createTable,
  type LeafRecord,
  type PageTable,
  type PageTablePool,
} from '@iommukit/pgtable-fast';
import { STE, STE_CONFIG } from '../spec/stream-table-entry.ts';
import { PendingRanges } from './pending-ranges.ts';
import { type SmmuIdentityDomain, TranslatingDomain, USE_INCOMING } from './translating-domain.ts';
import type { UnitContext } from './unit-context.ts';

/** What a device can be attached to. */
export type AttachableDomain = SmmuPagingDomain | SmmuIdentityDomain;

const PAGE_LG2 = 12;
const PAGE_BYTES = 4096;
const E2BIG = -7;
const ERANGE = -34;
/** S2SL0 of 4K tables by start level 0, 1, 2. */
const SL0_OF_START = [2, 1, 0] as const;
/** Walk attributes: inner and outer write-back, inner shareable. */
const WRITE_BACK = 1;
const INNER_SHAREABLE = 3;

/** A stage-2 domain with the 4K granule. */
export class SmmuPagingDomain extends TranslatingDomain implements PagingDomain {
  readonly kind = 'paging';
  readonly granuleLg2 = PAGE_LG2;
  readonly apertureStartFrame = 0;
  readonly apertureLastFrame: number;
  readonly nestParent = false;
  readonly pasidCompatible = false;
  readonly enforcesCacheCoherency = false;
  readonly pageSizesLg2: readonly number[];
  readonly #table: PageTable;
  readonly #pending = new PendingRanges();
  readonly #leaf: LeafRecord = { iovaPfn: 0, oaPfn: 0, pages: 0, level: 0, wordLo: 0, wordHi: 0 };

  /** @throws {Error} when the pool is full */
  constructor(unit: IommuUnit, context: UnitContext, pool: PageTablePool, smallOnly: boolean) {
    super(unit, context);
    const { ipaBits, oaBits } = context.caps;
    const format = armStage2({
      granule: PAGE_BYTES,
      iovaBits: ipaBits,
      oaBits,
      ...(smallOnly && { pageSizesLg2: [PAGE_LG2] }),
    });
    this.#table = createTable(pool, format);
    this.pageSizesLg2 = this.#table.pageSizesLg2;
    this.apertureLastFrame = 2 ** (ipaBits - PAGE_LG2) - 1;
  }

  mapRuns(iovaFrame: number, runs: Float64Array, runCount: number, prot: number): number {
    if (iovaFrame + framesOf(runs, runCount) - 1 > this.apertureLastFrame) return ERANGE;
    return this.#table.mapRuns(iovaFrame, runs, runCount, prot);
  }

  unmap(iovaFrame: number, count: number): number {
    const last = this.#endOfLeafAt(iovaFrame + count - 1);
    const unmapped = this.#table.unmapRange(iovaFrame, count);
    if (unmapped > 0) this.#pending.add(iovaFrame, last);
    return unmapped;
  }

  sync(): void {
    const freed = this.#table.takeFreedTables();
    const pending = this.#pending;
    for (const [{ invalidate }, { vmid }] of this.uses) {
      for (let at = 0; at < pending.count; at++) {
        invalidate.stage2(vmid, pending.startAt(at), pending.lastAt(at), freed === 0);
      }
      invalidate.submit();
    }
    pending.clear();
    if (freed !== 0) this.#table.freeTables(freed);
  }

  iovaToFrame(iovaFrame: number): number {
    return this.#table.translate(iovaFrame);
  }

  readRuns(iovaFrame: number, count: number, out: Float64Array): number {
    const runs = this.#table.readRuns(iovaFrame, count, out);
    return runs >= 0 && framesOf(out, runs) < count ? E2BIG : runs;
  }

  free(): void {
    this.#table.destroy();
  }

  /**
   * @throws {IommuError} EINVAL for another SMMU: its VMIDs and its invalidations are its own
   * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_attach_dev)
   */
  checkFits(unit: UnitContext): void {
    if (unit === this.context) return;
    throw refuse(
      'EINVAL',
      'attach',
      'domain-fits-unit',
      `this domain belongs to ${this.context.name}, and ${unit.name} shares no domains`,
      { owner: this.context.name, accepted: `a domain allocated for a device of ${unit.name}` },
    );
  }

  streamEntry(vmid: number): Uint32Array {
    const { rootPa, levels, iovaBits } = this.#table;
    return encode(STE, {
      V: 1,
      CONFIG: STE_CONFIG.S2,
      SHCFG: USE_INCOMING,
      S2VMID: vmid,
      S2T0SZ: 64 - iovaBits,
      S2SL0: SL0_OF_START[4 - levels] ?? 0,
      S2IR0: WRITE_BACK,
      S2OR0: WRITE_BACK,
      S2SH0: INNER_SHAREABLE,
      S2PS: this.context.caps.oaCode,
      S2AA64: 1,
      S2PTW: 1,
      S2R: 1,
      S2TTB: rootPa,
    });
  }

  protected takeVmid(unit: UnitContext): number {
    return unit.vmids.take('attach');
  }

  protected releaseVmid(unit: UnitContext, vmid: number): void {
    unit.vmids.release(vmid);
  }

  /** Last frame of the leaf that holds `frame`, or `frame` itself. */
  #endOfLeafAt(frame: number): number {
    const leaf = this.#leaf;
    return this.#table.nextLeaf(frame, frame + 1, leaf) ? leaf.iovaPfn + leaf.pages - 1 : frame;
  }
}

const framesOf = (runs: Float64Array, runCount: number): number => {
  let frames = 0;
  for (let at = 0; at < runCount; at++) frames += runs[at * 2 + 1] as number;
  return frames;
};
