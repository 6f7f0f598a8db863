/**
 * The raw ioctl face for tests: structs by field name, errnos by name, and a buffer of memory as
 * Linux's own iommufd tests have it.
 */
import {
  createMachine,
  createProcess,
  ERRNO,
  filesOf,
  forkProcess,
  IommufdContext,
  MAP_FLAG,
  type Machine,
  memoryFileOperations,
  OpenFile,
  type Process,
  sysIoctl,
  sysMmap,
  VM_PROT,
} from '@iommukit/core';
import { iommuTest } from '@iommukit/driver-testkit';
import { loadLe, storeLe } from '../src/golden/bytes.ts';
import { GOLDEN_STRUCTS, type GoldenField, type GoldenStruct } from '../src/golden/structs.ts';

export const PAGE = 4096;
/** Half a page: the mock hardware's smallest. */
export const MOCK_PAGE = PAGE / 2;
export const HUGE = 2 ** 21;
/** 16 pages, aligned to a large page. */
export const BUFFER = 0x2_0000_0000;
export const BUFFER_BYTES = 16 * PAGE;
/** First and last IOVA of the mock's default table. */
export const APERTURE = 2 ** 24;
export const APERTURE_LAST = 2 ** 31 - 1;
export const U64_MAX = 2n ** 64n - 1n;
export const FIXED = 1;
export const WRITE = 2;
export const READ = 4;
/** Bits of `vm_flags` for memory that stays shared between processes. */
export const RW = VM_PROT.READ | VM_PROT.WRITE;

/** Where structs stand; the page behind is not mapped. */
const STRUCTS = 0x1_0000_0000;
const STRUCTS_BYTES = 16 * PAGE;
/** Vendor data, ranges and other arrays. */
export const SCRATCH = 0x1_8000_0000;
const SCRATCH_BYTES = 64 * PAGE;

export type Fields = Readonly<Record<string, number | bigint>>;
/** Every field of the struct after the call. */
export type Answer = Readonly<Record<string, bigint>>;

export interface CallOptions {
  /** Descriptor; the kit's iommufd by default. */
  readonly fd?: number;
  readonly process?: Process;
  /** The struct's size member; `sizeof` by default. */
  readonly size?: number;
  /** Bytes behind the struct. */
  readonly tail?: readonly number[];
  /** The struct stands in memory that cannot be written: the call has no place for its answer. */
  readonly readOnly?: boolean;
}

const NAMES = new Map<number, string>(Object.entries(ERRNO).map(([name, value]) => [value, name]));

/** `'ok'` for a result that is not negative, else the errno's name. */
export const nameOf = (result: number): string =>
  result >= 0 ? 'ok' : (NAMES.get(-result) ?? `errno ${-result}`);

const bytesOf = (struct: GoldenStruct, fields: Fields, options: CallOptions): Uint8Array => {
  const { size = struct.size, tail = [] } = options;
  const bytes = new Uint8Array(Math.max(struct.size, 4) + tail.length);
  bytes.set(tail, struct.size);
  const sizeField = struct.fields['argsz'] ?? struct.fields['size'];
  if (sizeField) storeLe(bytes, sizeField[0], 4, BigInt(size));
  if (struct.op !== undefined) storeLe(bytes, 4, 4, BigInt(struct.op));
  for (const [name, value] of Object.entries(fields)) {
    const field = struct.fields[name];
    if (!field) throw new TypeError(`no field '${name}'`);
    storeLe(bytes, field[0], field[1], BigInt(value));
  }
  return bytes;
};

const mapAt = (process: Process, addr: number, length: number, flags: number): void => {
  const made = process.mmap({ addr, length, prot: RW, flags: flags | MAP_FLAG.FIXED });
  if (made < 0) throw new TypeError('the memory of a test cannot be mapped');
};

/** A machine, a process with memory, and an open iommufd. */
export class RawKit {
  readonly machine: Machine;
  readonly process: Process;
  readonly context: IommufdContext;
  readonly fd: number;
  /** The struct of the latest call, after it. */
  answer: Answer = {};

  constructor(ramBytes = 2 ** 26) {
    this.machine = createMachine({ ramBytes });
    this.process = createProcess(this.machine);
    this.process.rlimitMemlockBytes = 2 ** 40;
    mapAt(this.process, STRUCTS, STRUCTS_BYTES, MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS);
    mapAt(this.process, SCRATCH, SCRATCH_BYTES, MAP_FLAG.PRIVATE | MAP_FLAG.ANONYMOUS);
    mapAt(this.process, BUFFER, BUFFER_BYTES, MAP_FLAG.SHARED | MAP_FLAG.ANONYMOUS);
    this.context = this.#openContext();
    this.fd = this.context.fd;
  }

  /** One more iommufd. */
  open(): number {
    return this.#openContext().fd;
  }

