/**
 * A mock paging domain: leaves in a map, no table bytes at all.
 * @module
 */
import {
  type DirtyOps,
  failsAllocation,
  type IommuUnit,
  type PagingDomain,
  type PhysicalMemory,
} from '@iommukit/core';

const ENOMEM = -12;
const EADDRINUSE = -98;
const EINVAL = -22;
const ERANGE = -34;
const E2BIG = -7;
const RIGHTS = 3;

/** One leaf: where it stands, how many granules it has, what it points to. */
export interface MockLeaf {
  readonly first: number;
  readonly granules: number;
  readonly output: number;
  readonly prot: number;
  dirty: boolean;
}

/** How a mock domain looks. */
export interface MockDomainShape {
  /** Smallest page, lg2 of bytes. */
  readonly granuleLg2: number;
  readonly pageSizesLg2: readonly number[];
  /** Byte addresses, last inclusive. */
  readonly aperture: { readonly start: number; readonly last: number };
  readonly nestParent: boolean;
  readonly pasidCompatible: boolean;
  readonly dirtyTracking: boolean;
  /** Whose allocation hook can let a mapping fail as for want of a table. */
  readonly memory?: PhysicalMemory;
}

/** A paging domain of the mock hardware. */
export class MockPagingDomain implements PagingDomain {
  readonly kind = 'paging';
  readonly unit: IommuUnit;
  readonly granuleLg2: number;
  readonly pageSizesLg2: readonly number[];
  readonly apertureStartFrame: number;
  readonly apertureLastFrame: number;
  readonly nestParent: boolean;
  readonly pasidCompatible: boolean;
  readonly enforcesCacheCoherency = false;
  readonly dirty?: DirtyOps;
  /** Leaves by every granule they cover. */
  readonly #leaves = new Map<number, MockLeaf>();
  readonly #memory: PhysicalMemory | undefined;
  #tracking = false;

  constructor(unit: IommuUnit, shape: MockDomainShape) {
    this.unit = unit;
    this.#memory = shape.memory;
    this.granuleLg2 = shape.granuleLg2;
    this.pageSizesLg2 = shape.pageSizesLg2;
    const granuleBytes = 2 ** shape.granuleLg2;
    this.apertureStartFrame = Math.floor(shape.aperture.start / granuleBytes);
    this.apertureLastFrame = Math.floor(shape.aperture.last / granuleBytes);
    this.nestParent = shape.nestParent;
    this.pasidCompatible = shape.pasidCompatible;
    if (shape.dirtyTracking) this.dirty = this.#dirtyOps();
  }

  free(): void {
    this.#leaves.clear();
  }

  mapRuns(iovaFrame: number, runs: Float64Array, runCount: number, prot: number): number {
    let granules = 0;
    for (let i = 0; i < runCount; i++) granules += runs[2 * i + 1] as number;
    if ((prot & RIGHTS) === 0) return EINVAL;
    const end = iovaFrame + granules;
    if (iovaFrame < this.apertureStartFrame || end - 1 > this.apertureLastFrame) return ERANGE;
    for (let at = iovaFrame; at < end; at++) if (this.#leaves.has(at)) return EADDRINUSE;
    if (this.#memory && failsAllocation(this.#memory, 'a page table')) return ENOMEM;
    let at = iovaFrame;
    for (let i = 0; i < runCount; i++) {
      const count = runs[2 * i + 1] as number;
      this.#mapRun(at, runs[2 * i] as number, count, prot);
      at += count;
    }
    return 0;
  }

  unmap(iovaFrame: number, count: number): number {
    let done = 0;
    while (done < count) {
      const leaf = this.#leaves.get(iovaFrame + done);
      if (!leaf || leaf.first !== iovaFrame + done) break;
      for (let i = 0; i < leaf.granules; i++) this.#leaves.delete(leaf.first + i);
      done += leaf.granules;
    }
    return done;
  }

  sync(): void {}

  iovaToFrame(iovaFrame: number): number {
    const leaf = this.#leaves.get(iovaFrame);
    return leaf ? leaf.output + (iovaFrame - leaf.first) : -1;
  }

  /** Rights of a mapped granule: read 1, write 2; 0 when nothing is mapped. */
  rightsAt(iovaFrame: number): number {
    return (this.#leaves.get(iovaFrame)?.prot ?? 0) & RIGHTS;
  }

  readRuns(iovaFrame: number, count: number, out: Float64Array): number {
    let runs = 0;
    for (let at = iovaFrame; at < iovaFrame + count; at++) {
      const frame = this.iovaToFrame(at);
      if (frame < 0) continue;
      const last = 2 * (runs - 1);
      if (runs > 0 && (out[last] as number) + (out[last + 1] as number) === frame) {
        out[last + 1] = (out[last + 1] as number) + 1;
        continue;
      }
      if (2 * runs + 1 >= out.length) return E2BIG;
      out[2 * runs] = frame;
      out[2 * runs + 1] = 1;
      runs++;
    }
    return runs;
  }

  /** Every leaf, by address. */
  get leaves(): MockLeaf[] {
    return [...this.#leaves]
      .filter(([at, leaf]) => at === leaf.first)
      .map(([, leaf]) => leaf)
      .sort((a, b) => a.first - b.first);
  }

  /** Leaves and tracking of a saved state, in place of what is there. */
  load(leaves: readonly MockLeaf[], tracking: boolean): void {
    this.#leaves.clear();
    for (const leaf of leaves) {
      const own = { ...leaf };
      for (let i = 0; i < leaf.granules; i++) this.#leaves.set(leaf.first + i, own);
    }
    this.#tracking = tracking;
  }

  /** Mark the leaf of a granule as written by a device; nothing happens where none is. */
  setDirty(iovaFrame: number): void {
    const leaf = this.#leaves.get(iovaFrame);
    if (leaf && this.#tracking) leaf.dirty = true;
  }

  #mapRun(iovaFrame: number, output: number, count: number, prot: number): void {
    for (let done = 0; done < count; ) {
      const granules = this.#leafGranules(iovaFrame + done, output + done, count - done);
      const first = iovaFrame + done;
      const leaf = { first, granules, output: output + done, prot, dirty: false };
      for (let i = 0; i < granules; i++) this.#leaves.set(first + i, leaf);
      done += granules;
    }
  }

  /** Granules of the largest page that both addresses and the length allow. */
  #leafGranules(iovaFrame: number, output: number, left: number): number {
    let best = 1;
    for (const lg2 of this.pageSizesLg2) {
      const granules = 2 ** (lg2 - this.granuleLg2);
      if (granules > left || iovaFrame % granules !== 0 || output % granules !== 0) break;
      best = granules;
    }
    return best;
  }

  #dirtyOps(): DirtyOps {
    const domain = this;
    return {
      get enabled() {
        return domain.#tracking;
      },
      setTracking: (enable) => {
        this.#tracking = enable;
      },
      readAndClear: (iovaFrame, count, visit, clear) => {
        for (let at = iovaFrame; at < iovaFrame + count; ) {
          const leaf = this.#leaves.get(at);
          if (leaf?.dirty) {
            visit(leaf.first, leaf.granules);
            if (clear) leaf.dirty = false;
          }
          at = leaf ? leaf.first + leaf.granules : at + 1;
        }
      },
    };
  }
}
