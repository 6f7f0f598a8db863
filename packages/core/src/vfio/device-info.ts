/**
 * What a device under VFIO says of itself: device, regions, interrupts, each with capabilities
 * chained behind the struct.
 *
 * @linux drivers/vfio/pci/vfio_pci_core.c vfio_pci_ioctl_get_info, _get_irq_info; vfio_main.c
 *   vfio_get_region_info
 * @module
 */
import { copyFromUser, copyToUser } from '../uapi/user-access.ts';
import type { VfioCall } from './vfio-call.ts';

const INFO_BYTES = 24;
const INFO_MIN_BYTES = 16;
const REGION_BYTES = 32;
const IRQ_BYTES = 16;
const CAP_HEADER_BYTES = 8;
const PCI_REGIONS = 9;
const PCI_VGA_REGION = 8;
const PCI_IRQS = 5;
const PCI_ERR_IRQ = 3;
const PCI_REQ_IRQ = 4;
/** Regions lie this far apart in the device's file. */
const REGION_STRIDE_BYTES = 2 ** 40;

/** `VFIO_DEVICE_FLAGS_*` that core looks at. */
export const VFIO_DEVICE_FLAG = { RESET: 1, PCI: 2, CAPS: 128 } as const;
/** `VFIO_REGION_INFO_FLAG_*`. */
export const VFIO_REGION_FLAG = { READ: 1, WRITE: 2, MMAP: 4, CAPS: 8 } as const;
/** `VFIO_IRQ_INFO_*`. */
export const VFIO_IRQ_FLAG = { EVENTFD: 1, MASKABLE: 2, AUTOMASKED: 4, NORESIZE: 8 } as const;

/** A capability behind an info struct. */
export interface VfioCapability {
  /** `VFIO_DEVICE_INFO_CAP_*` or `VFIO_REGION_INFO_CAP_*`. */
  readonly id: number;
  readonly version: number;
  /** What follows the header. */
  readonly data: Uint8Array;
}

/** A region: a BAR, configuration space, or one of the device's own. */
export interface VfioRegion {
  /** `VFIO_PCI_*_REGION_INDEX`: BARs 0 to 5, ROM 6, CONFIG 7, VGA 8. */
  readonly index: number;
  readonly sizeBytes: number;
  /** Sum of {@link VFIO_REGION_FLAG}; default readable and writable. */
  readonly flags?: number;
  readonly capabilities?: readonly VfioCapability[];
}

/** One kind of interrupts. */
export interface VfioIrq {
  /** `VFIO_PCI_*_IRQ_INDEX`: INTX 0, MSI 1, MSIX 2, ERR 3, REQ 4. */
  readonly index: number;
  readonly count: number;
  /** Sum of {@link VFIO_IRQ_FLAG}; default as vfio-pci: INTx maskable, others of fixed size. */
  readonly flags?: number;
}

/** What the info ioctls of a device answer. */
export interface VfioDeviceInfo {
  /** `VFIO_DEVICE_FLAGS_*`; default PCI 2. With RESET 1, VFIO_DEVICE_RESET resets the device. */
  readonly flags?: number;
  /** Default the 9 of PCI, or as many as `regions` needs. */
  readonly numRegions?: number;
  /** Default the 5 of PCI, or as many as `irqs` needs. */
  readonly numIrqs?: number;
  /** Regions there are; other indexes have size 0. */
  readonly regions?: readonly VfioRegion[];
  /** Interrupts there are; other indexes have none. */
  readonly irqs?: readonly VfioIrq[];
  readonly capabilities?: readonly VfioCapability[];
}

/** `VFIO_DEVICE_GET_INFO`. */
export const getDeviceInfo = (
  call: VfioCall,
  argument: number | bigint,
  info: VfioDeviceInfo,
): void => {
  const view = readInfo(call, argument, INFO_MIN_BYTES, INFO_BYTES);
  const room = view.getUint32(0, true);
  view.setUint32(4, flagsOf(info), true);
  view.setUint32(8, regionCount(info), true);
  view.setUint32(12, irqCount(info), true);
  const at = { flags: VFIO_DEVICE_FLAG.CAPS, offset: 16 };
  writeCapabilities(call, argument, view, info.capabilities ?? [], at);
  write(call, argument, view, Math.min(room, INFO_BYTES));
};

/** `VFIO_DEVICE_GET_REGION_INFO`. */
export const getRegionInfo = (
  call: VfioCall,
  argument: number | bigint,
  info: VfioDeviceInfo,
): void => {
  const view = readInfo(call, argument, REGION_BYTES, REGION_BYTES);
  const index = view.getUint32(8, true);
  const region = info.regions?.find((known) => known.index === index);
  const isMissing = isPci(info) && index === PCI_VGA_REGION && !region;
  if (index >= regionCount(info) || isMissing) {
    throw call.refuse('EINVAL', 'vfio-region', `there is no region ${index}`, {
      value: index,
      accepted: `0 to ${regionCount(info) - 1}${isMissing ? ', without VGA' : ''}`,
    });
  }
  const { READ, WRITE } = VFIO_REGION_FLAG;
  view.setUint32(4, region ? (region.flags ?? READ | WRITE) : 0, true);
  view.setBigUint64(16, BigInt(region?.sizeBytes ?? 0), true);
  view.setBigUint64(24, BigInt(index * REGION_STRIDE_BYTES), true);
  const at = { flags: VFIO_REGION_FLAG.CAPS, offset: 12 };
  writeCapabilities(call, argument, view, region?.capabilities ?? [], at);
  write(call, argument, view, REGION_BYTES);
};

