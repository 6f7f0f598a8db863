/**
 * Paging domains: a v1 table of the host, its pending invalidations, the entries that point to it.
 *
 * @linux drivers/iommu/amd/iommu.c (amdv1_ops)
 */
import { encode } from '@iommukit/bits';
import { type IommuUnit, type PagingDomain, refuse } from '@iommukit/core';
import {
  amdV1,
  createTable,
  type LeafRecord,
  type PageTable,
  type PageTablePool,
} from '@iommukit/pgtable-fast';
import { DTE } from '../spec/device-table-entry.ts';
import { PendingRanges } from './pending-ranges.ts';
import { type AmdviIdentityDomain, TranslatingDomain } from './translating-domain.ts';
import type { UnitContext } from './unit-context.ts';

/** What a device can be attached to. */
export type AttachableDomain = AmdviPagingDomain | AmdviIdentityDomain;

const PAGE_LG2 = 12;
const START_LEVELS = 3;
const E2BIG = -7;
const ERANGE = -34;

/** A v1 domain. Its table grows at the top when a mapping needs it. */
export class AmdviPagingDomain extends TranslatingDomain implements PagingDomain {
  readonly kind = 'paging';
  readonly granuleLg2 = PAGE_LG2;
  readonly apertureStartFrame = 0;
  readonly apertureLastFrame: number;
  readonly nestParent = false;
  readonly pasidCompatible = false;
  /** Leaves carry FC, but the DTE's SD and the device's own attributes decide too. */
  readonly enforcesCacheCoherency = false;
  readonly pageSizesLg2: readonly number[];
  readonly #table: PageTable;
  readonly #pending = new PendingRanges();
  readonly #leaf: LeafRecord = { iovaPfn: 0, oaPfn: 0, pages: 0, level: 0, wordLo: 0, wordHi: 0 };

  /** @throws {Error} when the pool is full */
  constructor(unit: IommuUnit, context: UnitContext, pool: PageTablePool, smallOnly: boolean) {
    super(unit, context);
    const { caps } = context;
    const format = amdV1({
      levels: START_LEVELS,
      maxLevels: caps.hostLevels,
      oaBits: caps.hostAddressBits,
      ...(smallOnly && { pageSizesLg2: [PAGE_LG2] }),
    });
    this.#table = createTable(pool, format);
    this.pageSizesLg2 = this.#table.pageSizesLg2;
    this.apertureLastFrame = 2 ** (caps.iovaBits - PAGE_LG2) - 1;
  }

  mapRuns(iovaFrame: number, runs: Float64Array, runCount: number, prot: number): number {
    if (iovaFrame + framesOf(runs, runCount) - 1 > this.apertureLastFrame) return ERANGE;
    const { rootPa } = this.#table;
    const result = this.#table.mapRuns(iovaFrame, runs, runCount, prot);
    if (this.#table.rootPa !== rootPa) this.#rootChanged();
    return result;
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
    for (const [{ invalidate }, { domainId }] of this.uses) {
      for (let at = 0; at < pending.count; at++) {
        invalidate.pages(domainId, pending.startAt(at), pending.lastAt(at), freed !== 0);
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

  /** @throws {IommuError} EINVAL for a unit with fewer levels than the table has */
  checkFits(unit: UnitContext): void {
    if (unit.caps.hostLevels >= this.context.caps.hostLevels) return;
    throw refuse(
      'EINVAL',
      'attach',
      'domain-fits-unit',
      `${unit.name} walks ${unit.caps.hostLevels} levels, this domain may have ${this.context.caps.hostLevels}`,
      { owner: unit.name, accepted: 'a domain allocated for a device of this unit' },
    );
  }

  deviceEntry(domainId: number): Uint32Array {
    const { rootPa, levels } = this.#table;
    return encode(DTE, {
      V: 1,
      TV: 1,
      MODE: levels,
      HOST_ROOT: rootPa,
      IR: 1,
      IW: 1,
      DOMAIN_ID: domainId,
    });
  }

  protected takeId(unit: UnitContext): number {
    return unit.domainIds.take('attach');
  }

  protected releaseId(unit: UnitContext, domainId: number): void {
    unit.domainIds.release(domainId);
  }

  /**
   * The table has a new top. The old one is still part of it, so requests that use a cached entry
   * meanwhile lose nothing but the new range.
   */
  #rootChanged(): void {
    for (const [{ table, invalidate }, { domainId, devices }] of this.uses) {
      const entry = this.deviceEntry(domainId);
      for (const { rid } of devices) {
        table.write(rid, entry);
        invalidate.deviceEntry(rid);
      }
      invalidate.submit();
    }
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
