/**
 * `ioctl` on an iommufd with bytes in a process's memory: Linux's size rules, then the same
 * functions as typed calls.
 *
 * @linux drivers/iommu/iommufd/main.c iommufd_fops_ioctl
 * @module
 */
import { hex } from '@iommukit/bits';
import { type IommuError, isIommuError } from '../errors.ts';
import type { Process } from '../memory/index.ts';
import type { SnapshotExtension } from '../snapshot/extension.ts';
import { decodeStruct, encodeStruct } from '../uapi/codec.ts';
import type { StructSpec } from '../uapi/struct-table.ts';
import { IOMMU_STRUCTS, type IommuCommand, type IommuCommandName } from '../uapi/structs.ts';
import { copyFromUser, copyStructFromUser, copyToUser } from '../uapi/user-access.ts';
import { Call } from './call.ts';
import type { IommufdContext } from './context.ts';
import { HANDLERS, type Handler } from './handlers.ts';
import { vfioIoctl } from './vfio-compat.ts';

const FIRST_NUMBER = 0x80;
const EFAULT = -14;

/** An ioctl that is no public one, for a test driver for instance. */
export interface IoctlExtension {
  /** `'IOMMU_TEST_CMD'`. */
  readonly name: string;
  readonly spec: StructSpec;
  /**
   * Serves the call; the struct's bytes are read and written in place. They belong to the call:
   * the next one finds its own struct there.
   */
  serve(call: Call, bytes: Uint8Array): void;
  /**
   * Sees every `IOMMU_IOAS_COPY` before its flags are checked; may change the command, which goes
   * back to the caller as it stands then. How a test driver gives flags of its own a meaning.
   */
  prepareCopy?(call: Call, command: IommuCommand<'IOMMU_IOAS_COPY'>): void;
  /** Carries the files and objects that it makes through a snapshot. */
  readonly snapshot?: SnapshotExtension;
}

/** Room for one struct, with a view that is made once: a view per call costs more than a copy. */
class StructBuffer {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Bytes the caller's struct has. */
  userSize = 0;

  constructor(sizeBytes: number) {
    this.bytes = new Uint8Array(sizeBytes);
    this.view = new DataView(this.bytes.buffer);
  }
}

/** One ioctl of the table. */
abstract class Entry {
  readonly name: string;
  readonly spec: StructSpec;
  /** Kept between calls; a call made while another one is served gets its own. */
  #spare: StructBuffer | undefined;

  constructor(name: string, spec: StructSpec) {
    this.name = name;
    this.spec = spec;
  }

  /** A buffer of the struct's size, with old bytes in it. */
  take(): StructBuffer {
    const buffer = this.#spare ?? new StructBuffer(this.spec.size);
    this.#spare = undefined;
    return buffer;
  }

  /** Done with a buffer. */
  give(buffer: StructBuffer): void {
    this.#spare = buffer;
  }

  abstract serve(call: Call, buffer: StructBuffer): void;
}

class PublicEntry extends Entry {
  readonly #handler: Handler<unknown>;

  constructor(name: IommuCommandName) {
    super(name, IOMMU_STRUCTS[name]);
    this.#handler = HANDLERS[name] as Handler<unknown>;
  }

  serve(call: Call, { bytes, view }: StructBuffer): void {
    const command = decodeStruct(this.spec, bytes, view);
    try {
      this.#handler(call, command);
    } finally {
      encodeStruct(this.spec, command, bytes, view);
    }
  }
}

class ExtensionEntry extends Entry {
  readonly #extension: IoctlExtension;

  constructor(extension: IoctlExtension) {
    super(extension.name, extension.spec);
    this.#extension = extension;
  }

  serve(call: Call, { bytes }: StructBuffer): void {
    this.#extension.serve(call, bytes);
  }
}

/** The ioctls of one context by number (low byte), as Linux's table with its holes. */
export class IoctlTable {
  readonly #entries = new Map<number, Entry>();
  #end = FIRST_NUMBER;

  constructor(extensions: readonly IoctlExtension[]) {
    for (const name of Object.keys(IOMMU_STRUCTS))
      this.#add(new PublicEntry(name as IommuCommandName));
    for (const extension of extensions) this.#add(new ExtensionEntry(extension));
  }

  /** Whether a number falls into the table, holes included. */
  covers(number: number): boolean {
    return number >= FIRST_NUMBER && number < this.#end;
  }

  /** The entry with exactly this request code. */
  find(request: number): Entry | undefined {
    const entry = this.#entries.get(request & 0xff);
    return entry?.spec.ioctl === request ? entry : undefined;
  }

