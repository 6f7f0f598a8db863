/**
 * Paging domains: a stage-1 or stage-2 table of the host, its tag, its pending invalidations, and
 * how entries point to it.
 *
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_domain_finalise)
 */
import {
  framesInRuns,
  type IommuUnit,
  inPool,
  type PagingDomain,
  PendingRanges,
  refuse,
  runsOfMapped,
} from '@iommukit/core';
import {
  attachTable,
  createTable,
  type LeafRecord,
  type PageTable,
  type PageTablePool,
  type TableHandle,
} from '@iommukit/pgtable-fast';
import { CacheTags, TAG, type TagKind } from './cache-tags.ts';
import { contextDescriptor } from './context-descriptors.ts';
import type { DeviceState } from './device-state.ts';
import { DirtyTracking } from './dirty.ts';
import { formatOf, type TableShape } from './geometry.ts';
import { type StreamTraits, stage2Entry } from './stream-entries.ts';
import { TranslatingDomain } from './translating-domain.ts';
import type { UnitContext } from './unit-context.ts';

const OP = 'IOMMU_HWPT_ALLOC';
const PAGE_LG2 = 12;
const ERANGE = -34;

/** How a paging domain is made. */
export interface PagingDomainOptions {
  readonly shape: TableShape;
  readonly nestParent: boolean;
  readonly pasidCompatible: boolean;
}

/** A domain over a table of the host, for devices of the unit that made it. */
export class SmmuPagingDomain extends TranslatingDomain implements PagingDomain {
  readonly kind = 'paging';
  readonly granuleLg2 = PAGE_LG2;
  readonly apertureStartFrame = 0;
  readonly apertureLastFrame: number;
  readonly options: PagingDomainOptions;
  /** Its table; a snapshot brings another. */
  table: PageTable;
  /** ASID of stage 1, VMID of stage 2; a snapshot brings another. */
  tag: number;
  /** What a change of the table must reach. */
  readonly tags = new CacheTags();
  readonly dirty?: DirtyTracking;
  readonly #pool: PageTablePool;
  readonly #pending = new PendingRanges();
  readonly #secondSmallestPage: number;
  readonly #largestPage: number;
  readonly #leaf: LeafRecord = { iovaPfn: 0, oaPfn: 0, pages: 0, level: 0, wordLo: 0, wordHi: 0 };
  #forcesSnooping = false;

  /** @throws {IommuError} ENOMEM when the pool is full; ENOSPC or EBUSY without a free tag */
  constructor(
    unit: IommuUnit,
    context: UnitContext,
    pool: PageTablePool,
    options: PagingDomainOptions,
  ) {
    super(unit, context);
    this.#pool = pool;
    this.options = options;
    const format = formatOf(context.caps, options.shape);
    this.apertureLastFrame = 2 ** (format.iovaBits - PAGE_LG2) - 1;
    this.#secondSmallestPage = 2 ** ((format.pageSizesLg2[1] ?? format.iovaBits) - PAGE_LG2);
    this.#largestPage = 2 ** ((format.pageSizesLg2.at(-1) ?? PAGE_LG2) - PAGE_LG2);
    this.table = inPool(() => createTable(pool, format));
    try {
      this.tag = this.#allocator.take(OP);
    } catch (error) {
      this.table.destroy();
      throw error;
    }
    if (options.shape.dirtyTracking) this.dirty = new DirtyTracking(this);
  }

  get usesCdTable(): boolean {
    return this.options.shape.stage === 1;
  }
  get pageSizesLg2(): readonly number[] {
    return this.table.pageSizesLg2;
  }
  get nestParent(): boolean {
    return this.options.nestParent;
  }
  get pasidCompatible(): boolean {
    return this.options.pasidCompatible;
  }
  get enforcesCacheCoherency(): boolean {
    return this.#forcesSnooping;
  }

