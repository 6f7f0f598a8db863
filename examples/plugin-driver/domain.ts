/** The driver's page tables: one flat table in physical memory per domain. */
import { splitHi, splitLo } from '@iommukit/bits';
import type { HostMemory, IommuUnit, PagingDomain } from '@iommukit/core';
import { ENTRY_BYTES, RIGHTS, TABLE_ENTRIES } from './entry.ts';

const PAGE_BYTES = 4096;
const TABLE_PAGES = (TABLE_ENTRIES * ENTRY_BYTES) / PAGE_BYTES;
const E2BIG = -7;
const EINVAL = -22;
const ERANGE = -34;
const EADDRINUSE = -98;

// #region domain
export class FlatDomain implements PagingDomain {
  readonly kind = 'paging';
  readonly granuleLg2 = 12;
  readonly pageSizesLg2 = [12];
  readonly apertureStartFrame = 0;
  readonly apertureLastFrame = TABLE_ENTRIES - 1;
  readonly nestParent = false;
  readonly pasidCompatible = false;
  readonly enforcesCacheCoherency = false;
  readonly unit: IommuUnit;
  /** Where hardware finds the table. */
  readonly tablePa: number;
  readonly #memory: HostMemory;

  /** @throws {IommuError} ENOMEM */
  constructor(unit: IommuUnit, memory: HostMemory) {
    this.unit = unit;
    this.#memory = memory;
    this.tablePa = memory.alloc(TABLE_PAGES, 'IOMMU_HWPT_ALLOC', 'a flat table');
  }

  mapRuns(iovaFrame: number, runs: Float64Array, runCount: number, prot: number): number {
    const frames = framesOf(runs, runCount);
    if ((prot & RIGHTS) === 0) return EINVAL;
    if (iovaFrame + frames.length > TABLE_ENTRIES) return ERANGE;
    // All or nothing: look before the first entry is written.
    if (frames.some((_frame, n) => this.#entryAt(iovaFrame + n) !== 0)) return EADDRINUSE;
    frames.forEach((frame, n) => {
      this.#write(iovaFrame + n, frame * PAGE_BYTES, prot & RIGHTS);
    });
    return 0;
  }

  unmap(iovaFrame: number, count: number): number {
    let unmapped = 0;
    for (let at = iovaFrame; at < iovaFrame + count; at++) {
      if (this.#entryAt(at) === 0) continue;
      this.#write(at, 0, 0);
      unmapped++;
    }
    return unmapped;
  }

  /** This hardware caches nothing. */
  sync(): void {}

  free(): void {
    this.#memory.free(this.tablePa);
  }
  // #endregion

  iovaToFrame(iovaFrame: number): number {
    if (iovaFrame >= TABLE_ENTRIES || this.#entryAt(iovaFrame) === 0) return -1;
    const pa = this.tablePa + iovaFrame * ENTRY_BYTES;
    return this.#memory.load32(pa + 4) * 2 ** 20 + (this.#memory.load32(pa) >>> 12);
  }

  readRuns(iovaFrame: number, count: number, out: Float64Array): number {
    let runs = 0;
    for (let at = iovaFrame; at < iovaFrame + count; at++) {
      const frame = this.iovaToFrame(at);
      const last = 2 * (runs - 1);
      if (runs > 0 && (out[last] as number) + (out[last + 1] as number) === frame) {
        out[last + 1] = (out[last + 1] as number) + 1;
      } else if (frame >= 0) {
        if (2 * runs >= out.length) return E2BIG;
        out[2 * runs] = frame;
        out[2 * runs++ + 1] = 1;
      }
    }
    return runs;
  }

  /** Rights of an entry; 0 = nothing is mapped. */
  #entryAt(iovaFrame: number): number {
    return this.#memory.load32(this.tablePa + iovaFrame * ENTRY_BYTES) & RIGHTS;
  }

  #write(iovaFrame: number, pa: number, rights: number): void {
    const lo = splitLo(pa) | rights;
    this.#memory.store64(this.tablePa + iovaFrame * ENTRY_BYTES, lo, splitHi(pa));
  }
}

const framesOf = (runs: Float64Array, runCount: number): number[] => {
  const frames: number[] = [];
  for (let i = 0; i < runCount; i++) {
    const first = runs[2 * i] as number;
    for (let n = 0; n < (runs[2 * i + 1] as number); n++) frames.push(first + n);
  }
  return frames;
};
