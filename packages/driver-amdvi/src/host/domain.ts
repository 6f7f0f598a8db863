/**
 * Paging domains: a table of the host, its pending invalidations, and how entries point to it.
 *
 * @linux drivers/iommu/amd/iommu.c (amdv1_ops, amdv2_ops)
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
  createTable,
  type LeafRecord,
  type PageTable,
  type PageTablePool,
} from '@iommukit/pgtable-fast';
import { HAD } from '../spec/device-table-entry.ts';
import { HOST_PTE } from '../spec/host-table-entry.ts';
import type { Attachment } from './attachment.ts';
import { CacheTags, REACH } from './cache-tags.ts';
import { checkPagingFits } from './compatibility.ts';
import type { EntryFields } from './device-entry.ts';
import { DirtyTracking } from './dirty.ts';
import { rewriteEntries } from './entries.ts';
import type { Geometry } from './geometry.ts';
import { NO_GUEST } from './invalidate.ts';
import { TranslatingDomain } from './translating-domain.ts';
import type { UnitContext } from './unit-context.ts';

const PAGE_LG2 = 12;
const ERANGE = -34;

/** Rights and hints that tables have bits for; pages of guest tables are always user pages. */
const PROT_KEPT = PROT.READ | PROT.WRITE | PROT.CACHE | PROT.NOEXEC | PROT.MMIO;

/** How a paging domain is made. */
export interface PagingDomainOptions {
  readonly geometry: Geometry;
  readonly nestParent: boolean;
  readonly pasidCompatible: boolean;
  /** Made with IOMMU_HWPT_ALLOC_DIRTY_TRACKING. */
  readonly dirtyCapable: boolean;
}

interface IdUse {
  readonly domainId: number;
  users: number;
}

/** A domain over host tables (v1), whose top grows when a mapping needs it, or guest tables (v2). */
export class AmdviPagingDomain extends TranslatingDomain implements PagingDomain {
  readonly kind = 'paging';
  readonly granuleLg2 = PAGE_LG2;
  readonly apertureStartFrame = 0;
  readonly apertureLastFrame: number;
  readonly options: PagingDomainOptions;
  /**
   * Leaves of host tables carry FC. Guest tables have no such bit; Linux says yes all the same.
   *
   * @linux drivers/iommu/amd/iommu.c (amd_iommu_enforce_cache_coherency, amdv2_ops)
   */
  readonly enforcesCacheCoherency = true;
  /** What a change of this table must reach. */
  readonly tags = new CacheTags();
  /** Nested domains over this one that are at work: their entries hold this table's root. */
  readonly nested = new Set<Attachment>();
  readonly dirty?: DirtyOps;
  readonly table: PageTable;
  /** HAD of the entries. */
  dirtyTracking = false;
  readonly #ids = new Map<UnitContext, IdUse>();
  readonly #pending = new PendingRanges();
  readonly #leaf: LeafRecord = { iovaPfn: 0, oaPfn: 0, pages: 0, level: 0, wordLo: 0, wordHi: 0 };

  /** @throws {IommuError} ENOMEM when the pool is full */
  constructor(
    unit: IommuUnit,
    context: UnitContext,
    pool: PageTablePool,
    options: PagingDomainOptions,
  ) {
    super(unit, context);
    this.options = options;
    this.table = inPool(() => createTable(pool, options.geometry.format));
    this.apertureLastFrame = 2 ** (options.geometry.iovaBits - PAGE_LG2) - 1;
    if (options.dirtyCapable) this.dirty = new DirtyTracking(this);
  }

