/**
 * A pages object: the memory behind one map call, shared by every copy of the mapping. Its pages
 * are pinned while some domain or access needs them, once each, and charged to whoever mapped.
 * @module
 */
import {
  type AccountMode,
  chargePinned,
  FrameRuns,
  type PinnableFile,
  type Process,
  type UserAccount,
} from '../memory/index.ts';
import type { PagesState } from '../snapshot/iopt-state.ts';
import { DmabufAttachment } from './dmabuf.ts';
import { collectRuns, PartialPins, type PinContext } from './pins.ts';

const ENOMEM = -12;
const EPERM = -1;

/** Where pages come from. */
export interface PagesOptions {
  /** The mapper: its memory, its limits. */
  readonly process: Process;
  /** Set for `IOMMU_IOAS_MAP_FILE`. */
  readonly file?: PinnableFile | undefined;
  /** User address / 4096, or byte in the file / 4096. */
  readonly basePage: number;
  /** Pages, 4 KiB. */
  readonly count: number;
  /** Pinned for writing. */
  readonly writable: boolean;
  readonly mode: AccountMode;
  /** Account to charge; default that of the process now. */
  readonly user?: UserAccount;
  /** A dma-buf that was taken back; for restored pages. */
  readonly revoked?: boolean;
}

/** See the module. Pages are numbered from 0 (`basePage`). */
export class IoptPages {
  readonly context: PinContext;
  /** Areas and lists that hold the object. */
  references = 1;
  /** Whose memory, and whom to charge; IOAS_CHANGE_PROCESS moves both. */
  process: Process;
  user: UserAccount;
  readonly mode: AccountMode;
  readonly file: PinnableFile | undefined;
  /** Set for pages of a dma-buf. */
  readonly dmabuf: DmabufAttachment | undefined;
  readonly basePage: number;
  readonly count: number;
  readonly writable: boolean;
  /** Pages pinned now. */
  pinned = 0;
  /** Pages charged; differs from `pinned` only inside an operation. */
  charged = 0;
  /** Users of all pages alike; 0 = none, or `partial` knows. */
  private users = 0;
  /** Frames of all pages while `users` > 0: one run from here, or `runs`. */
  private firstPfn = 0;
  private runs: FrameRuns | undefined = undefined;
  private partial: PartialPins | undefined = undefined;
  /** Users of each exact range that accesses pinned: by first page, then by count. */
  private accesses: Map<number, Map<number, number>> | undefined = undefined;

  constructor(context: PinContext, options: PagesOptions) {
    this.context = context;
    this.process = options.process;
    this.user = options.user ?? options.process.user;
    this.mode = options.mode;
    this.file = options.file;
    this.basePage = options.basePage;
    this.count = options.count;
    this.writable = options.writable;
    const { file, revoked } = options;
    this.dmabuf = file?.isDmabuf ? new DmabufAttachment(file, revoked) : undefined;
  }

  /**
   * One user more for a range: pin what is not pinned yet. Charging is a second step
   * ({@link settle}), as in Linux, so that a fault is reported before a limit.
   *
   * @param out empty; gets the frames of the range
   * @returns 0, -14 (EFAULT), -12, -22 (a file's end), with nothing changed
   * @hot
   */
  acquire(first: number, count: number, out: FrameRuns): number {
    if (this.context.shouldFail('pin-batch')) return ENOMEM;
    return this.retain(first, count, out);
  }

  /** Whether one page could be pinned now. */
  canPin(index: number): boolean {
    if (this.retain(index, 1, this.context.scratch) < 0) return false;
    this.release(index, 1);
    return true;
  }

  /** `acquire` for pages that are pinned already: cannot fail then. @hot */
  retain(first: number, count: number, out: FrameRuns): number {
    const whole = count === this.count;
    if (this.partial === undefined && whole) return this.acquireAll(out);
    return this.acquirePart(first, count, out);
  }

  /** One user less for a range; pages without user are unpinned. {@link settle} follows. @hot */
  release(first: number, count: number): void {
    if (this.partial !== undefined) {
      this.pinned -= this.partial.release(first, count);
      if (this.partial.isEmpty) this.partial = undefined;
      return;
    }
    if (count === this.count) {
      this.users--;
      if (this.users > 0) return;
      if (this.runs) this.context.unpinRuns(this.runs);
      else this.context.pool.unpin(this.firstPfn, count);
      this.runs = undefined;
      this.pinned = 0;
      return;
    }
    this.pinned -= this.toPartial().release(first, count);
  }

  /** Append the frames of a pinned range to `out`. */
  collect(first: number, count: number, out: FrameRuns): void {
    if (this.partial) this.partial.collect(first, count, out);
    else if (!this.runs) out.push(this.firstPfn + first, count);
    else collectRuns(this.runs, first, count, out);
  }

  /** One holder less; the last one lets go of the file. */
  put(): void {
    if (--this.references > 0) return;
    this.dmabuf?.detach();
    this.file?.release?.();
  }