  #add(entry: Entry): void {
    const number = entry.spec.ioctl & 0xff;
    this.#entries.set(number, entry);
    this.#end = Math.max(this.#end, number + 1);
  }
}

/** Result of a raw call, with the refusal behind a negative one. */
export interface RawResult {
  /** 0 or more, or a negative errno. */
  readonly result: number;
  readonly refusal?: IommuError;
}

/** Serve one raw ioctl. */
export const rawIoctl = (
  context: IommufdContext,
  table: IoctlTable,
  process: Process,
  request: number,
  argument: number | bigint,
): RawResult => {
  if (!table.covers(request & 0xff)) return vfioIoctl(context, process, request, argument);
  const entry = table.find(request);
  const call = new Call(context, process, entry?.name ?? `ioctl ${hex(request)}`);
  if (!entry) return refused(refuseUnknown(call, request, argument));
  const buffer = entry.take();
  try {
    const refusal = fetchStruct(call, entry.spec, argument, buffer);
    return refusal ? refused(refusal) : serve(call, entry, buffer, argument);
  } finally {
    entry.give(buffer);
  }
};

/** The size comes first, even for a number that nobody serves. */
const refuseUnknown = (call: Call, request: number, argument: number | bigint): IommuError =>
  copyFromUser(call.process, argument, 0, new Uint8Array(4))
    ? unknownRequest(call, request)
    : cannotAccess(call, argument);

/** Copy the caller's struct in; the refusal if that cannot be. */
const fetchStruct = (
  call: Call,
  spec: StructSpec,
  argument: number | bigint,
  buffer: StructBuffer,
): IommuError | undefined => {
  const { bytes, view } = buffer;
  // Most callers know exactly this struct: one copy then brings the size and what it covers.
  if (copyFromUser(call.process, argument, 0, bytes) && view.getUint32(0, true) === spec.size) {
    buffer.userSize = spec.size;
    return undefined;
  }
  return fetchOtherSize(call, spec, argument, buffer);
};

/** Size first, then as much as it says. */
const fetchOtherSize = (
  call: Call,
  spec: StructSpec,
  argument: number | bigint,
  buffer: StructBuffer,
): IommuError | undefined => {
  const { process } = call;
  const sizeBytes = new Uint8Array(4);
  if (!copyFromUser(process, argument, 0, sizeBytes)) return cannotAccess(call, argument);
  const userSize = new DataView(sizeBytes.buffer).getUint32(0, true);
  if (userSize < spec.min) return tooShort(call, userSize, spec);
  const copied = copyStructFromUser(process, argument, 0, userSize, spec.size);
  if (copied === EFAULT) return cannotAccess(call, argument);
  if (typeof copied === 'number') return tooLong(call, userSize, spec);
  buffer.bytes.set(copied);
  buffer.userSize = userSize;
  return undefined;
};

const refused = (refusal: IommuError): RawResult => ({ result: -refusal.errno, refusal });

const cannotAccess = (call: Call, argument: number | bigint): IommuError =>
  call.refuse('EFAULT', 'user-memory', `the struct at ${hex(argument)} cannot be accessed`, {
    value: argument,
    accepted: 'the address of readable and writable memory',
  });

const unknownRequest = (call: Call, request: number): IommuError =>
  call.refuse('ENOTTY', 'request-code', `no ioctl has the request code ${hex(request)}`, {
    value: request,
    accepted: '0x3b80 to 0x3b95, without size and direction bits',
  });

const tooShort = (call: Call, size: number, { min, size: full }: StructSpec): IommuError =>
  call.refuse('EINVAL', 'struct-size', `size ${size} ends before the last mandatory field`, {
    value: size,
    accepted: min === full ? String(full) : `${min} to ${full}`,
  });

const tooLong = (call: Call, size: number, { size: full }: StructSpec): IommuError =>
  call.refuse('E2BIG', 'struct-tail', `bytes behind the first ${full} are not zero`, {
    value: size,
    accepted: `size ${full}, or zeros behind the known fields`,
  });

const serve = (
  call: Call,
  entry: Entry,
  buffer: StructBuffer,
  argument: number | bigint,
): RawResult => {
  const { bytes, userSize } = buffer;
  let refusal: IommuError | undefined;
  try {
    entry.serve(call, buffer);
  } catch (error) {
    if (!isIommuError(error)) throw error;
    refusal = error;
  }
  if (!refusal || call.answersOnError) {
    const answer = bytes.subarray(call.answersFrom, userSize);
    if (call.answers && !copyToUser(call.process, argument, call.answersFrom, answer)) {
      if (!refusal) call.undo?.();
      return refused(cannotAccess(call, argument));
    }
  }
  return refusal ? refused(refusal) : { result: 0 };
};
