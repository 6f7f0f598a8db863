/**
 * Page requests of one device on their way to a fault queue: collected into groups, routed by
 * attachment.
 *
 * @linux drivers/iommu/io-pgfault.c iommu_report_device_fault, find_fault_handler
 * @module
 */
import type { PageFault } from '../driver/faults.ts';
import { failsAllocation } from '../memory/index.ts';
import type { IommufdDevice } from './device.ts';
import { type AttachHandle, RID_PASID } from './group.ts';

/** Groups that may wait for their last request; a device cannot have more (9-bit index). */
const MAX_PARTIAL_GROUPS = 512;
/** Requests kept of one group whose last one has not come. */
const MAX_GROUP_FAULTS = 4096;

/** Collects and routes the page requests of one bound device. */
export class FaultRouter {
  readonly #device: IommufdDevice;
  /** Requests of groups whose last one has not come, by PASID and group. */
  readonly #partial = new Map<string, PageFault[]>();
  #users = 0;

  constructor(device: IommufdDevice) {
    this.#device = device;
    device.context.machine.setPageFaultHandler(device.device, (fault) => this.#take(fault));
  }

  /**
   * Start taking page requests, for one more HWPT with a fault queue.
   *
   * @throws {IommuError} ENODEV when the device or its unit cannot
   */
  enable(refuseNoPri: () => Error): void {
    const { unit, device } = this.#device;
    if (this.#users === 0) {
      if (!unit.pri) throw refuseNoPri();
      unit.pri.enable(device);
    }
    this.#users++;
  }

  /** One HWPT with a fault queue less. */
  disable(): void {
    if (--this.#users === 0) {
      this.#partial.clear();
      this.#device.unit.pri?.disable(this.#device.device);
    }
  }

  /** The device was reset: what is missing of its groups never comes. */
  forget(): void {
    this.#partial.clear();
  }

  /** The device is unbound. */
  close(): void {
    this.#device.context.machine.setPageFaultHandler(this.#device.device, undefined);
  }

  /** Users, and groups whose last request is missing; for a snapshot. */
  save(): { readonly users: number; readonly partial: readonly (readonly PageFault[])[] } {
    return { users: this.#users, partial: [...this.#partial.values()] };
  }

  /** Put a state back; page requests are on already. */
  load(users: number, partial: readonly (readonly PageFault[])[]): void {
    this.#users = users;
    for (const faults of partial) {
      const [first] = faults;
      if (first) this.#partial.set(`${first.pasid}:${first.grpid}`, [...faults]);
    }
  }

  /** @returns false when nobody takes it, and the driver answers INVALID */
  #take(fault: PageFault): boolean {
    if (this.#users === 0) return false;
    const key = `${fault.pasid}:${fault.grpid}`;
    if (!fault.last) return this.#keep(key, fault);
    const faults = [...(this.#partial.get(key) ?? []), fault];
    this.#partial.delete(key);
    if (this.#fails('a group of page requests')) return false;
    const handle = this.#handleFor(fault.pasid);
    const queue = handle?.hwpt.fault;
    if (!handle || !queue) return false;
    queue.deliver({
      device: this.#device,
      pasid: fault.pasid,
      grpid: fault.grpid,
      faults,
      handle,
    });
    return true;
  }

  #keep(key: string, fault: PageFault): boolean {
    const faults = this.#partial.get(key) ?? [];
    if (faults.length === MAX_GROUP_FAULTS) return false;
    if (faults.length === 0 && this.#partial.size === MAX_PARTIAL_GROUPS) return false;
    if (this.#fails('a page request')) return false;
    faults.push(fault);
    this.#partial.set(key, faults);
    return true;
  }

  #fails(site: string): boolean {
    return failsAllocation(this.#device.context.machine.memory, site);
  }

  /** A PASID without attachment of its own belongs to a nested domain that owns the PASID table. */
  #handleFor(pasid: number): AttachHandle | undefined {
    const { attachments } = this.#device.group;
    const rid = attachments.get(RID_PASID)?.handle;
    if (pasid < 0) return rid;
    const own = attachments.get(pasid)?.handle;
    if (own) return own;
    const domain = rid?.hwpt.domain;
    return domain?.kind === 'nested' && domain.ownsPasidTable ? rid : undefined;
  }
}
