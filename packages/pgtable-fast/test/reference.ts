/**
 * The slow, obvious page table: a list of leaves in bigint, every rule written as the specification and
 * the kernel say it, nothing shared with the package but errno values.
 */

export interface Leaf {
  va: bigint;
  oa: bigint;
  /** log2 frames. */
  size: number;
  prot: number;
  accessed: boolean;
  dirty: boolean;
}

export interface ReferenceOptions {
  /** Input and output frames, exclusive limits. */
  vaLimit: bigint;
  oaLimit: bigint;
  /** log2 frames of the page sizes, ascending. */
  sizes: readonly number[];
  signExtended?: boolean;
  /** State of a fresh leaf. */
  fresh(prot: number): { accessed: boolean; dirty: boolean };
  /** Whether a write dirties a leaf of these permissions (arm needs DBM). */
  tracksDirty?(prot: number): boolean;
  writable?(prot: number): boolean;
}

const TOP = 1n << 52n;

export class ReferenceTable {
  readonly #o: ReferenceOptions;
  readonly #byVa = new Map<bigint, Leaf>();

  constructor(options: ReferenceOptions) {
    this.#o = options;
  }

  /** Whether `[va, va + count)` is inside the input range, in one half of a sign-extended one. */
  inRange(va: bigint, count: bigint): boolean {
    const { vaLimit, signExtended } = this.#o;
    if (!signExtended) return va + count <= vaLimit;
    const half = vaLimit / 2n;
    return va + count <= half || (va >= TOP - half && va + count <= TOP);
  }

  at(va: bigint): Leaf | undefined {
    for (const size of this.#o.sizes) {
      const leaf = this.#byVa.get((va >> BigInt(size)) << BigInt(size));
      if (leaf?.size === size) return leaf;
    }
    return undefined;
  }

  get leaves(): Leaf[] {
    return [...this.#byVa.values()];
  }

  /** Leaves that a mapping would make, for tests that keep the slow side small. */
  leavesFor(va: bigint, oa: bigint, count: bigint, smallest: boolean): number {
    let leaves = 0;
    const sizes = smallest ? this.#o.sizes.slice(0, 1) : this.#o.sizes;
    while (count > 0n && leaves < 5000) {
      const frames = 1n << BigInt(this.#best(va, oa, count, sizes) ?? sizes[0] ?? 0);
      va += frames;
      oa += frames;
      count -= frames;
      leaves++;
    }
    return leaves;
  }

  #best(va: bigint, oa: bigint, count: bigint, sizes: readonly number[]): number | undefined {
    return [...sizes].reverse().find((lg2) => {
      const frames = 1n << BigInt(lg2);
      return va % frames === 0n && oa % frames === 0n && count >= frames;
    });
  }

  #overlaps(va: bigint, end: bigint): boolean {
    return this.leaves.some((leaf) => leaf.va < end && leaf.va + (1n << BigInt(leaf.size)) > va);
  }

