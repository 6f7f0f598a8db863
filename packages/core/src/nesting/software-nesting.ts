/**
 * Software nesting: a child I/O page table over a parent IOAS, for any driver. Devices attach to the
 * shadow, an ordinary IOAS that holds the composition of both, so the driver sees a paging domain
 * and the guest sees its own table. Linux has no counterpart.
 * @module
 */
import { refuse } from '../errors.ts';
import { changePageTable, detachDevice } from '../iommufd/attach.ts';
import type { IommufdContext } from '../iommufd/context.ts';
import type { IommufdDevice } from '../iommufd/device.ts';
import { RID_PASID } from '../iommufd/group.ts';
import { pagingOf } from '../iommufd/hwpt.ts';
import { Ioas } from '../iommufd/ioas.ts';
import { IOPT_PROT } from '../iopt/index.ts';
import { U64_MAX } from '../uapi/constants.ts';
import type { ChildRange } from './child-ranges.ts';
import { ShadowComposer } from './composer.ts';
import { ShadowPagetable } from './shadow-pagetable.ts';

const PAGE_BYTES = 4096n;
const OP_MAP = 'SoftwareNesting.map';
const OP_UNMAP = 'SoftwareNesting.unmap';

/** One mapping of the child. Bytes, 64 bits, multiples of 4096. */
export interface ChildMapping {
  readonly iova: number | bigint;
  /** Address in the parent IOAS; need not be mapped there yet. */
  readonly parentIova: number | bigint;
  readonly length: number | bigint;
  /** Default true; a right that the parent's mapping lacks is not given. */
  readonly readable?: boolean;
  readonly writeable?: boolean;
}

/** The shadow as an object: IOMMU_DESTROY ends the nesting, EBUSY while a HWPT is over it. */
export class ShadowIoas extends Ioas {
  readonly composer: ShadowComposer;
  readonly parent: Ioas;

  constructor(parent: Ioas, id: number = parent.context.objects.reserve('SoftwareNesting')) {
    const { context } = parent;
    const shadow = new ShadowPagetable(context.pins);
    super(context, id, shadow);
    this.parent = parent;
    this.composer = new ShadowComposer(parent.iopt, shadow);
    parent.users++;
  }

  /** What the child maps, ascending, for a snapshot. */
  get children(): readonly ChildRange[] {
    return this.composer.shadow.children.all;
  }

  /** Put the child's mappings back; the areas they fill are there already. */
  load(children: readonly ChildRange[]): void {
    for (const child of children) this.composer.shadow.children.add(child);
  }

  override destroy(): void {
    this.composer.close('IOMMU_DESTROY');
    this.parent.users--;
  }
}

/** A child table over a parent IOAS. A nesting over the shadow of another one works as well. */
export class SoftwareNesting {
  readonly parent: Ioas;
  /** What devices attach to; its object id is `shadow.id`. */
  readonly shadow: Ioas;
  readonly #composer: ShadowComposer;

  /**
   * @param parentIoasId object id of an IOAS; stays in use until the nesting is closed
   * @param existing the shadow that is there already, see {@link SoftwareNesting.of}
   * @throws {IommuError} ENOENT, ENOMEM
   */
  constructor(context: IommufdContext, parentIoasId: number, existing?: ShadowIoas) {
    this.parent = context.find('SoftwareNesting', parentIoasId, 'IOAS');
    const shadow = existing ?? new ShadowIoas(this.parent);
    context.objects.install(shadow);
    this.shadow = shadow;
    this.#composer = shadow.composer;
  }

  /**
   * The nesting behind a shadow IOAS that a snapshot brought.
   *
   * @throws {IommuError} ENOENT, EINVAL for an IOAS that is no shadow
   */
  static of(context: IommufdContext, shadowIoasId: number): SoftwareNesting {
    const shadow = context.find('SoftwareNesting.of', shadowIoasId, 'IOAS');
    if (shadow instanceof ShadowIoas) return new SoftwareNesting(context, shadow.parent.id, shadow);
    throw refuse('EINVAL', 'SoftwareNesting.of', 'no-shadow', `IOAS ${shadowIoasId} is no shadow`, {
      value: shadowIoasId,
      accepted: 'the id of `shadow` of a SoftwareNesting',
    });
  }

  /** Child mappings, those that wait for the parent included. */
  get mappingCount(): number {
    return this.#composer.shadow.children.count;
  }

  /**
   * Map. What the parent does not map (yet) faults until it does.
   *
   * @throws {IommuError} EINVAL (no bytes or rights, not page aligned, reserved), EOVERFLOW, EEXIST,
   * or what the driver and the memory limit say. Nothing has changed then.
   */
  map(mapping: ChildMapping): void {
    const child = childRange(mapping);
    const { shadow } = this.#composer;
    const reserved = shadow.reserved.conflict(child);
    if (reserved) {
      throw refuse('EINVAL', OP_MAP, 'iova-reserved', `the IOVA is in ${reserved.label}`, {
        range: { start: reserved.start, last: reserved.last },
        owner: reserved.label,
        accepted: 'an IOVA outside reserved ranges',
      });
    }
    const [other] = shadow.children.overlapping(child.start, child.last);
    if (other) {
      throw refuse('EEXIST', OP_MAP, 'iova-mapped', 'the child maps some of this IOVA already', {
        range: { start: other.start, last: other.last },
        accepted: 'unmap it first',
      });
    }
    this.#composer.add(OP_MAP, child);
  }

