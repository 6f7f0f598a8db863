/**
 * Pages of drivers that a process may map through its iommufd.
 *
 * @linux drivers/iommu/iommufd/main.c iommufd_fops_mmap, driver.c _iommufd_alloc_mmap
 * @module
 */
import type { MmapRegion } from '../driver/viommu-backend.ts';
import { MAP_FLAG, MemoryFile, type Process, VM_PROT } from '../memory/index.ts';
import type { FileMapping } from '../uapi/files.ts';
import type { IommufdObject } from './objects.ts';

const PAGE_BYTES = 4096;
const EPERM = -1;
const ENXIO = -6;
const EFAULT = -14;
const EEXIST = -17;
const EINVAL = -22;

/** One region: its place, whose it is, and its pages. */
export interface Region {
  readonly offset: number;
  readonly length: number;
  readonly owner: IommufdObject;
  readonly file: OwnedFile;
}

/** A driver's pages as a file whose mappings hold the object that owns them. */
export class OwnedFile extends MemoryFile {
  readonly inner: MemoryFile;
  readonly owner: IommufdObject;

  constructor(inner: MemoryFile, owner: IommufdObject) {
    super(inner.pool, { size: inner.size });
    this.inner = inner;
    this.owner = owner;
  }

  override retain(): void {
    this.owner.users++;
  }

  override release(): void {
    this.owner.users--;
  }

  override cachedFrame(page: number): number {
    return this.inner.cachedFrame(page);
  }

  override frame(page: number): number {
    return this.inner.frame(page);
  }

  /** Device memory, without page structs: it cannot be pinned through a user address. */
  override collect(): number {
    return EFAULT;
  }
}

/** The mappable regions of one context, by file offset. */
export class MmapRegions {
  readonly #regions: Region[] = [];

  /** Offer a region; returns its file offset: the lowest free one from 4096 on. */
  add(owner: IommufdObject, { lengthBytes: length, file }: MmapRegion): number {
    let offset = PAGE_BYTES;
    for (const region of this.#regions) {
      if (offset + length <= region.offset) break;
      offset = region.offset + region.length;
    }
    this.#regions.push({ offset, length, owner, file: new OwnedFile(file, owner) });
    this.#regions.sort((a, b) => a.offset - b.offset);
    return offset;
  }

  /** Every region, by offset. */
  get all(): readonly Region[] {
    return this.#regions;
  }

  /** Offer a region where a snapshot had it. */
  load(owner: IommufdObject, offset: number, length: number, file: MemoryFile): OwnedFile {
    const owned = new OwnedFile(file, owner);
    this.#regions.push({ offset, length, owner, file: owned });
    return owned;
  }

  /** Drop what an object offered. */
  removeOwner(owner: IommufdObject): void {
    const kept = this.#regions.filter((region) => region.owner !== owner);
    this.#regions.splice(0, this.#regions.length, ...kept);
  }

  /**
   * `mmap` of the iommufd: offset and length, rounded up to pages, must be those of one region. What
   * every mapping must be comes first.
   */
  map(process: Process, { offset = 0, ...mapping }: FileMapping): number {
    if (!(mapping.length > 0) || offset % PAGE_BYTES !== 0) return EINVAL;
    if (process.collides(mapping.addr, mapping.length, mapping.flags)) return EEXIST;
    if (!(mapping.flags & MAP_FLAG.SHARED)) return EINVAL;
    if (mapping.prot & VM_PROT.EXEC) return EPERM;
    const length = Math.ceil(mapping.length / PAGE_BYTES) * PAGE_BYTES;
    const region = this.#regions.find((known) => known.offset === offset);
    if (!region || region.length !== length) return ENXIO;
    return process.mmap({ ...mapping, length, file: region.file });
  }
}
