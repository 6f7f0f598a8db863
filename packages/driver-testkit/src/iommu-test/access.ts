/**
 * Test operations on accesses: descriptors that pin pages of an IOAS or read and write through it.
 * @module
 */
import {
  Access,
  type Call,
  copyFromUser,
  copyToUser,
  type FileOperations,
  filesOf,
  type Ioas,
  type IoctlExtension,
  type IommufdContext,
  installFile,
  OpenFile,
  PAGE_BYTES,
  U64_MAX,
} from '@iommukit/core';
import type { TestCommand } from './command.ts';

const FLAG_NEEDS_PIN = 1;
const FLAG_WRITE = 1;
const FLAG_SLOW = 4;
/** The IOVA names an area and an offset in it: what a fuzzer can guess. */
const FLAG_NTH_AREA = 1 << 16;
const MAX_BYTES = 16n * 1024n * 1024n;
const EFAULT = -14;

/** What {@link TestAccess.save} gives. */
export interface TestAccessState {
  readonly context: IommufdContext;
  /** Of the access object. */
  readonly id: number;
  readonly items: readonly Item[];
  readonly nextId: number;
}

/** A range that was pinned. */
export interface Item {
  readonly id: number;
  readonly iova: bigint;
  readonly length: bigint;
}

/** The file behind an access descriptor. */
export class TestAccess implements FileOperations {
  readonly name = 'test access';
  readonly access: Access;
  readonly #context: IommufdContext;
  #items: Item[] = [];
  #nextId = 0;

  constructor(context: IommufdContext, access: Access) {
    this.#context = context;
    this.access = access;
    access.onUnmap((iova, length) => this.#letGo(BigInt(iova), BigInt(length)));
  }

  /** A new access, attached. @throws {IommuError} ENOENT, EADDRINUSE, ENOMEM */
  static create({ context, op }: Call, ioasId: number, needsPin: boolean): TestAccess {
    const access = Access.create(context, { needsPin });
    try {
      access.attach(op, context.find(op, ioasId, 'IOAS'));
    } catch (error) {
      access.close();
      throw error;
    }
    return new TestAccess(context, access);
  }

  /** What is pinned, and the next number. */
  save(): TestAccessState {
    return {
      context: this.#context,
      id: this.access.id,
      items: this.#items,
      nextId: this.#nextId,
    };
  }

  /** Put pinned ranges back. */
  load(items: readonly Item[], nextId: number): void {
    this.#items = [...items];
    this.#nextId = nextId;
  }

  /** Remember a pinned range; returns its number. */
  add(iova: bigint, length: bigint): number {
    const id = this.#nextId++;
    this.#items.push({ id, iova, length });
    return id;
  }

  /** Unpin one range; false when there is no such number. */
  remove(id: number): boolean {
    const item = this.#items.find((known) => known.id === id);
    if (!item) return false;
    this.#items = this.#items.filter((known) => known !== item);
    this.access.unpinPages(item.iova, item.length);
    return true;
  }

  release(): void {
    this.#letGo(0n, 1n << 64n);
    this.access.close();
    this.#context.file.put();
  }

  #letGo(iova: bigint, length: bigint): void {
    for (const item of this.#items) {
      const apart = iova >= item.iova + item.length || iova + length <= item.iova;
      if (!apart) this.remove(item.id);
    }
  }
}

const accessOf = (command: TestCommand): TestAccess => {
  const operations = filesOf(command.process).get(command.id)?.operations;
  if (operations instanceof TestAccess) return operations;
  throw command.refuse('EBADFD', 'access-fd', 'no descriptor of a test access', command.id);
};

/** CREATE_ACCESS. */
export const createAccess = (command: TestCommand): void => {
  const { call } = command;
  const flags = command.u32(20);
  if (flags & ~FLAG_NEEDS_PIN) {
    throw command.refuse('EOPNOTSUPP', 'access-flags', 'unknown access flags', flags);
  }
  const fd = installAccess(call, command.id, (flags & FLAG_NEEDS_PIN) !== 0);
  command.set(16, fd);
  call.undo = () => {
    filesOf(command.process).close(fd);
  };
};

const installAccess = (call: Call, ioasId: number, needsPin: boolean): number => {
  call.checkAllocation('an access');
  const file = TestAccess.create(call, ioasId, needsPin);
  call.context.file.retain();
  try {
    return installFile(call.process, call.op, () => new OpenFile(file));
  } catch (error) {
    file.release();
    throw error;
  }
};

/** ACCESS_REPLACE_IOAS. */
export const accessReplaceIoas = (command: TestCommand): void => {
  const { call } = command;
  const { access } = accessOf(command);
  // The number is one of the access's context, whichever context the command is given to.
  access.replace(call.op, access.context.find(call.op, command.u32(16), 'IOAS'));
};

