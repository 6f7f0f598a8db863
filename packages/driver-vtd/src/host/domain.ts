/**
 * Paging domains: a page table of the host, its pending invalidations, and how entries point to it.
 *
 * @linux drivers/iommu/intel/iommu.c (intel_fs_paging_domain_ops, intel_ss_paging_domain_ops)
 */
import {
  type DirtyOps,
  framesInRuns,
  type IommuUnit,
  inPool,
  type PagingDomain,
  PendingRanges,
  PROT,
  runsOfMapped,
} from '@iommukit/core';
import {
  attachTable,
  createTable,
  type LeafRecord,
  type PageTable,
  type PageTableFormat,
  type PageTablePool,
  type TableHandle,
  vtdSecondStage,
  x86FirstStage,
} from '@iommukit/pgtable-fast';
import { CacheTags, TAG } from './cache-tags.ts';
import { checkPagingFits } from './compatibility.ts';
import type { DeviceState } from './device-state.ts';
import { DirtyTracking } from './dirty.ts';
import type { Geometry } from './geometry.ts';
import { pagingContextEntry } from './legacy-entries.ts';
import type { VtdNestedDomain } from './nesting.ts';
import { firstStageEntry, secondStageEntry } from './pasid-entry.ts';
import { forceSnooping } from './snooping.ts';
import { TranslatingDomain } from './translating-domain.ts';
import type { UnitContext } from './unit-context.ts';

const EINVAL = -22;
const ERANGE = -34;
const PAGE_LG2 = 12;

/** Rights and hints that VT-d tables have bits for; first-stage pages are always user pages. */
const PROT_KEPT = PROT.READ | PROT.WRITE | PROT.CACHE | PROT.NOEXEC | PROT.MMIO;

/** What an entry that points to a paging domain's table needs to know of it. */
export interface PagingTables {
  readonly rootPa: number;
  readonly levels: number;
  readonly dirtyTracking: boolean;
  readonly forcesSnooping: boolean;
}

/** How a paging domain is made. */
export interface PagingDomainOptions {
  readonly firstStage: boolean;
  readonly geometry: Geometry;
  readonly nestParent: boolean;
  readonly pasidCompatible: boolean;
  /** Made with IOMMU_HWPT_ALLOC_DIRTY_TRACKING. */
  readonly dirtyCapable: boolean;
  /** Read-only mappings of a nest parent are refused (erratum 772415). */
  readonly nestParentWritableOnly: boolean;
}