  /** Take over what a snapshot of the unit brought: a table of the pool, and its tag. */
  adopt(handle: TableHandle, tag: number, forcesSnooping: boolean, tracking: boolean): void {
    this.table = attachTable(this.#pool, formatOf(this.context.caps, this.options.shape), handle);
    this.tag = tag;
    this.#forcesSnooping = forcesSnooping;
    this.dirty?.setTracking(tracking);
  }

  mapRuns(iovaFrame: number, runs: Float64Array, runCount: number, prot: number): number {
    if (iovaFrame + framesInRuns(runs, runCount) - 1 > this.apertureLastFrame) return ERANGE;
    return this.table.mapRuns(iovaFrame, runs, runCount, prot);
  }

  unmap(iovaFrame: number, count: number): number {
    const last = this.#endOfLeafAt(iovaFrame + count - 1);
    const leafLg2 = this.#uniformLeafLg2(iovaFrame, last);
    const unmapped = this.table.unmapRange(iovaFrame, count);
    if (unmapped > 0) this.#pending.add(iovaFrame, last, leafLg2);
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

  /**
   * Nothing in the table changes by it: it is a promise that holds where firmware says that every
   * access snoops.
   */
  enforceCacheCoherency(): boolean {
    this.#forcesSnooping = this.context.canWbs;
    return this.#forcesSnooping;
  }

  free(): void {
    this.#allocator.release(this.tag);
    this.table.destroy();
  }

  /**
   * @throws {IommuError} EINVAL for another SMMU: its tags and its invalidations are its own
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

  /** Where a stage 2 may stall, full ATS is illegal. */
  wantsAts({ stall }: DeviceState): boolean {
    return this.usesCdTable || !stall;
  }

  /** Context descriptor, 16 words, of a stage-1 domain. */
  contextEntry({ stall }: DeviceState): Uint32Array {
    const { table, tag, options } = this;
    const { dirtyTracking } = options.shape;
    return contextDescriptor(this.context.caps, table, tag, { dirtyTracking, stall });
  }

  /** Stream table entry, 16 words, of a stage-2 domain. */
  streamEntry(_device: DeviceState, traits: StreamTraits): Uint32Array {
    return this.stage2Entry(this.tag, traits);
  }

  /** The same under the VMID of a guest. */
  stage2Entry(vmid: number, traits: StreamTraits): Uint32Array {
    const { forcedWriteBack } = this.options.shape;
    return stage2Entry(this.context.caps, this.table, vmid, forcedWriteBack, traits);
  }

  addTags(device: DeviceState, ssid: number): void {
    this.tags.addTranslation(this.context, this.#tagKind, this.tag);
    if (device.ats) this.tags.addDevice(this.context, device.sid, ssid);
  }

  removeTags(device: DeviceState, ssid: number): void {
    if (device.ats) this.tags.removeDevice(this.context, device.sid, ssid);
    this.tags.removeTranslation(this.context, this.#tagKind, this.tag);
  }

  get #tagKind(): TagKind {
    return this.options.shape.stage === 1 ? TAG.ASID : TAG.VMID;
  }

  get #allocator() {
    const { asids, vmids } = this.context;
    return this.options.shape.stage === 1 ? asids : vmids;
  }

  /** Last frame of the leaf that holds `frame`, or `frame` itself. */
  #endOfLeafAt(frame: number): number {
    if ((frame + 1) % this.#largestPage === 0) return frame;
    const leaf = this.#leaf;
    return this.table.nextLeaf(frame, frame + 1, leaf) ? leaf.iovaPfn + leaf.pages - 1 : frame;
  }

  /**
   * lg2 of the bytes of every leaf between two frames, as far as that is cheap to know: a range in
   * which no larger page fits, or a single leaf. Else 0.
   */
  #uniformLeafLg2(start: number, last: number): number {
    const larger = this.#secondSmallestPage;
    if (Math.ceil(start / larger) * larger + larger - 1 > last) return PAGE_LG2;
    const leaf = this.#leaf;
    if (!this.table.nextLeaf(start, start + 1, leaf)) return 0;
    const isSingle = leaf.iovaPfn === start && leaf.pages === last - start + 1;
    return isSingle ? PAGE_LG2 + Math.round(Math.log2(leaf.pages)) : 0;
  }
}