  #openContext(): IommufdContext {
    return new IommufdContext(this.process, this.machine, { extensions: [iommuTest()] });
  }

  /** The descriptor that the next file will have. */
  get nextFd(): number {
    return filesOf(this.process).nextFd;
  }

  fork(): Process {
    return forkProcess(this.process);
  }

  /** Call with a struct; the errno's name or `'ok'`. */
  rc(name: string, fields: Fields = {}, options: CallOptions = {}): string {
    const struct = GOLDEN_STRUCTS[name];
    if (!struct) throw new TypeError(`no struct '${name}'`);
    const process = options.process ?? this.process;
    const bytes = bytesOf(struct, fields, options);
    const at = STRUCTS + STRUCTS_BYTES - bytes.length;
    process.poke(at, bytes);
    if (options.readOnly) process.mprotect(STRUCTS, STRUCTS_BYTES, VM_PROT.READ);
    const result = sysIoctl(process, options.fd ?? this.fd, struct.ioctl, at);
    if (options.readOnly) process.mprotect(STRUCTS, STRUCTS_BYTES, RW);
    const after = process.peek(at, bytes.length) ?? new Uint8Array();
    const read = ([offset, width]: GoldenField) => loadLe(after, offset, width);
    this.answer = Object.fromEntries(
      Object.entries(struct.fields).map(([field, place]) => [field, read(place)]),
    );
    return nameOf(result);
  }

  /** A call that must succeed. */
  ok(name: string, fields: Fields = {}, options: CallOptions = {}): Answer {
    const rc = this.rc(name, fields, options);
    if (rc !== 'ok') throw new Error(`${name} answered ${rc}`);
    return this.answer;
  }

  /** A call without a struct. */
  plain(request: number, argument: number | bigint, fd = this.fd): string {
    return nameOf(sysIoctl(this.process, fd, request, argument));
  }

  /** One member of the answer of a call that must succeed. */
  make(name: string, field: string, fields: Fields = {}): bigint {
    return this.ok(name, fields)[field] as bigint;
  }

  ioas(): bigint {
    return this.make('IOAS_ALLOC', 'out_ioas_id');
  }

  destroy(id: bigint): string {
    return this.rc('DESTROY', { id });
  }

  /** A mock device attached to an IOAS or HWPT. */
  mock(id: bigint, devFlags = 0) {
    const made = this.ok('TEST_MOCK_DOMAIN_FLAGS', { id, dev_flags: devFlags });
    return {
      stdev: made['out_stdev_id'] as bigint,
      hwpt: made['out_hwpt_id'] as bigint,
      dev: made['out_idev_id'] as bigint,
    };
  }

  /** Map at a fixed IOVA; the errno's name. */
  mapFixed(ioas: bigint, va: number, length: number, iova: number | bigint, flags = WRITE | READ) {
    const fields = { ioas_id: ioas, user_va: va, length, iova, flags: FIXED | flags };
    return this.rc('IOAS_MAP', fields);
  }

  /** Map where the kernel likes. */
  map(ioas: bigint, va: number, length: number, flags = WRITE | READ): bigint {
    return this.make('IOAS_MAP', 'iova', { ioas_id: ioas, user_va: va, length, flags });
  }

  unmap(ioas: bigint, iova: number | bigint, length: number | bigint): string {
    return this.rc('IOAS_UNMAP', { ioas_id: ioas, iova, length });
  }

  hwpt(dev: bigint, pt: bigint, flags = 0): bigint {
    return this.make('HWPT_ALLOC', 'out_hwpt_id', { dev_id: dev, pt_id: pt, flags });
  }

  /** Put bytes where arrays stand; their address. */
  data(bytes: ArrayLike<number>, at = SCRATCH): number {
    this.process.poke(at, Uint8Array.from(bytes));
    return at;
  }

  /** Put 32-bit words where arrays stand; their address. */
  words(words: readonly number[], at = SCRATCH): number {
    return this.data(new Uint8Array(Uint32Array.from(words).buffer), at);
  }

  /** Put 64-bit words where arrays stand; their address. */
  words64(words: readonly (number | bigint)[], at = SCRATCH): number {
    const bytes = new Uint8Array(words.length * 8);
    words.forEach((word, index) => {
      storeLe(bytes, index * 8, 8, BigInt(word));
    });
    return this.data(bytes, at);
  }

  /** Read 64-bit words. */
  read64(at: number, count: number): bigint[] {
    const bytes = this.process.peek(at, count * 8) ?? new Uint8Array();
    return Array.from({ length: count }, (_unused, index) => loadLe(bytes, index * 8, 8));
  }

  read32(at: number, count: number): number[] {
    const bytes = this.process.peek(at, count * 4) ?? new Uint8Array();
    return Array.from({ length: count }, (_unused, index) => Number(loadLe(bytes, index * 4, 4)));
  }

  /** New memory; its address. */
  memory(length: number, hugetlb = false): number {
    const flags = MAP_FLAG.SHARED | MAP_FLAG.ANONYMOUS | (hugetlb ? MAP_FLAG.HUGETLB : 0);
    return this.process.mmap({ length, prot: RW, flags });
  }

  /** A new file in memory; its descriptor. */
  memfd(size: number, hugetlb = false): number {
    const operations = memoryFileOperations(this.process.createFile({ size, hugetlb }));
    return filesOf(this.process).install(new OpenFile(operations));
  }

  mmapFd(fd: number, length: number, offset: number): number {
    return sysMmap(this.process, fd, { length, prot: RW, flags: MAP_FLAG.SHARED, offset });
  }

  /** Whether a HWPT translates as the page table of the process does. */
  checkMap(hwpt: bigint, va: number, iova: number | bigint, length: number): string {
    return this.rc('TEST_MD_CHECK_MAP', { id: hwpt, iova, length, uptr: va });
  }

  checkRefs(va: number, length: number, refs: number, fd = this.fd): string {
    return this.rc('TEST_MD_CHECK_REFS', { uptr: va, length, refs }, { fd });
  }

  closeFd(fd: number): void {
    filesOf(this.process).close(fd);
  }

  /** Close, and check that no page of the buffer stays pinned. */
  close(): void {
    this.closeFd(this.fd);
    const again = this.open();
    const rc = this.checkRefs(BUFFER, BUFFER_BYTES, 0, again);
    if (rc !== 'ok') throw new Error('pages of the buffer stay pinned');
    this.closeFd(again);
  }
}