/** A first-stage or second-stage domain. */
export class VtdPagingDomain extends TranslatingDomain implements PagingDomain, PagingTables {
  readonly kind = 'paging';
  readonly granuleLg2 = PAGE_LG2;
  readonly apertureStartFrame = 0;
  readonly apertureLastFrame: number;
  readonly options: PagingDomainOptions;
  /** What a change of this table must reach. */
  readonly tags = new CacheTags();
  /** Nested domains over this one. */
  readonly children = new Set<VtdNestedDomain>();
  readonly dirty?: DirtyOps;
  /** SSADE of the entries. */
  dirtyTracking = false;
  forcesSnooping = false;
  table: PageTable;
  readonly #pool: PageTablePool;
  readonly #pending = new PendingRanges();
  readonly #largestPage: number;
  readonly #leaf: LeafRecord = {
    iovaPfn: 0,
    oaPfn: 0,
    pages: 0,
    level: 0,
    wordLo: 0,
    wordHi: 0,
  };

  constructor(
    unit: IommuUnit,
    context: UnitContext,
    pool: PageTablePool,
    options: PagingDomainOptions,
  ) {
    super(unit, context);
    this.options = options;
    this.#pool = pool;
    const { iovaBits, pageSizesLg2 } = options.geometry;
    this.apertureLastFrame = 2 ** (iovaBits - PAGE_LG2) - 1;
    this.#largestPage = 2 ** ((pageSizesLg2.at(-1) ?? PAGE_LG2) - PAGE_LG2);
    this.table = this.createTable(false);
    if (options.dirtyCapable) this.dirty = new DirtyTracking(this);
  }

  get usesSecondStage(): boolean {
    return !this.options.firstStage;
  }
  get pageSizesLg2(): readonly number[] {
    return this.options.geometry.pageSizesLg2;
  }
  get nestParent(): boolean {
    return this.options.nestParent;
  }
  get pasidCompatible(): boolean {
    return this.options.pasidCompatible;
  }
  get enforcesCacheCoherency(): boolean {
    return this.forcesSnooping;
  }
  get rootPa(): number {
    return this.table.rootPa;
  }
  get levels(): number {
    return this.options.geometry.levels;
  }

  /**
   * An empty table of this domain's shape.
   *
   * @param snoop leaves force snooping (SNP); second stage only
   * @throws {IommuError} ENOMEM when the pool is full
   */
  createTable(snoop: boolean): PageTable {
    return inPool(() => createTable(this.#pool, this.#formatOf(snoop)));
  }

  /** Take over a table that a snapshot of the pool brought. */
  adoptTable(handle: TableHandle): void {
    const snoop = this.forcesSnooping && this.usesSecondStage;
    this.table = attachTable(this.#pool, this.#formatOf(snoop), handle);
  }

  #formatOf(snoop: boolean): PageTableFormat {
    const { firstStage, geometry } = this.options;
    const { levels, pageSizesLg2 } = geometry;
    const oaBits = this.context.caps.hostAddressBits;
    return firstStage
      ? x86FirstStage({ levels: levels as 4 | 5, oaBits, pageSizesLg2 })
      : vtdSecondStage({ levels: levels as 3 | 4 | 5, snoop, oaBits, pageSizesLg2 });
  }

  mapRuns(iovaFrame: number, runs: Float64Array, runCount: number, prot: number): number {
    if (this.options.nestParentWritableOnly && (prot & PROT.WRITE) === 0) return EINVAL;
    const last = iovaFrame + framesInRuns(runs, runCount) - 1;
    if (last > this.apertureLastFrame) return ERANGE;
    const result = this.table.mapRuns(iovaFrame, runs, runCount, prot & PROT_KEPT);
    if (result === 0 && this.tags.needsMapFlush) this.tags.flushNewlyPresent(iovaFrame, last);
    return result;
  }

  unmap(iovaFrame: number, count: number): number {
    const last = this.#endOfLeafAt(iovaFrame + count - 1);
    const unmapped = this.table.unmapRange(iovaFrame, count);
    if (unmapped > 0) this.#pending.add(iovaFrame, last);
    return unmapped;
  }

  sync(): void {
    const freed = this.table.takeFreedTables();
    this.tags.flush(this.#pending, freed === 0);
    this.#pending.clear();
    if (freed !== 0) this.table.freeTables(freed);
  }

  iovaToFrame(iovaFrame: number): number {
    return iovaFrame > this.apertureLastFrame ? -1 : this.table.translate(iovaFrame);
  }

  readRuns(iovaFrame: number, count: number, out: Float64Array): number {
    const runs = this.table.readRuns(iovaFrame, count, out);
    return runsOfMapped(out, runs, count);
  }

  /** @returns false when mappings without the snoop bit stand already, or a unit cannot do it */
  enforceCacheCoherency(): boolean {
    return forceSnooping(this);
  }

  free(): void {
    this.context.domains.remove(this);
    this.table.destroy();
  }

  checkFits(unit: UnitContext): void {
    checkPagingFits(unit, this);
  }

  pasidEntry(unit: UnitContext, did: number): Uint32Array {
    const build = this.options.firstStage ? firstStageEntry : secondStageEntry;
    return build(unit.caps, this, did);
  }

  contextEntry(_unit: UnitContext, device: DeviceState, did: number): Uint32Array {
    return pagingContextEntry(device, this, did);
  }

  addTags(unit: UnitContext, did: number, pasid: number): void {
    this.tags.addTranslation(unit, did, pasid, this.#tagKind);
  }

  removeTags(unit: UnitContext, did: number, pasid: number): void {
    this.tags.removeTranslation(unit, did, pasid, this.#tagKind);
  }

  addDeviceTags(unit: UnitContext, rid: number, pasid: number): void {
    this.tags.addDevice(unit, rid, pasid, false);
  }

  removeDeviceTags(unit: UnitContext, rid: number, pasid: number): void {
    this.tags.removeDevice(unit, rid, pasid, false);
  }

  protected clearTags(): void {
    this.tags.clear();
  }

  /** Last frame of the leaf that holds `frame`, or `frame` itself. */
  #endOfLeafAt(frame: number): number {
    if ((frame + 1) % this.#largestPage === 0) return frame;
    const leaf = this.#leaf;
    return this.table.nextLeaf(frame, frame + 1, leaf) ? leaf.iovaPfn + leaf.pages - 1 : frame;
  }

  get #tagKind() {
    return this.options.firstStage ? TAG.FIRST_STAGE : TAG.SECOND_STAGE;
  }
}
