/**
 * Open files and descriptors of a modelled process, as far as iommufd programs use them: contexts,
 * event queues, files in memory, device files.
 * @module
 */
import type { IommuError } from '../errors.ts';
import type { IommufdContext } from '../iommufd/context.ts';
import {
  checkAllocation,
  type MemoryFile,
  type PinnableFile,
  type Process,
} from '../memory/index.ts';
import type { UserPointer } from './struct-table.ts';

const EBADF = -9;
const EINVAL = -22;
const ENOTTY = -25;
const ENODEV = -19;
const ESPIPE = -29;

/** `poll` bits. @linux include/uapi/asm-generic/poll.h */
export const POLL = {
  IN: 1,
  OUT: 4,
  ERR: 8,
  HUP: 16,
  NVAL: 32,
  RDNORM: 0x40,
  WRNORM: 0x100,
} as const;

/** What a file that has nothing to say about it answers. @linux include/linux/poll.h */
const DEFAULT_POLL = POLL.IN | POLL.OUT | POLL.RDNORM | POLL.WRNORM;

/** What `mmap` of a descriptor names. */
export interface FileMapping {
  /** Byte address wanted, page aligned. */
  readonly addr?: number | bigint;
  readonly length: number;
  /** Sum of `VM_PROT` bits. */
  readonly prot: number;
  /** Sum of `MAP_FLAG` bits. */
  readonly flags: number;
  /** Byte offset in the file. */
  readonly offset?: number;
}

/** What an open file can do. Results are those of the system call: a count, or a negative errno. */
export interface FileOperations {
  /** What it is, for messages: `'iommufd'`, `'fault queue'`. */
  readonly name: string;
  read?(process: Process, buffer: UserPointer, length: number): number;
  write?(process: Process, buffer: UserPointer, length: number): number;
  /** {@link POLL} bits that are set now. */
  poll?(): number;
  ioctl?(process: Process, request: number, argument: number | bigint): number;
  mmap?(process: Process, mapping: FileMapping): number;
  /** What `IOMMU_IOAS_MAP_FILE` pins, when that is possible. */
  readonly pinnable?: PinnableFile;
  /** The context behind an iommufd. */
  readonly iommufd?: IommufdContext;
  /** Checked when a range is to be mapped (dma-bufs): 0 or a negative errno. */
  checkPinnable?(start: bigint, length: bigint): number;
  /** The last descriptor is closed. */
  release?(): void;
}

/** An open file: operations shared by every descriptor that refers to it. */
export class OpenFile {
  readonly operations: FileOperations;
  #references = 0;

  constructor(operations: FileOperations) {
    this.operations = operations;
  }

  /** Descriptors and others that hold it, for a snapshot. */
  get references(): number {
    return this.#references;
  }

  /** Put the count of a snapshot back. */
  load(references: number): void {
    this.#references = references;
  }

  /** One reference more: a descriptor, or somebody inside the kernel. */
  retain(): void {
    this.#references++;
  }

  /** One reference less; the last one releases the file. */
  put(): void {
    if (--this.#references === 0) this.operations.release?.();
  }
}

/** Lowest descriptor given out: 0 to 2 are the standard streams. */
const FIRST_FD = 3;

/** Descriptors of one process; the lowest free number is given out. */
export class FileTable {
  /** Why the last refused call on one of these descriptors was refused, where that is known. */
  lastRefusal: IommuError | undefined;
  readonly #files = new Map<number, OpenFile>();