/** `VFIO_DEVICE_GET_IRQ_INFO`. */
export const getIrqInfo = (
  call: VfioCall,
  argument: number | bigint,
  info: VfioDeviceInfo,
): void => {
  const view = readInfo(call, argument, IRQ_BYTES, IRQ_BYTES);
  const index = view.getUint32(8, true);
  const irq = info.irqs?.find((known) => known.index === index);
  const isMissing = isPci(info) && index === PCI_ERR_IRQ && !irq;
  if (index >= irqCount(info) || isMissing) {
    throw call.refuse('EINVAL', 'vfio-irq', `there are no interrupts ${index}`, {
      value: index,
      accepted: `0 to ${irqCount(info) - 1}${isMissing ? ', without ERR' : ''}`,
    });
  }
  const count = isPci(info) && index === PCI_REQ_IRQ ? 1 : 0;
  view.setUint32(4, irq?.flags ?? defaultIrqFlags(index), true);
  view.setUint32(12, irq?.count ?? count, true);
  write(call, argument, view, IRQ_BYTES);
};

/** Flags of a device. */
export const flagsOf = ({ flags = VFIO_DEVICE_FLAG.PCI }: VfioDeviceInfo): number => flags;

const isPci = (info: VfioDeviceInfo): boolean => (flagsOf(info) & VFIO_DEVICE_FLAG.PCI) !== 0;

const regionCount = (info: VfioDeviceInfo): number =>
  info.numRegions ?? countOf(info.regions, PCI_REGIONS);

const irqCount = (info: VfioDeviceInfo): number => info.numIrqs ?? countOf(info.irqs, PCI_IRQS);

const countOf = (things: readonly { readonly index: number }[] = [], least: number): number =>
  things.reduce((count, { index }) => Math.max(count, index + 1), least);

const defaultIrqFlags = (index: number): number => {
  const { EVENTFD, MASKABLE, AUTOMASKED, NORESIZE } = VFIO_IRQ_FLAG;
  return index === 0 ? EVENTFD | MASKABLE | AUTOMASKED : EVENTFD | NORESIZE;
};

/** The mandatory part of an info struct, zeros behind it; EFAULT, EINVAL below it. */
const readInfo = (
  call: VfioCall,
  argument: number | bigint,
  min: number,
  size: number,
): DataView => {
  const bytes = new Uint8Array(size);
  if (!copyFromUser(call.process, argument, 0, bytes.subarray(0, min))) throw call.fault();
  const view = new DataView(bytes.buffer);
  call.checkSize(view.getUint32(0, true), min);
  return view;
};

/**
 * Chain capabilities behind the struct when there is room for all; otherwise say how much there
 * must be.
 */
const writeCapabilities = (
  call: VfioCall,
  argument: number | bigint,
  view: DataView,
  capabilities: readonly VfioCapability[],
  at: { readonly flags: number; readonly offset: number },
): void => {
  if (capabilities.length === 0) return;
  view.setUint32(4, view.getUint32(4, true) | at.flags, true);
  const chain = chainOf(capabilities, view.byteLength);
  const needed = view.byteLength + chain.length;
  view.setUint32(at.offset, 0, true);
  if (view.getUint32(0, true) < needed) {
    view.setUint32(0, needed, true);
    return;
  }
  if (!copyToUser(call.process, argument, view.byteLength, chain)) throw call.fault();
  view.setUint32(at.offset, view.byteLength, true);
};

/** Headers and data, each on 8 bytes; `next` counts from the start of the struct. */
const chainOf = (capabilities: readonly VfioCapability[], start: number): Uint8Array => {
  const sizes = capabilities.map(({ data }) => Math.ceil((CAP_HEADER_BYTES + data.length) / 8) * 8);
  const bytes = new Uint8Array(sizes.reduce((sum, size) => sum + size, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  capabilities.forEach(({ id, version, data }, i) => {
    const end = at + (sizes[i] as number);
    view.setUint16(at, id, true);
    view.setUint16(at + 2, version, true);
    view.setUint32(at + 4, i === capabilities.length - 1 ? 0 : start + end, true);
    bytes.set(data, at + CAP_HEADER_BYTES);
    at = end;
  });
  return bytes;
};

const write = (call: VfioCall, argument: number | bigint, view: DataView, count: number): void => {
  const answer = new Uint8Array(view.buffer, 0, count);
  if (!copyToUser(call.process, argument, 0, answer)) throw call.fault();
};
