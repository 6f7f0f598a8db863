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
import { decodeStruct, encodeStruct } from '../uapi/codec.ts';
import type { StructSpec } from '../uapi/struct-table.ts';
import { IOMMU_STRUCTS, type IommuCommandName } from '../uapi/structs.ts';
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
  /** Serves the call; the struct's bytes are read and written in place. */
  serve(call: Call, bytes: Uint8Array): void;
}

interface Entry {
  readonly name: string;
  readonly spec: StructSpec;
  serve(call: Call, bytes: Uint8Array): void;
}

const publicEntry = (name: IommuCommandName): Entry => {
  const spec: StructSpec = IOMMU_STRUCTS[name];
  const handler = HANDLERS[name] as Handler<unknown>;
  return {
    name,
    spec,
    serve: (call, bytes) => {
      const command = decodeStruct(spec, bytes);
      try {
        handler(call, command);
      } finally {
        encodeStruct(spec, command, bytes);
      }
    },
  };
};

/** The ioctls of one context by number (low byte), as Linux's table with its holes. */
export class IoctlTable {
  readonly #entries = new Map<number, Entry>();
  #end = FIRST_NUMBER;

  constructor(extensions: readonly IoctlExtension[]) {
    for (const name of Object.keys(IOMMU_STRUCTS)) this.#add(publicEntry(name as IommuCommandName));
    for (const extension of extensions) this.#add(extension);
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
  const sizeBytes = new Uint8Array(4);
  const entry = table.find(request);
  const call = new Call(context, process, entry?.name ?? `ioctl ${hex(request)}`);
  if (!copyFromUser(process, argument, 0, sizeBytes)) return refused(cannotAccess(call, argument));
  const userSize = new DataView(sizeBytes.buffer).getUint32(0, true);
  if (!entry) return refused(unknownRequest(call, request));
  const { spec } = entry;
  if (userSize < spec.min) return refused(tooShort(call, userSize, spec));
  const bytes = copyStructFromUser(process, argument, 0, userSize, spec.size);
  if (bytes === EFAULT) return refused(cannotAccess(call, argument));
  if (typeof bytes === 'number') return refused(tooLong(call, userSize, spec));
  return serve(call, entry, bytes, argument, userSize);
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
  bytes: Uint8Array,
  argument: number | bigint,
  userSize: number,
): RawResult => {
  let refusal: IommuError | undefined;
  try {
    entry.serve(call, bytes);
  } catch (error) {
    if (!isIommuError(error)) throw error;
    refusal = error;
  }
  if (!refusal || call.answersOnError) {
    const answer = bytes.subarray(0, Math.min(userSize, entry.spec.size));
    if (call.answers && !copyToUser(call.process, argument, 0, answer)) {
      if (!refusal) call.undo?.();
      return refused(cannotAccess(call, argument));
    }
  }
  return refusal ? refused(refusal) : { result: 0 };
};
