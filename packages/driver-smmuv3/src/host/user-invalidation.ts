/**
 * `IOMMU_HWPT_INVALIDATE` with commands of a guest's command queue.
 *
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3-iommufd.c (arm_vsmmu_cache_invalidate)
 */
import { hex } from '@iommukit/bits';
import { refuse, type UserArray } from '@iommukit/core';
import { COMMAND_BYTES } from '../spec/commands.ts';
import type { GuestFeatures } from './guest-features.ts';
import type { Invalidate } from './invalidate.ts';
import { checkCommand, withVmid } from './user-commands.ts';

/** `IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3`. */
const INVALIDATE_DATA_ARM_SMMUV3 = 1;

const OP = 'IOMMU_HWPT_INVALIDATE';
const WORDS = COMMAND_BYTES / 4;
/** Commands handed over with one SYNC. */
const BATCH = 63;
/** KMALLOC_MAX_SIZE: Linux copies the whole array in first. */
const MAX_ALLOCATION_BYTES = 2 ** 22;

/** Whose commands they are. */
export interface CommandOwner {
  readonly features: GuestFeatures;
  readonly invalidate: Invalidate;
  /** The tag of all translations of the guest on this unit. */
  readonly vmid: number;
  /** The streams a guest's StreamID stands for; empty = none. */
  streamsOf(vsid: number): readonly number[];
}

/**
 * Execute a guest's commands up to the first bad one; those before it are done and counted.
 *
 * @param array `done` becomes the index of the first command that is not done
 * @param likeLinux73 as Linux 7.3 counts: commands before a bad one in its block of 63 are counted
 *   and not executed, and when hardware refuses a block all of it but one counts as done
 * @throws {IommuError} EINVAL for another type or no entries; ENOMEM beyond 4 MiB; EIO for a command
 *   that is not the guest's, or an unknown StreamID
 */
export const invalidateForGuest = (
  owner: CommandOwner,
  array: UserArray,
  likeLinux73: boolean,
): void => {
  checkSize(array);
  const bytes = array.copyAll(INVALIDATE_DATA_ARM_SMMUV3, COMMAND_BYTES);
  const words = wordsOf(bytes);
  const batch = new Batch(owner, array, likeLinux73);
  try {
    for (; array.done < array.entryCount; array.done++) {
      if (batch.size === BATCH) batch.submit();
      take(owner, words, array.done * WORDS);
      batch.size++;
    }
  } catch (error) {
    if (likeLinux73) owner.invalidate.discard();
    else if (batch.size > 0) batch.submit();
    throw error;
  }
  batch.submit();
};

const checkSize = (array: UserArray): void => {
  const most = MAX_ALLOCATION_BYTES / COMMAND_BYTES;
  if (array.entryCount <= most) return;
  // As in Linux, the count is left as it is then.
  array.done = array.entryCount;
  throw refuse('ENOMEM', OP, 'array-size', 'no memory for the array', {
    value: array.entryCount,
    accepted: `at most ${most} commands`,
  });
};

const wordsOf = (bytes: Uint8Array): Uint32Array => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Uint32Array.from({ length: bytes.length / 4 }, (_, at) => view.getUint32(at * 4, true));
};

/** Check one command and add it, with the host's VMID or StreamIDs, to the batch. */
const take = (owner: CommandOwner, words: Uint32Array, at: number): void => {
  const { invalidate, features } = owner;
  if (checkCommand(words, at, features) === 'translations') {
    withVmid(words, at, owner.vmid);
    invalidate.raw(words, at);
    return;
  }
  const vsid = words[at + 1] as number;
  const streams = owner.streamsOf(vsid);
  if (streams.length === 0) {
    throw refuse('EIO', OP, 'guest-stream', `no device has the StreamID ${hex(vsid)} here`, {
      value: vsid,
      accepted: 'the virtual id of a vDEVICE of this vIOMMU',
    });
  }
  for (const sid of streams) {
    words[at + 1] = sid;
    invalidate.raw(words, at);
  }
};

/** Commands taken and not yet handed over. */
class Batch {
  size = 0;
  readonly #owner: CommandOwner;
  readonly #array: UserArray;
  readonly #likeLinux73: boolean;

  constructor(owner: CommandOwner, array: UserArray, likeLinux73: boolean) {
    this.#owner = owner;
    this.#array = array;
    this.#likeLinux73 = likeLinux73;
  }

  /** Hand over. When hardware refuses, what earlier batches held is all that is certainly done. */
  submit(): void {
    const { size } = this;
    this.size = 0;
    try {
      this.#owner.invalidate.submit();
    } catch (error) {
      this.#array.done -= this.#likeLinux73 ? 1 : size;
      throw error;
    }
  }
}