  /**
   * Unmap whole child mappings inside a range.
   *
   * @returns bytes unmapped
   * @throws {IommuError} EINVAL (length 0), EOVERFLOW, ENOENT (none, or one would be cut), EBUSY
   * (locked by a hardware queue). Nothing has changed then.
   */
  unmap(iova: number | bigint, length: number | bigint): bigint {
    const { start, last } = span(OP_UNMAP, 'iova', iova, length);
    const children = this.#composer.shadow.children.overlapping(start, last);
    const cut = children.find((child) => child.start < start || child.last > last);
    if (cut || children.length === 0) {
      throw refuse(
        'ENOENT',
        OP_UNMAP,
        cut ? 'area-cut' : 'not-mapped',
        cut ? 'the range would cut a mapping; mappings go whole' : 'the child maps nothing there',
        { range: cut ?? { start, last }, accepted: 'a range that holds whole mappings' },
      );
    }
    this.#composer.remove(OP_UNMAP, children);
    return children.reduce((bytes, child) => bytes + child.last - child.start + 1n, 0n);
  }

  /**
   * Let a device that is attached to the parent go through the child.
   *
   * @param pasid absent = its requests without PASID, which leave the parent for the time
   * @returns id of the HWPT
   * @throws {IommuError} EINVAL when the device is not attached to the parent; as attach and replace
   */
  attachDevice(devId: number, pasid: number = RID_PASID): number {
    const op = 'SoftwareNesting.attachDevice';
    const device = this.#device(op, devId);
    const hwpt = device.group.hwptAt(RID_PASID);
    if (!hwpt || pagingOf(hwpt).ioas !== this.parent) {
      throw refuse('EINVAL', op, 'parent-attachment', `device ${devId} is not on the parent IOAS`, {
        value: devId,
        owner: `IOAS ${this.parent.id}`,
        accepted: 'attach the device to the parent first',
      });
    }
    const mode = pasid === RID_PASID ? 'replace' : 'attach';
    return changePageTable(op, device, pasid, this.shadow.id, mode);
  }

  /** Put a device back on the parent (a PASID: detach it). Silent when it is not on the child. */
  detachDevice(devId: number, pasid: number = RID_PASID): void {
    const op = 'SoftwareNesting.detachDevice';
    const device = this.#device(op, devId);
    const hwpt = device.group.hwptAt(pasid);
    if (!hwpt || pagingOf(hwpt).ioas !== this.shadow) return;
    if (pasid === RID_PASID) changePageTable(op, device, pasid, this.parent.id, 'replace');
    else detachDevice(device, pasid);
  }

  /** End the nesting. EBUSY while a device is attached. */
  close(): void {
    this.shadow.context.destroy({ id: this.shadow.id });
  }

  #device(op: string, devId: number): IommufdDevice {
    return this.parent.context.find(op, devId, 'DEVICE');
  }
}

/** `[address, address + length)` of whole pages that does not wrap. */
const span = (op: string, what: string, address: number | bigint, length: number | bigint) => {
  for (const value of [address, length]) {
    const fits =
      typeof value === 'number' ? Number.isSafeInteger(value) && value >= 0 : value >= 0n;
    if (fits && BigInt(value) <= U64_MAX) continue;
    throw refuse('EINVAL', op, 'u64', `${value} is no exact unsigned 64-bit integer`, {
      value,
      accepted: '0 to 2^53 - 1 as number, or 0 to 2^64 - 1 as bigint',
    });
  }
  const start = BigInt(address);
  const bytes = BigInt(length);
  if (bytes === 0n || (start | bytes) % PAGE_BYTES !== 0n) {
    throw refuse('EINVAL', op, 'page-alignment', `${what} or length is not of whole pages`, {
      value: address,
      accepted: 'multiples of 4096, length above 0',
    });
  }
  const last = start + bytes - 1n;
  if (last <= U64_MAX) return { start, last };
  throw refuse('EOVERFLOW', op, 'range-wraps', `${what} + length is above 2^64`, {
    value: address,
    accepted: 'a range that ends at 2^64 - 1 or below',
  });
};

const childRange = (mapping: ChildMapping): ChildRange => {
  const { iova, parentIova, length, readable = true, writeable = true } = mapping;
  const { start, last } = span(OP_MAP, 'iova', iova, length);
  const parent = span(OP_MAP, 'parentIova', parentIova, length);
  const prot = (readable ? IOPT_PROT.READ : 0) | (writeable ? IOPT_PROT.WRITE : 0);
  if (prot === 0) {
    throw refuse('EINVAL', OP_MAP, 'no-rights', 'a mapping needs to be readable or writeable', {
      accepted: 'readable, writeable or both',
    });
  }
  return { start, last, parentStart: parent.start, parentLast: parent.last, prot };
};
