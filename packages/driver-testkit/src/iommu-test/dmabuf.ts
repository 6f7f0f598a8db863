/**
 * Test operations that export a dma-buf and revoke it.
 * @module
 */
import {
  allocationRefusal,
  type DmabufImporter,
  type FileOperations,
  type FrameRuns,
  filesOf,
  installFile,
  OpenFile,
  PAGE_BYTES,
  type PhysicalMemory,
  type PinnableFile,
} from '@iommukit/core';
import type { TestCommand } from './command.ts';

const MAX_BYTES = 2 * 1024 * 1024;
const EINVAL = -22;
const ENODEV = -19;

/** Physically contiguous device memory that others may map until it is revoked. */
export class TestDmabuf implements FileOperations, PinnableFile {
  readonly name = 'dma-buf';
  /** Device memory: neither charged nor counted as pinned user memory. */
  readonly isDmabuf = true;
  readonly #memory: PhysicalMemory;
  readonly base: number;
  readonly pages: number;
  revoked = false;
  readonly #importers = new Set<DmabufImporter>();
  /** Its descriptor, and every mapping of it. */
  references: number;

  /** @param base first byte of `pages` frames that it owns */
  constructor(memory: PhysicalMemory, base: number, pages: number, references = 1) {
    this.#memory = memory;
    this.base = base;
    this.pages = pages;
    this.references = references;
  }

  /** New device memory. @throws {IommuError} ENOMEM */
  static create(memory: PhysicalMemory, op: string, bytes: number): TestDmabuf {
    const pages = Math.ceil(bytes / PAGE_BYTES);
    const base = memory.allocPages(pages);
    if (base < 0) throw allocationRefusal(op, 'device memory');
    memory.pages.addOwners(base / PAGE_BYTES, pages, 1);
    return new TestDmabuf(memory, base, pages);
  }

  get pinnable(): PinnableFile {
    return this;
  }

  checkPinnable(start: bigint, length: bigint): number {
    if (start + length > BigInt(this.pages * PAGE_BYTES)) return EINVAL;
    return this.revoked ? ENODEV : 0;
  }

  pinRange(firstPage: number, count: number, runs: FrameRuns): number {
    if (firstPage + count > this.pages) return EINVAL;
    const frame = this.base / PAGE_BYTES + firstPage;
    runs.push(frame, count);
    this.#memory.pages.addPins(frame, count, 1);
    return 0;
  }

  attach(importer: DmabufImporter): void {
    this.#importers.add(importer);
  }

  detach(importer: DmabufImporter): void {
    this.#importers.delete(importer);
  }

  /** Take the memory back or give it again; either way whoever maps it now has to let go. */
  setRevoked(revoked: boolean): void {
    this.revoked = revoked;
    for (const importer of this.#importers) importer.invalidateMappings();
  }

  retain(): void {
    this.references++;
  }

  release(): void {
    if (--this.references > 0) return;
    this.#memory.pages.addOwners(this.base / PAGE_BYTES, this.pages, -1);
    this.#memory.pages.forEachUnused(this.base / PAGE_BYTES, this.pages, (frame, count) => {
      this.#memory.freePages(frame * PAGE_BYTES, count);
    });
  }
}

/** DMABUF_GET: a new descriptor, which the command (as in Linux 7.3) does not report. */
export const dmabufGet = (command: TestCommand): void => {
  const bytes = command.u32(16);
  if (bytes === 0 || bytes > MAX_BYTES) {
    throw command.refuse('EINVAL', 'dmabuf-length', `1 to ${MAX_BYTES} bytes`, bytes);
  }
  const { call, process } = command;
  call.checkAllocation('a dma-buf');
  const file = TestDmabuf.create(process.memory, call.op, bytes);
  try {
    installFile(process, call.op, () => new OpenFile(file));
  } catch (error) {
    file.release();
    throw error;
  }
};

/**
 * DMABUF_REVOKE: take the memory back, or give it again.
 * @linux drivers/iommu/iommufd/selftest.c iommufd_test_dmabuf_revoke
 */
export const dmabufRevoke = (command: TestCommand): void => {
  const fd = command.u32(16);
  const file = filesOf(command.process).get(fd)?.operations;
  if (!file) throw command.refuse('EBADF', 'file-descriptor', 'no such descriptor', fd);
  if (!(file instanceof TestDmabuf)) {
    throw command.refuse('EINVAL', 'dmabuf-fd', 'no dma-buf of the test exporter', fd);
  }
  file.setRevoked(command.u32(20) !== 0);
};
