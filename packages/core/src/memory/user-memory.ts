/**
 * A modelled process: its user memory, credentials, limits and pin counters. What Linux keeps in
 * `mm_struct`, `task_struct` and `user_struct`, as far as pinning for DMA sees it.
 * @module
 */
import { refuse } from '../errors.ts';
import type { FrameRunState } from '../snapshot/memory-state.ts';
import type { ProcessState } from '../snapshot/scenario-state.ts';
import { AddressSpace, USER_END_PAGE, VM_PROT, ZERO_PAGE } from './address-space.ts';
import { FramePool, HUGE_PAGES } from './frame-pool.ts';
import type { FrameRuns } from './frame-runs.ts';
import { MemoryFile, type MemoryFileOptions, SEAL } from './memory-file.ts';
import { PAGE_BYTES } from './memory-region.ts';
import type { PhysicalMemory } from './physical-memory.ts';
import {
  type Capability,
  MAP_FLAG,
  type MmapOptions,
  type ProcessOptions,
} from './process-options.ts';
import { type MachineUsers, type UserAccount, usersOf } from './user-account.ts';
import type { Vma } from './vma-list.ts';

const EPERM = -1;
const ENOMEM = -12;
const EFAULT = -14;
const EEXIST = -17;
const EINVAL = -22;

const READ_WRITE = VM_PROT.READ | VM_PROT.WRITE;
const PRIVATE_ANONYMOUS = MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS;

const ALL_CAPABILITIES: readonly Capability[] = [
  'CAP_IPC_LOCK',
  'CAP_SYS_RESOURCE',
  'CAP_SYS_RAWIO',
];
const DEFAULT_MEMLOCK_BYTES = 8 * 2 ** 20;
/** Where a fresh process's mappings start to grow down from. */
const MMAP_TOP_PAGE = 0x7fff_f7fff;
const MMAP_LOWEST_PAGE = 16;

/** Page number of a user address, or -1 when no user mapping can be there. */
const userPage = (va: number | bigint): number => {
  if (va < 0 || va >= USER_END_PAGE * PAGE_BYTES) return -1;
  return Math.floor(Number(va) / PAGE_BYTES);
};

/** A process. Memory faults are data (-14), never exceptions. */
export class Process {
  readonly memory: PhysicalMemory;
  /** User id at this moment; accounts already charged stay with the user of their time. */
  uid: number;
  capabilities: ReadonlySet<Capability>;
  /** RLIMIT_MEMLOCK now, bytes. */
  rlimitMemlockBytes: number;
  /** Pages pinned on behalf of this process (VmPin). */
  pinnedPages = 0;
  /** Pages locked in this process (VmLck). */
  lockedPages = 0;
  /** False after `exit`. */
  alive = true;
  private readonly pool: FramePool;
  private readonly space: AddressSpace;
  private readonly users: MachineUsers;

  constructor(machine: { readonly memory: PhysicalMemory }, options: ProcessOptions = {}) {
    this.memory = machine.memory;
    this.uid = options.uid ?? 0;
    this.capabilities =
      options.capabilities ?? new Set<Capability>(this.uid === 0 ? ALL_CAPABILITIES : []);
    this.rlimitMemlockBytes = options.rlimitMemlockBytes ?? DEFAULT_MEMLOCK_BYTES;
    this.pool = new FramePool(machine.memory);
    this.space = new AddressSpace(this.pool);
    this.users = usersOf(machine.memory);
  }

  /** VmPin in KiB, as `/proc/PID/status` shows it. */
  get vmPinKiB(): number {
    return (this.pinnedPages * PAGE_BYTES) / 1024;
  }

  /** VmLck in KiB, as `/proc/PID/status` shows it. */
  get vmLckKiB(): number {
    return (this.lockedPages * PAGE_BYTES) / 1024;
  }

  /** The account of the user this process runs as now. */
  get user(): UserAccount {
    return this.users.account(this.uid);
  }

  /** Become another user; capabilities go with uid 0, as `setuid` does for root. */
  setuid(uid: number): void {
    this.uid = uid;
    if (uid !== 0) this.capabilities = new Set();
  }

  /** Make a file in memory (`memfd_create` and `ftruncate`). */
  createFile(options: MemoryFileOptions): MemoryFile {
    return new MemoryFile(this.pool, options);
  }