  /**
   * Charge what was pinned since the last call, or take back what was unpinned.
   *
   * @returns 0, or -12 over RLIMIT_MEMLOCK with nothing charged
   */
  settle(): number {
    const delta = this.pinned - this.charged;
    if (delta === 0 || this.dmabuf) return 0;
    if (delta > 0 && this.context.shouldFail('charge')) return ENOMEM;
    const rc = chargePinned(this.process, this.user, this.mode, delta);
    if (rc === 0) this.charged = this.pinned;
    return rc;
  }

  /**
   * Pin a range for an access; the same range twice is pinned once.
   *
   * @param out gets the frames appended
   * @returns 0, -1 (EPERM, writing to pages mapped read-only), or as `acquire`
   * @linux drivers/iommu/iommufd/pages.c iopt_area_add_access
   */
  addAccess(first: number, count: number, write: boolean, out: FrameRuns): number {
    if (write && !this.writable) return EPERM;
    const users = this.accesses?.get(first)?.get(count) ?? 0;
    if (users === 0) {
      if (this.context.shouldFail('access')) return ENOMEM;
      const rc = this.acquire(first, count, this.context.scratch);
      if (rc < 0) return rc;
      if (this.settle() < 0) {
        this.release(first, count);
        return ENOMEM;
      }
    }
    this.setAccessUsers(first, count, users + 1);
    this.collect(first, count, out);
    return 0;
  }

  /** Undo one `addAccess`; false when there was none. */
  removeAccess(first: number, count: number): boolean {
    const users = this.accesses?.get(first)?.get(count) ?? 0;
    if (users === 0) return false;
    this.setAccessUsers(first, count, users - 1);
    if (users === 1) {
      this.release(first, count);
      this.settle();
    }
    return true;
  }

  /** Counts, frames and accesses, for a snapshot. */
  save(): Pick<PagesState, 'users' | 'whole' | 'partial' | 'accesses'> {
    return {
      users: this.users,
      whole: this.saveWhole(),
      partial: this.partial?.save(),
      accesses: [...(this.accesses ?? [])]
        .flatMap(([first, byCount]) =>
          [...byCount].map(([count, users]) => ({ first, count, users })),
        )
        .sort((a, b) => a.first - b.first || a.count - b.count),
    };
  }

  /** Put a state back; its frames are pinned and charged already. */
  load(state: PagesState): void {
    this.references = state.references;
    this.pinned = state.pinned;
    this.charged = state.charged;
    this.users = state.users;
    this.firstPfn = state.whole[0]?.pfn ?? 0;
    if (state.whole.length > 1) {
      this.runs = new FrameRuns(state.whole.length);
      for (const { pfn, count } of state.whole) this.runs.push(pfn, count);
    }
    if (state.partial) {
      this.partial = new PartialPins(this.context);
      this.partial.load(state.partial);
    }
    for (const { first, count, users } of state.accesses) this.setAccessUsers(first, count, users);
  }

  /** Frames of all pages, while they are pinned at once. */
  private saveWhole(): PagesState['whole'] {
    if (this.users === 0) return [];
    const { runs } = this;
    if (!runs) return [{ pfn: this.firstPfn, count: this.count }];
    return Array.from({ length: runs.count }, (_unused, i) => ({
      pfn: runs.pairs[2 * i] as number,
      count: runs.pairs[2 * i + 1] as number,
    }));
  }

  private acquireAll(out: FrameRuns): number {
    out.clear();
    if (this.users === 0) {
      const rc = this.pinSource(0, this.count, out);
      if (rc < 0) return rc;
      this.firstPfn = out.pairs[0] as number;
      if (out.count > 1) {
        this.runs = new FrameRuns(out.count);
        for (let i = 0; i < 2 * out.count; i += 2) {
          this.runs.push(out.pairs[i] as number, out.pairs[i + 1] as number);
        }
      }
      this.pinned = this.count;
    } else this.collect(0, this.count, out);
    this.users++;
    return 0;
  }

  private acquirePart(first: number, count: number, out: FrameRuns): number {
    const partial = this.toPartial();
    const pinned = partial.acquire(first, count, (at, pages, runs) =>
      this.pinSource(at, pages, runs),
    );
    out.clear();
    if (pinned < 0) {
      if (partial.isEmpty) this.partial = undefined;
      return pinned;
    }
    this.pinned += pinned;
    partial.collect(first, count, out);
    return 0;
  }

  private toPartial(): PartialPins {
    if (this.partial) return this.partial;
    this.partial = new PartialPins(this.context);
    if (this.users > 0) {
      const all = new FrameRuns();
      const { runs } = this;
      if (runs) collectRuns(runs, 0, this.count, all);
      else all.push(this.firstPfn, this.count);
      this.partial.adopt(all, this.users);
    }
    this.users = 0;
    this.runs = undefined;
    return this.partial;
  }

  private pinSource(first: number, count: number, runs: FrameRuns): number {
    const page = this.basePage + first;
    if (this.file) return this.file.pinRange(page, count, runs);
    return this.process.pinRange(page, count, this.writable, runs);
  }

  private setAccessUsers(first: number, count: number, users: number): void {
    this.accesses ??= new Map();
    let byCount = this.accesses.get(first);
    if (!byCount) {
      byCount = new Map();
      this.accesses.set(first, byCount);
    }
    if (users > 0) byCount.set(count, users);
    else byCount.delete(count);
    if (byCount.size === 0) this.accesses.delete(first);
  }
}