  #add(va: bigint, oa: bigint, count: bigint, prot: number, sizes: readonly number[]): void {
    while (count > 0n) {
      const size = this.#best(va, oa, count, sizes) as number;
      const frames = 1n << BigInt(size);
      this.#byVa.set(va, { va, oa, size, prot, ...this.#o.fresh(prot) });
      va += frames;
      oa += frames;
      count -= frames;
    }
  }

  map(va: bigint, runs: [bigint, bigint][], prot: number, smallest = false): number {
    const { oaLimit, sizes } = this.#o;
    const granule = 1n << BigInt(sizes[0] as number);
    let count = 0n;
    for (const [, frames] of runs) count += frames;
    if (count === 0n || (prot & 3) === 0) return -22;
    if (!this.inRange(va, count)) return -34;
    if (va % granule !== 0n || count % granule !== 0n) return -22;
    let at = va; // the first run that cannot be mapped decides
    for (const [oa, frames] of runs) {
      if (oa + frames > oaLimit) return -34;
      if (oa % granule !== 0n || frames % granule !== 0n) return -22;
      if (this.#overlaps(at, at + frames)) return -98;
      at += frames;
    }
    for (const [oa, frames] of runs) {
      this.#add(va, oa, frames, prot, smallest ? sizes.slice(0, 1) : sizes);
      va += frames;
    }
    return 0;
  }

  unmap(va: bigint, count: bigint): number {
    if (count === 0n) return 0;
    const granule = 1n << BigInt(this.#o.sizes[0] as number);
    if (!this.inRange(va, count)) return -34;
    if (va % granule !== 0n || count % granule !== 0n) return -22;
    const first = this.at(va);
    if (first !== undefined && first.va < va) return 0;
    const gone = this.leaves.filter((leaf) => leaf.va >= va && leaf.va < va + count);
    for (const leaf of gone) this.#byVa.delete(leaf.va);
    return Number(gone.reduce((frames, leaf) => frames + (1n << BigInt(leaf.size)), 0n));
  }

  translate(va: bigint): number {
    const leaf = this.at(va);
    return leaf === undefined ? -1 : Number(leaf.oa + va - leaf.va);
  }

  runs(va: bigint, count: bigint): [number, number][] {
    const runs: [number, number][] = [];
    for (let i = 0n; i < count; i++) {
      const frame = this.translate(va + i);
      const last = runs.at(-1);
      if (last && (frame === -1 ? last[0] === -1 : last[0] !== -1 && last[0] + last[1] === frame))
        last[1]++;
      else runs.push([frame, 1]);
    }
    return runs;
  }

  access(va: bigint, write: boolean): number {
    if (!this.inRange(va, 1n)) return -34;
    const leaf = this.at(va);
    if (leaf === undefined) return -2;
    const writable = this.#o.writable?.(leaf.prot) ?? (leaf.prot & 2) !== 0;
    if (write && !writable) return -13;
    leaf.accessed = true;
    if (write && (this.#o.tracksDirty?.(leaf.prot) ?? true)) leaf.dirty = true;
    return 0;
  }

  /** Bits of dirty frames from `va` on, one for 2^lg2 frames. */
  dirty(va: bigint, count: bigint, clear: boolean, lg2 = 0): boolean[] {
    const bits: boolean[] = new Array(
      Number((count + (1n << BigInt(lg2)) - 1n) >> BigInt(lg2)),
    ).fill(false);
    const seen = new Set<Leaf>();
    for (let i = 0n; i < count; i++) {
      const leaf = this.at(va + i);
      if (!leaf?.dirty) continue;
      bits[Number(i >> BigInt(lg2))] = true;
      seen.add(leaf);
    }
    if (clear) for (const leaf of seen) leaf.dirty = false;
    return bits;
  }

  split(va: bigint, size: number): number {
    if (!this.inRange(va, 1n)) return -34;
    const leaf = this.at(va);
    if (leaf === undefined) return -2;
    if (leaf.size <= size) return 0;
    this.#byVa.delete(leaf.va);
    const step = 1n << BigInt(size);
    for (let at = 0n; at < 1n << BigInt(leaf.size); at += step) {
      this.#byVa.set(leaf.va + at, { ...leaf, va: leaf.va + at, oa: leaf.oa + at, size });
    }
    return 0;
  }

  merge(va: bigint, count: bigint, maxSize: number): void {
    for (const size of this.#o.sizes.slice(1)) {
      if (size > maxSize) continue;
      const frames = 1n << BigInt(size);
      for (let at = (va + frames - 1n) & -frames; at + frames <= va + count; at += frames) {
        this.#mergeOne(at, frames, size);
      }
    }
  }

  #mergeOne(at: bigint, frames: bigint, size: number): void {
    const parts = this.leaves.filter((leaf) => leaf.va >= at && leaf.va < at + frames);
    const first = this.at(at);
    if (!first || first.size >= size || first.va !== at || first.oa % frames !== 0n) return;
    const covered = parts.reduce((sum, leaf) => sum + (1n << BigInt(leaf.size)), 0n);
    if (covered !== frames) return;
    if (parts.some((leaf) => leaf.prot !== first.prot || leaf.oa - leaf.va !== first.oa - first.va))
      return;
    for (const leaf of parts) this.#byVa.delete(leaf.va);
    const accessed = parts.some((leaf) => leaf.accessed);
    const dirty = parts.some((leaf) => leaf.dirty);
    this.#byVa.set(at, { ...first, size, accessed, dirty });
  }

  sorted(): Leaf[] {
    return [...this.leaves].sort((a, b) => (a.va < b.va ? -1 : 1));
  }
}