  /** The number the next descriptor will have. */
  get nextFd(): number {
    let fd = FIRST_FD;
    while (this.#files.has(fd)) fd++;
    return fd;
  }

  /** Put a file behind the lowest free descriptor. */
  install(file: OpenFile): number {
    const fd = this.nextFd;
    file.retain();
    this.#files.set(fd, file);
    return fd;
  }

  /** The open file behind a descriptor. */
  get(fd: number): OpenFile | undefined {
    return this.#files.get(fd);
  }

  /** Close a descriptor; 0 or -9 (EBADF). */
  close(fd: number): number {
    const file = this.#files.get(fd);
    if (!file) return EBADF;
    this.#files.delete(fd);
    file.put();
    return 0;
  }

  /** Every descriptor, ascending, for a snapshot. */
  save(): { readonly fd: number; readonly file: OpenFile }[] {
    return [...this.#files].map(([fd, file]) => ({ fd, file })).sort((a, b) => a.fd - b.fd);
  }

  /** Put descriptors back whose files count them already. */
  load(files: readonly { readonly fd: number; readonly file: OpenFile }[]): void {
    this.#files.clear();
    for (const { fd, file } of files) this.#files.set(fd, file);
  }

  /** Close everything, ascending: the process ends. */
  closeAll(): void {
    for (const fd of [...this.#files.keys()].sort((a, b) => a - b)) this.close(fd);
  }

  /** Give an empty table the same descriptors, as `fork` does. */
  shareWith(child: FileTable): void {
    for (const [fd, file] of this.#files) {
      file.retain();
      child.#files.set(fd, file);
    }
  }
}

/** An open file in memory. */
export class MemfdOperations implements FileOperations {
  readonly name = 'memfd';
  readonly pinnable: MemoryFile;

  constructor(file: MemoryFile) {
    this.pinnable = file;
  }

  mmap(process: Process, mapping: FileMapping): number {
    return process.mmap({ ...mapping, file: this.pinnable });
  }

  release(): void {
    this.pinnable.release();
  }
}

/** The descriptor of a file in memory, as `memfd_create` returns it. */
export const memoryFileOperations = (file: MemoryFile): FileOperations => new MemfdOperations(file);

const TABLES = new WeakMap<Process, FileTable>();

/** The descriptors of a process. */
export const filesOf = (process: Process): FileTable => {
  let table = TABLES.get(process);
  if (!table) {
    table = new FileTable();
    TABLES.set(process, table);
  }
  return table;
};

/**
 * Put a new open file behind the lowest free descriptor.
 *
 * @param make called once there is memory for file and descriptor
 * @throws {IommuError} ENOMEM, with nothing changed
 */
export const installFile = (process: Process, op: string, make: () => OpenFile): number => {
  checkAllocation(process.memory, op, 'a file');
  checkAllocation(process.memory, op, 'a descriptor');
  return filesOf(process).install(make());
};

/** `fork` with descriptors: the child has a copy of memory and shares open files. */
export const forkProcess = (process: Process): Process => {
  const child = process.fork();
  filesOf(process).shareWith(filesOf(child));
  return child;
};

/** End of a process: descriptors are closed after its memory is gone, as the kernel does it. */
export const exitProcess = (process: Process): void => {
  process.exit();
  filesOf(process).closeAll();
};

/** `ioctl(fd, request, argument)`: result or negative errno. */
export const sysIoctl = (
  process: Process,
  fd: number,
  request: number,
  argument: number | bigint,
): number => {
  const file = filesOf(process).get(fd);
  if (!file) return EBADF;
  return file.operations.ioctl?.(process, request, argument) ?? ENOTTY;
};

/** `read(fd, buffer, length)`: bytes or negative errno. */
export const sysRead = (
  process: Process,
  fd: number,
  buffer: UserPointer,
  length: number,
): number => {
  const file = filesOf(process).get(fd);
  if (!file) return EBADF;
  return file.operations.read?.(process, buffer, length) ?? EINVAL;
};

/** `write(fd, buffer, length)`: bytes or negative errno. */
export const sysWrite = (
  process: Process,
  fd: number,
  buffer: UserPointer,
  length: number,
): number => {
  const file = filesOf(process).get(fd);
  if (!file) return EBADF;
  return file.operations.write?.(process, buffer, length) ?? EINVAL;
};

/**
 * `poll` of one descriptor without waiting: those of `events` (and errors) that are set. A negative
 * descriptor is ignored.
 */
export const sysPoll = (process: Process, fd: number, events: number): number => {
  if (fd < 0) return 0;
  const file = filesOf(process).get(fd);
  if (!file) return POLL.NVAL;
  const set = file.operations.poll?.() ?? DEFAULT_POLL;
  return set & (events | POLL.ERR | POLL.HUP);
};

/** `mmap` of a descriptor: address or negative errno. */
export const sysMmap = (process: Process, fd: number, mapping: FileMapping): number => {
  const file = filesOf(process).get(fd);
  if (!file) return EBADF;
  return file.operations.mmap?.(process, mapping) ?? ENODEV;
};

/** `lseek`: none of these files has a position. */
export const sysSeek = (process: Process, fd: number): number =>
  filesOf(process).get(fd) ? ESPIPE : EBADF;