  /**
   * Map memory.
   *
   * @returns address of the first byte, or a negative errno: -22 (EINVAL), -17 (EEXIST), -12
   * (ENOMEM), -1 (EPERM, a sealed file)
   */
  mmap(options: MmapOptions): number {
    const { prot = READ_WRITE, flags = PRIVATE_ANONYMOUS, file } = options;
    const offset = options.offset ?? 0;
    const shared = (flags & MAP_FLAG.SHARED) !== 0;
    if (shared === ((flags & MAP_FLAG.PRIVATE) !== 0)) return EINVAL;
    if (!file && !(flags & MAP_FLAG.ANONYMOUS)) return EINVAL;
    if (!(options.length > 0) || offset % PAGE_BYTES !== 0) return EINVAL;
    const sealed = SEAL.WRITE | SEAL.FUTURE_WRITE;
    if (shared && file && prot & VM_PROT.WRITE && file.seals & sealed) return EPERM;
    const hugetlb = file ? file.hugetlb : (flags & MAP_FLAG.HUGETLB) !== 0;
    const unit = hugetlb ? HUGE_PAGES : 1;
    const pages = Math.ceil(options.length / (unit * PAGE_BYTES)) * unit;
    const start = this.place(options.addr, flags, pages, unit);
    if (start < 0) return start;
    const anonymous =
      shared && !file ? this.createFile({ size: pages * PAGE_BYTES, hugetlb }) : file;
    const filePage = file ? offset / PAGE_BYTES : 0;
    this.space.map({ start, end: start + pages, prot, shared, hugetlb, file: anonymous, filePage });
    if (anonymous !== file) anonymous?.release();
    return start * PAGE_BYTES;
  }

  /** Whether `MAP_FIXED_NOREPLACE` keeps a mapping from standing there (-17, EEXIST). */
  collides(addr: number | bigint | undefined, length: number, flags: number): boolean {
    if (addr === undefined || !(flags & MAP_FLAG.FIXED_NOREPLACE)) return false;
    const range = this.pageRange(addr, length);
    return range !== undefined && this.space.vmas.overlaps(range.start, range.end);
  }

  /** Whether an address is in a mapping of 2 MiB pages. */
  isHugetlb(va: number | bigint): boolean {
    return this.space.vmas.at(userPage(va))?.hugetlb ?? false;
  }

  /** Unmap `[addr, addr + length)`; 0, or -22 for a misaligned or empty range. */
  munmap(addr: number | bigint, length: number): number {
    const range = this.pageRange(addr, length);
    if (!range) return EINVAL;
    this.space.unmap(range.start, range.end);
    return 0;
  }

  /** Change rights; 0, -22 for a misaligned range, -12 where nothing is mapped. */
  mprotect(addr: number | bigint, length: number, prot: number): number {
    const range = this.pageRange(addr, length);
    if (!range) return EINVAL;
    return this.space.protect(range.start, range.end, prot) ? 0 : ENOMEM;
  }

  /**
   * A child with a copy of this memory and these credentials; shared mappings stay shared.
   *
   * @throws {IommuError} ENOMEM when there are not enough frames to copy pinned pages
   */
  fork(): Process {
    const child = new Process(this, {
      uid: this.uid,
      capabilities: this.capabilities,
      rlimitMemlockBytes: this.rlimitMemlockBytes,
    });
    if (this.space.forkInto(child.space) < 0) {
      throw refuse('ENOMEM', 'fork', 'page-frames', 'no frames left to copy pinned pages', {
        accepted: 'more RAM or fewer pinned pages',
      });
    }
    return child;
  }

  /** End: every mapping goes; pinned frames live on until they are unpinned. */
  exit(): void {
    this.alive = false;
    this.space.clear();
  }

  /**
   * Read user memory.
   *
   * @returns 0, or -14 (EFAULT) with the bytes before the fault done
   */
  read(va: number | bigint, target: Uint8Array): number {
    return this.transfer(va, target, false, VM_PROT.READ);
  }

  /**
   * Write user memory.
   *
   * @returns 0, -14 (EFAULT) or -12 with the bytes before the fault done
   */
  write(va: number | bigint, source: Uint8Array): number {
    return this.transfer(va, source, true, VM_PROT.WRITE);
  }

  /** Read as a debugger does, whatever the rights; undefined where nothing is mapped. */
  peek(va: number | bigint, length: number): Uint8Array | undefined {
    const bytes = new Uint8Array(length);
    return this.transfer(va, bytes, false, VM_PROT.NONE) < 0 ? undefined : bytes;
  }

