/**
 * I/O address spaces.
 *
 * @linux drivers/iommu/iommufd/ioas.c
 * @module
 */
import {
  AllowedListBuilder,
  addDomain,
  IoPagetable,
  type IovaRange,
  removeDomain,
  reserveDeviceRegions,
  setLargePages,
} from '../iopt/index.ts';
import type { IommuCommand } from '../uapi/structs.ts';
import { copyFromUser, copyToUser } from '../uapi/user-access.ts';
import type { Call } from './call.ts';
import type { CoherencyPolicy } from './coherency.ts';
import type { IommufdContext } from './context.ts';
import type { IommufdDevice } from './device.ts';
import type { HwptPaging } from './hwpt.ts';
import type { IommufdObject } from './objects.ts';

const RANGE_BYTES = 16;

/** An IOAS object: an I/O page table and the HWPTs that hold its mappings. */
export class Ioas implements IommufdObject {
  readonly kind = 'IOAS';
  readonly id: number;
  users = 0;
  readonly context: IommufdContext;
  readonly iopt: IoPagetable;
  /** HWPTs over this IOAS in the order they were made. */
  readonly hwpts: HwptPaging[] = [];
  /** Whether DMA through its HWPTs is forced to snoop; Linux 7.3 knows `auto` alone. */
  coherency: CoherencyPolicy = 'auto';

  constructor(context: IommufdContext, id: number, iopt = new IoPagetable(context.pins)) {
    this.context = context;
    this.id = id;
    this.iopt = iopt;
  }

  destroy(): void {
    this.iopt.unmapAll();
  }

  /** Fill a HWPT's domain with every mapping, now and from now on. */
  addHwpt(op: string, hwpt: HwptPaging): void {
    addDomain(this.iopt, hwpt.domain, `HWPT ${hwpt.id}`, op);
    this.hwpts.push(hwpt);
  }

  /** Take a HWPT's mappings out. */
  removeHwpt(hwpt: HwptPaging): void {
    const at = this.hwpts.indexOf(hwpt);
    if (at < 0) return;
    this.hwpts.splice(at, 1);
    removeDomain(this.iopt, hwpt.domain);
  }

  /** Keep the regions free that a device needs for itself. */
  reserveFor(op: string, device: IommufdDevice): void {
    const regions = device.unit.reservedRegions(device.device);
    reserveDeviceRegions(this.iopt, device, device.device.name, regions, op);
  }

  /** A device no longer needs its regions. */
  unreserveFor(device: IommufdDevice): void {
    this.iopt.reserved.removeOwner(device);
  }

  /** Reserve a range for good. */
  reserve(op: string, start: bigint, last: bigint, label: string): void {
    this.iopt.reserve({ start, last, owner: undefined, label }, op);
  }

  /** What may be mapped at all, ascending. */
  iovaRanges(): readonly IovaRange[] {
    return this.iopt.iovaRanges();
  }

  /** Bytes; IOVAs, lengths and page offsets must be multiples. */
  get iovaAlignment(): number {
    return this.iopt.iovaAlignment;
  }

  /** `IOMMU_OPTION_HUGE_PAGES` 0. */
  get largePagesDisabled(): boolean {
    return !this.iopt.largePages;
  }

  /** Use the smallest pages only. EINVAL, EADDRINUSE. */
  disableLargePages(op: string): void {
    setLargePages(this.iopt, false, op);
  }

  /** Use large pages again, for mappings from now on. */
  enableLargePages(): void {
    setLargePages(this.iopt, true);
  }

  /**
   * Call `visit` with every mapping that touches `[start, last]`, ascending, until it answers false.
   */
  forEachArea(
    start: bigint,
    last: bigint,
    visit: (areaStart: bigint, areaLast: bigint) => boolean,
  ): void {
    const { areas } = this.iopt;
    const { tree } = areas;
    const low = Number(start & 0xfffn);
    for (let more = tree.seek(Number(start >> 12n), low); more; more = tree.advance()) {
      const areaStart = BigInt(areas.start);
      if (areaStart > last) return;
      if (!visit(areaStart, BigInt(areas.last))) return;
    }
  }
}

/** `IOMMU_IOAS_ALLOC`. */
export const ioasAlloc = (call: Call, command: IommuCommand<'IOMMU_IOAS_ALLOC'>): void => {
  call.checkFlags(command.flags, 0);
  const { context } = call;
  const ioas = new Ioas(context, context.objects.reserve(call.op));
  context.objects.install(ioas);
  command.outIoasId = ioas.id;
  call.undo = () => context.destroyObject(ioas);
};

/** `IOMMU_IOAS_IOVA_RANGES`: fills the array as far as it goes; EMSGSIZE when it is too short. */
export const ioasIovaRanges = (
  call: Call,
  command: IommuCommand<'IOMMU_IOAS_IOVA_RANGES'>,
): void => {
  call.checkReserved(command.reserved);
  const ioas = call.context.find(call.op, command.ioasId, 'IOAS');
  const ranges = ioas.iovaRanges();
  const room = command.numIovas;
  ranges.slice(0, room).forEach(({ start, last }, index) => {
    const bytes = encodeRange(BigInt(start), BigInt(last));
    if (copyToUser(call.process, command.allowedIovas, RANGE_BYTES * index, bytes)) return;
    throw call.refuse('EFAULT', 'user-memory', 'the array of ranges is not writable');
  });
  command.numIovas = ranges.length;
  command.outIovaAlignment = BigInt(ioas.iovaAlignment);
  if (ranges.length <= room) return;
  call.answersOnError = true;
  throw call.refuse('EMSGSIZE', 'ranges-room', `there are ${ranges.length} ranges`, {
    value: room,
    accepted: `an array of ${ranges.length} entries`,
  });
};

const encodeRange = (start: bigint, last: bigint): Uint8Array => {
  const bytes = new Uint8Array(RANGE_BYTES);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, start, true);
  view.setBigUint64(8, last, true);
  return bytes;
};

/** `IOMMU_IOAS_ALLOW_IOVAS`. */
export const ioasAllowIovas = (
  call: Call,
  command: IommuCommand<'IOMMU_IOAS_ALLOW_IOVAS'>,
): void => {
  call.answers = false;
  call.checkReserved(command.reserved);
  const { iopt } = call.context.find(call.op, command.ioasId, 'IOAS');
  const list = new AllowedListBuilder((site) => iopt.context.shouldFail(site), call.op);
  const bytes = new Uint8Array(RANGE_BYTES);
  const view = new DataView(bytes.buffer);
  for (let index = 0; index < command.numIovas; index++) {
    if (!copyFromUser(call.process, command.allowedIovas, RANGE_BYTES * index, bytes)) {
      throw call.refuse('EFAULT', 'user-memory', `range ${index} cannot be read`, {
        value: index,
        accepted: 'an array of num_iovas ranges',
      });
    }
    list.add(view.getBigUint64(0, true), view.getBigUint64(8, true));
  }
  iopt.setAllowed(list.build(), call.op);
};
