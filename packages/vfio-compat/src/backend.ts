/**
 * What a container asks of an IOMMU backend, as the kernel's `struct vfio_iommu_driver_ops`: type1
 * is one, dialects of it and other interfaces are others.
 *
 * @linux drivers/vfio/vfio.h, drivers/vfio/container.c
 * @module
 */
import type { IommufdContext, IommuGroup, UserPointer } from '@iommukit/core';
import type { VfioCall } from './call.ts';
import type { NestingCalls } from './nesting/nesting-calls.ts';
import type { Type1Info } from './type1/info.ts';
import type { DirtyPagesInput, DmaMapInput, DmaUnmapInput } from './type1/typed.ts';

/** A group in a container: its devices are bound to the container's context. */
export interface AttachedGroup {
  readonly group: IommuGroup;
  /** Object ids of its devices in the context. */
  readonly devIds: readonly number[];
}

/** Typed calls of backends that map user memory, as type1 does. */
export interface DmaCalls {
  getInfo(): Type1Info;
  mapDma(call: VfioCall, input: DmaMapInput): void;
  /** @returns bytes removed */
  unmapDma(call: VfioCall, input: DmaUnmapInput): bigint;
  dirtyPages(call: VfioCall, input: DirtyPagesInput): void;
}

/** One opened backend: what serves a container from SET_IOMMU until its last group leaves. */
export interface VfioIommu {
  /** `VFIO_CHECK_EXTENSION`: 0 = no. */
  checkExtension(extension: bigint): number;
  /**
   * Serve a call of the container.
   *
   * @throws {IommuError} ENOTTY for a number it does not know
   */
  ioctl(call: VfioCall, request: number, argument: UserPointer): number;
  /** Names of its calls by number, for refusals. */
  readonly names: Readonly<Record<number, string>>;
  /** Present when it maps user memory. */
  readonly dma?: DmaCalls;
  /** Present when a guest may own the first stage. */
  readonly nesting?: NestingCalls;
  /** @throws {IommuError} when the group cannot join; nothing has changed then */
  attachGroup(call: VfioCall, group: AttachedGroup): void;
  detachGroup(group: AttachedGroup): void;
  /** The last group has left. */
  release(): void;
}

/** A backend that a container may choose at SET_IOMMU. */
export interface VfioIommuDriver {
  readonly name: string;
  /** `VFIO_CHECK_EXTENSION` before SET_IOMMU: above 0 = SET_IOMMU may be tried with it. */
  checkExtension(extension: bigint): number;
  /**
   * Open it for SET_IOMMU.
   *
   * @throws {IommuError} EINVAL when the number is an extension but no IOMMU type
   */
  open(call: VfioCall, type: bigint, context: IommufdContext): VfioIommu;
}