  /** Write as a debugger does, whatever the rights; 0, -14 (EFAULT) or -12. */
  poke(va: number | bigint, source: Uint8Array): number {
    return this.transfer(va, source, true, VM_PROT.NONE);
  }

  /**
   * The frame behind an address now.
   *
   * @returns frame number; {@link ZERO_PAGE} (-1) before the first write; -14 (EFAULT)
   */
  frameAt(va: number | bigint): number {
    const page = userPage(va);
    return page < 0 ? EFAULT : this.space.frameToRead(page, VM_PROT.READ);
  }

  /**
   * Pin one page for the long term.
   *
   * @returns frame number, -14 (EFAULT) or -12
   */
  pinPage(va: number | bigint, writable: boolean, runs: FrameRuns): number {
    runs.clear();
    const page = userPage(va);
    const rc = page < 0 ? EFAULT : this.pinRange(page, 1, writable, runs);
    return rc < 0 ? rc : (runs.pairs[0] as number);
  }

  /**
   * Pin pages for the long term, all or none. @hot
   *
   * @param page user page number (address / 4096)
   * @param runs empty; gets the frames
   * @returns 0, -14 (EFAULT, also after `exit`) or -12
   */
  pinRange(page: number, count: number, writable: boolean, runs: FrameRuns): number {
    if (page + count > USER_END_PAGE) return EFAULT;
    const rc = this.space.collect(page, count, writable, runs);
    if (rc < 0) runs.clear();
    else this.pool.pinRuns(runs);
    return rc;
  }

  /** Mappings and page table, for a snapshot. */
  saveSpace(): { readonly vmas: readonly Vma[]; readonly frames: FrameRunState[] } {
    return { vmas: this.space.vmas.all, frames: this.space.savePages() };
  }

  /** Put mappings, page table and accounts back; frames and files are counted already. */
  load(state: ProcessState, vmas: readonly Vma[]): void {
    this.pinnedPages = state.pinnedPages;
    this.lockedPages = state.lockedPages;
    this.alive = state.alive;
    this.space.load(vmas, state.frames);
  }

  private transfer(va: number | bigint, bytes: Uint8Array, write: boolean, prot: number): number {
    let page = userPage(va);
    if (page < 0) return bytes.length === 0 ? 0 : EFAULT;
    let offset = Number(va) % PAGE_BYTES;
    for (let done = 0; done < bytes.length; page++, offset = 0) {
      const pfn = write ? this.space.frameToWrite(page, prot) : this.space.frameToRead(page, prot);
      if (pfn < ZERO_PAGE) return pfn;
      const count = Math.min(bytes.length - done, PAGE_BYTES - offset);
      const part = bytes.subarray(done, done + count);
      if (pfn === ZERO_PAGE) part.fill(0);
      else if (write) this.memory.copyIn(pfn * PAGE_BYTES + offset, part);
      else this.memory.copyOut(pfn * PAGE_BYTES + offset, part);
      done += count;
    }
    return 0;
  }

  private place(
    addr: number | bigint | undefined,
    flags: number,
    pages: number,
    unit: number,
  ): number {
    const fixed = (flags & (MAP_FLAG.FIXED | MAP_FLAG.FIXED_NOREPLACE)) !== 0;
    if (addr === undefined) {
      const start = this.space.vmas.highestHole(pages, MMAP_TOP_PAGE, MMAP_LOWEST_PAGE, unit);
      return start < 0 ? ENOMEM : start;
    }
    const start = userPage(addr);
    if (start < 0 || start + pages > USER_END_PAGE) return ENOMEM;
    if (Number(addr) % (unit * PAGE_BYTES) !== 0) return EINVAL;
    if (!this.space.vmas.overlaps(start, start + pages)) return start;
    if (flags & MAP_FLAG.FIXED_NOREPLACE) return EEXIST;
    if (!fixed) return this.place(undefined, flags, pages, unit);
    this.space.unmap(start, start + pages);
    return start;
  }

  private pageRange(addr: number | bigint, length: number) {
    const start = userPage(addr);
    if (start < 0 || Number(addr) % PAGE_BYTES !== 0 || !(length > 0)) return undefined;
    const end = start + Math.ceil(length / PAGE_BYTES);
    return end > USER_END_PAGE ? undefined : { start, end };
  }
}

/** Make a process; see {@link ProcessOptions}. */
export const createProcess = (
  machine: { readonly memory: PhysicalMemory },
  options?: ProcessOptions,
): Process => new Process(machine, options);