/** ACCESS_PAGES: pin a range and compare it with user memory. */
export const accessPages = (command: TestCommand): void => {
  const { call } = command;
  const flags = command.u32(16);
  const length = command.u64(32);
  if (length > MAX_BYTES) throw tooLong(command, length);
  if (flags & ~(FLAG_WRITE | FLAG_NTH_AREA)) {
    throw command.refuse('EOPNOTSUPP', 'access-flags', 'unknown access flags', flags);
  }
  const file = accessOf(command);
  if (!file.access.needsPin) {
    throw command.refuse('EOPNOTSUPP', 'access-no-pin', 'this access does not pin', command.id);
  }
  const iova = iovaOf(file.access, flags, command.u64(24));
  const write = (flags & FLAG_WRITE) !== 0;
  call.checkAllocation('a pinned range');
  call.checkAllocation('the list of pages');
  const frames = file.access.pinPages(call.op, iova, length, write);
  try {
    comparePages(command, command.u64(40), iova, frames);
  } catch (error) {
    file.access.unpinPages(iova, length);
    throw error;
  }
  const id = file.add(iova, length);
  command.set(20, id);
  call.undo = () => {
    file.remove(id);
  };
};

/** The IOVA of a command: as it stands, or by area. */
const iovaOf = ({ ioas }: Access, flags: number, field: bigint): bigint => {
  if ((flags & FLAG_NTH_AREA) === 0) return field;
  return ioas ? iovaInNthArea(ioas, field) : 0n;
};

/**
 * The IOVA for (low half) the number of an area and (high half) the offset in it; 0 when there is no
 * such area.
 */
const iovaInNthArea = (ioas: Ioas, field: bigint): bigint => {
  let left = Number(field & 0xffff_ffffn);
  let iova = 0n;
  ioas.forEachArea(0n, U64_MAX, (start) => {
    if (left === 0) iova = (start + (field >> 32n)) & U64_MAX;
    return left-- > 0;
  });
  return iova;
};

/**
 * IOAS_COPY with the test kernel's flag: the source names an area and an offset in it. The flag goes
 * away even when there is no such IOAS, and the call goes on with the IOVA as it stands.
 * @linux drivers/iommu/iommufd/selftest.c iommufd_test_syz_conv_iova_id
 */
export const prepareCopy: NonNullable<IoctlExtension['prepareCopy']> = ({ context }, command) => {
  if ((command.flags & FLAG_NTH_AREA) === 0) return;
  command.flags &= ~FLAG_NTH_AREA;
  const source = context.objects.get(command.srcIoasId);
  if (source?.kind !== 'IOAS') return;
  const ioas = context.find('IOMMU_IOAS_COPY', command.srcIoasId, 'IOAS');
  command.srcIova = iovaInNthArea(ioas, BigInt(command.srcIova));
};

const comparePages = (
  command: TestCommand,
  pointer: bigint,
  iova: bigint,
  frames: readonly number[],
): void => {
  if (pointer === 0n) return;
  const first = pointer - (iova % BigInt(PAGE_BYTES));
  frames.forEach((frame, index) => {
    const mine = command.process.frameAt(first + BigInt(index * PAGE_BYTES));
    if (mine === EFAULT) throw command.refuse('EFAULT', 'user-memory', 'nothing is mapped there');
    if (mine !== frame) throw command.refuse('EBADE', 'access-pages', 'another page is pinned');
  });
};

/** DESTROY_ACCESS_PAGES. */
export const destroyAccessPages = (command: TestCommand): void => {
  const id = command.u32(16);
  if (accessOf(command).remove(id)) return;
  throw command.refuse('ENOENT', 'access-pages-id', 'nothing is pinned under this number', id);
};

/** ACCESS_RW. */
export const accessReadWrite = (command: TestCommand): void => {
  const { call, process } = command;
  const flags = command.u32(40);
  const length = command.u64(24);
  const pointer = command.u64(32);
  if (length > MAX_BYTES) throw tooLong(command, length);
  if (flags & ~(FLAG_WRITE | FLAG_SLOW | FLAG_NTH_AREA)) {
    throw command.refuse('EOPNOTSUPP', 'access-flags', 'unknown access flags', flags);
  }
  const { access } = accessOf(command);
  const write = (flags & FLAG_WRITE) !== 0;
  call.checkAllocation('a buffer');
  const data = new Uint8Array(Number(length));
  const fault = () => command.refuse('EFAULT', 'user-memory', 'the buffer cannot be accessed');
  if (write && !copyFromUser(process, pointer, 0, data)) throw fault();
  const iova = iovaOf(access, flags, command.u64(16));
  access.rw(call.op, process, iova, data, { write, slow: (flags & FLAG_SLOW) !== 0 });
  if (!write && !copyToUser(process, pointer, 0, data)) throw fault();
};

const tooLong = (command: TestCommand, length: bigint) =>
  command.refuse('ENOMEM', 'access-length', `at most ${MAX_BYTES} bytes`, length);
