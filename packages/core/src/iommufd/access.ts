/**
 * Accesses: software that uses an IOAS as a device would (emulated devices, hardware queues).
 *
 * @linux drivers/iommu/iommufd/device.c struct iommufd_access
 * @module
 */

import type { Errno } from '../errno.ts';
import { type Refusal, refuse } from '../errors.ts';
import {
  accessRw,
  addAccess,
  type IoptAccess,
  pinAccess,
  removeAccess,
  type U64,
  unpinAccess,
} from '../iopt/index.ts';
import { FrameRuns, PAGE_BYTES, type Process } from '../memory/index.ts';
import type { IommufdContext } from './context.ts';
import type { Ioas } from './ioas.ts';
import type { IommufdObject } from './objects.ts';

/** What an access is made for. */
export interface AccessOptions {
  /** It pins pages: mappings must be page aligned then. */
  readonly needsPin: boolean;
  /** Told to unpin what it holds in `[iova, iova + length)` because the mapping goes away. */
  unmap?(iova: U64, length: U64): void;
}

/** An access object. Whoever made it holds it: IOMMU_DESTROY answers EBUSY. */
export class Access implements IommufdObject {
  readonly kind = 'ACCESS';
  readonly id: number;
  users = 1;
  readonly context: IommufdContext;
  readonly needsPin: boolean;
  readonly #handle: IoptAccess;
  #unmap: AccessOptions['unmap'];
  #ioas: Ioas | undefined;
  /** Where pins are given back; lags behind `#ioas` while it is replaced. */
  #unpinFrom: Ioas | undefined;

  constructor(context: IommufdContext, id: number, options: AccessOptions, internal = false) {
    this.context = context;
    this.id = id;
    this.needsPin = options.needsPin;
    this.#unmap = options.unmap?.bind(options);
    this.#handle = {
      iovaAlignment: options.needsPin ? PAGE_BYTES : 1,
      internal,
      unmap: (iova, length) => this.#unmap?.(iova, length),
    };
  }

  /**
   * Make an access of a driver or emulated device.
   *
   * @throws {IommuError} ENOMEM
   */
  static create(context: IommufdContext, options: AccessOptions): Access {
    const id = context.objects.reserve('iommufd_access_create');
    const access = new Access(context, id, options);
    context.objects.install(access);
    return access;
  }

  /**
   * Make one whose pins lock mappings instead of giving way.
   *
   * @throws {IommuError} ENOMEM
   */
  static createInternal(context: IommufdContext, op: string): Access {
    const access = new Access(context, context.objects.reserve(op), { needsPin: true }, true);
    context.objects.install(access);
    return access;
  }

  /** The IOAS it uses. */
  get ioas(): Ioas | undefined {
    return this.#ioas;
  }

  /** What the I/O page table knows it by. */
  get handle(): IoptAccess {
    return this.#handle;
  }

  /** The IOAS in which its pins are; for a snapshot. */
  get unpinFrom(): Ioas | undefined {
    return this.#unpinFrom;
  }

  /** Put an attachment of a snapshot back; the IOAS lists the access already. */
  load(ioas: Ioas | undefined, unpinFrom: Ioas | undefined): void {
    this.#ioas = ioas;
    this.#unpinFrom = unpinFrom;
  }

  /** Name who unpins from now on: after a snapshot was restored, its owner does this. */
  onUnmap(unmap: AccessOptions['unmap']): void {
    this.#unmap = unmap;
  }

  destroy(): void {
    this.#changeIoas('destroy access', undefined);
  }

  /** Detach and destroy. */
  close(): void {
    this.users--;
    this.context.destroyObject(this);
  }

  /** Use an IOAS. EINVAL when it uses one already, EADDRINUSE when mappings are not aligned. */
  attach(op: string, ioas: Ioas): void {
    if (this.#ioas) {
      throw this.#no(op, 'EINVAL', 'attached', 'the access uses an IOAS already', {
        owner: `IOAS ${this.#ioas.id}`,
        accepted: 'replace',
      });
    }
    this.#changeIoas(op, ioas);
  }

  /** Use another IOAS; everything pinned must be let go first. ENOENT when it uses none. */
  replace(op: string, ioas: Ioas): void {
    if (!this.#ioas) throw this.#detached(op);
    this.#changeIoas(op, ioas);
  }

  /** Use none. */
  detach(op: string): void {
    this.#changeIoas(op, undefined);
  }

  /**
   * Pin pages.
   *
   * @returns their frames, in IOVA order
   * @throws {IommuError} EINVAL, EOVERFLOW, ENOENT, EPERM, EFAULT, ENOMEM
   */
  pinPages(op: string, iova: U64, length: U64, write: boolean): readonly number[] {
    const frames = new FrameRuns();
    const { iopt } = this.#attachedIoas(op);
    pinAccess(iopt, this.#handle, iova, length, write, frames, op);
    return listFrames(frames);
  }

  /** Undo one `pinPages` of exactly this range. */
  unpinPages(iova: U64, length: U64): void {
    if (this.#unpinFrom) unpinAccess(this.#unpinFrom.iopt, this.#handle, iova, length);
  }

  /**
   * Read into `data`, or write it.
   *
   * @throws {IommuError} EINVAL, EOVERFLOW, ENOENT, EPERM, EFAULT
   */
  rw(
    op: string,
    process: Process,
    iova: U64,
    data: Uint8Array,
    options: { readonly write: boolean; readonly slow?: boolean },
  ): void {
    accessRw(this.#attachedIoas(op).iopt, { iova, data, process, ...options }, op);
  }

  #attachedIoas(op: string): Ioas {
    if (this.#ioas) return this.#ioas;
    throw this.#detached(op);
  }

  #changeIoas(op: string, ioas: Ioas | undefined): void {
    const old = this.#ioas;
    if (old !== this.#unpinFrom) {
      throw this.#no(op, 'EBUSY', 'access-changing', 'the access is being moved already');
    }
    if (old === ioas) return;
    if (ioas && ioas.context !== this.context) {
      throw this.#no(op, 'EINVAL', 'access-context', 'the IOAS belongs to another context', {
        value: ioas.id,
        accepted: 'an IOAS of the context that the access was made in',
      });
    }
    this.#ioas = undefined;
    if (ioas) {
      try {
        addAccess(ioas.iopt, this.#handle, op);
      } catch (error) {
        this.#ioas = old;
        throw error;
      }
      ioas.users++;
    }
    if (old) {
      if (!this.#handle.internal) this.#unmap?.(0, ALL_IOVAS);
      removeAccess(old.iopt, this.#handle);
      old.users--;
    }
    this.#ioas = ioas;
    this.#unpinFrom = ioas;
  }

  #detached(op: string) {
    return this.#no(op, 'ENOENT', 'detached', 'the access uses no IOAS', { accepted: 'attach' });
  }

  #no(
    op: string,
    code: Errno,
    rule: string,
    message: string,
    details?: Omit<Refusal, 'rule' | 'message'>,
  ) {
    return refuse(code, op, rule, message, details);
  }
}

/** Length that means every IOVA in an unmap notice. */
const ALL_IOVAS = (1n << 64n) - 1n;

const listFrames = (runs: FrameRuns): number[] => {
  const frames: number[] = [];
  for (let i = 0; i < runs.count; i++) {
    const first = runs.pairs[2 * i] as number;
    const count = runs.pairs[2 * i + 1] as number;
    for (let n = 0; n < count; n++) frames.push(first + n);
  }
  return frames;
};