  /** Guest (v2) tables: walked through the GCR3 table of a device. */
  get usesGuestTables(): boolean {
    return this.options.geometry.guest;
  }
  get allowsPasids(): boolean {
    return this.usesGuestTables;
  }
  get guestRootPa(): number {
    return this.usesGuestTables ? this.table.rootPa : -1;
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

  mapRuns(iovaFrame: number, runs: Float64Array, runCount: number, prot: number): number {
    const last = iovaFrame + framesInRuns(runs, runCount) - 1;
    if (last > this.apertureLastFrame) return ERANGE;
    const { rootPa } = this.table;
    const result = this.table.mapRuns(iovaFrame, runs, runCount, prot & PROT_KEPT);
    if (this.table.rootPa !== rootPa) this.#rootChanged();
    if (result === 0 && this.tags.cacheAbsence) this.tags.flushNewlyPresent(iovaFrame, last);
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
    this.tags.flush(this.#pending, freed !== 0);
    this.#pending.clear();
    if (freed !== 0) this.table.freeTables(freed);
  }

  iovaToFrame(iovaFrame: number): number {
    return iovaFrame > this.apertureLastFrame ? -1 : this.table.translate(iovaFrame);
  }

  /** The output frame of an IOVA frame that may be written, or -1. Host tables only. */
  writableFrame(iovaFrame: number): number {
    const leaf = this.#leaf;
    if (!this.table.nextLeaf(iovaFrame, iovaFrame + 1, leaf)) return -1;
    const { word, mask } = HOST_PTE.fields.IW;
    const entry = [leaf.wordLo, leaf.wordHi];
    return ((entry[word] as number) & mask) === 0 ? -1 : this.iovaToFrame(iovaFrame);
  }

  readRuns(iovaFrame: number, count: number, out: Float64Array): number {
    const runs = this.table.readRuns(iovaFrame, count, out);
    return runsOfMapped(out, runs, count);
  }

  enforceCacheCoherency(): boolean {
    return true;
  }

  free(): void {
    this.table.destroy();
  }

  checkFits(unit: UnitContext): void {
    checkPagingFits(unit, this);
  }

  needsGcr3(): boolean {
    return this.usesGuestTables;
  }

  /** One DomainID on each unit: all its devices share the table, rights and HAD. */
  takeId(unit: UnitContext): number {
    const use = this.#ids.get(unit) ?? { domainId: unit.domainIds.take('attach'), users: 0 };
    this.#ids.set(unit, use);
    use.users++;
    return use.domainId;
  }

  releaseId(unit: UnitContext): void {
    const use = this.#ids.get(unit);
    if (!use || --use.users > 0) return;
    this.#ids.delete(unit);
    unit.domainIds.release(use.domainId);
  }

  entryFields({ domainId }: Attachment): EntryFields {
    return this.usesGuestTables
      ? { IR: 1, IW: 1 }
      : { ...this.hostTableFields(), DOMAIN_ID: domainId };
  }

  /** The part of an entry that makes requests go through this host table. */
  hostTableFields() {
    const { rootPa, levels } = this.table;
    const HAD_FIELD = this.dirtyTracking ? HAD.ACCESSED_DIRTY : HAD.OFF;
    return { MODE: levels, HOST_ROOT: rootPa, HAD: HAD_FIELD, IR: 1, IW: 1 };
  }

  addTags({ unit, device, pasid, domainId }: Attachment): void {
    this.tags.addTranslation(unit, domainId, this.#tagPasid(pasid), REACH.DIRECT);
    if (device.ats) this.tags.addDevice(unit, device.rid, pasid, REACH.DIRECT);
  }

  removeTags({ unit, device, pasid, domainId }: Attachment): void {
    this.tags.removeTranslation(unit, domainId, this.#tagPasid(pasid), REACH.DIRECT);
    if (device.ats) this.tags.removeDevice(unit, device.rid, pasid, REACH.DIRECT);
  }

  /** Other devices may go on under the same DomainID, and find the same there. */
  addFlush({ unit, device, pasid, domainId }: Attachment): void {
    const { invalidate } = unit;
    const shared = (this.#ids.get(unit)?.users ?? 0) > 1;
    if (!shared) invalidate.domain(domainId, this.#tagPasid(pasid));
    if (device.ats) invalidate.deviceTlb(device.rid, pasid);
  }

  /** GCR3 entry 0 stands for requests without PASID. */
  #tagPasid(pasid: number): number {
    return this.usesGuestTables ? Math.max(pasid, 0) : NO_GUEST;
  }

  /**
   * The table has a new top. The old one is still part of it, so requests that use a cached entry
   * meanwhile lose nothing but the new range.
   */
  #rootChanged(): void {
    rewriteEntries(this);
  }

  /** Last frame of the leaf that holds `frame`, or `frame` itself. */
  #endOfLeafAt(frame: number): number {
    const leaf = this.#leaf;
    return this.table.nextLeaf(frame, frame + 1, leaf) ? leaf.iovaPfn + leaf.pages - 1 : frame;
  }
}

/** Every attachment whose entry holds the root of a host table. */
export const attachmentsOver = (domain: AmdviPagingDomain): Attachment[] => [
  ...domain.attachments,
  ...domain.nested,
];
