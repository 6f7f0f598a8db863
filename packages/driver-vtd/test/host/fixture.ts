/**
 * A machine with VT-d units, driven through the driver contract and by DMA.
 */
import {
  type Domain,
  type Endpoint,
  type EndpointOptions,
  type IommuUnit,
  Machine,
  type PagingDomain,
  PROT,
  type UserArray,
  type UserBlob,
} from '@iommukit/core';
import { type VtdHardware, type VtdIommuUnit, type VtdOptions, vtd } from '../../src/index.ts';

const RW = PROT.READ | PROT.WRITE;
export const HWPT = { NEST_PARENT: 1, DIRTY_TRACKING: 2, PASID: 8 } as const;

const PAGE = 4096;

export interface Bench {
  readonly machine: Machine;
  readonly unit: IommuUnit;
  readonly device: Endpoint;
  readonly devices: readonly Endpoint[];
}

const PLAIN: EndpointOptions = { rid: '00:04.0' };
export const SVA_DEVICE: EndpointOptions = { rid: '00:05.0', pasidBits: 20, ats: true, pri: true };

/** While set, hardware is made with a sanitizer and kept here. */
export const watch: { hardware: VtdHardware[] | undefined } = { hardware: undefined };

/**
 * A use of a translation that is known to be stale: shows that caches are real. Left out under a
 * sanitizer, which would rightly complain.
 */
export const staleUse = (use: () => void): void => {
  if (!watch.hardware) use();
};

/** One machine, one unit, the devices asked for. */
export const bench = (options: VtdOptions = {}, devices: EndpointOptions[] = [PLAIN]): Bench => {
  const machine = new Machine({ ramBytes: 32 << 20 });
  const endpoints = devices.map((device) => machine.addEndpoint(device));
  const sanitize = watch.hardware !== undefined;
  const unit = machine.addUnit(vtd({ sanitize, ...options }));
  watch.hardware?.push((unit as VtdIommuUnit).hardware);
  return { machine, unit, device: endpoints[0] as Endpoint, devices: endpoints };
};

/** Frame number of a fresh page that carries its own frame number in its first dword. */
export const stampedPage = (machine: Machine, count = 1): number => {
  const pa = machine.memory.allocPages(count, { alignPages: count });
  if (pa < 0) throw new Error('out of memory');
  for (let i = 0; i < count; i++) machine.memory.write32(pa + i * PAGE, pa / PAGE + i);
  return pa / PAGE;
};

/** Map one run. */
export const map = (
  domain: PagingDomain,
  iovaFrame: number,
  frame: number,
  count = 1,
  prot = RW,
): number => domain.mapRuns(iovaFrame, Float64Array.of(frame, count), 1, prot);

export const unmap = (domain: PagingDomain, iovaFrame: number, count = 1): number => {
  const done = domain.unmap(iovaFrame, count);
  domain.sync();
  return done;
};

/** Frame that an untranslated read reaches, by the stamp it finds there; -1 = blocked. */
export const reach = (device: Endpoint, iovaFrame: number, pasid?: number): number => {
  const bytes = new Uint8Array(4);
  const iova = BigInt(iovaFrame) << 12n;
  const done = device.dmaRead(iova, bytes, pasid === undefined ? {} : { pasid });
  return done === 4 ? new DataView(bytes.buffer).getUint32(0, true) : -1;
};

/** The same through the device's own TLB. */
export const reachAts = (device: Endpoint, iovaFrame: number, pasid?: number): number => {
  const bytes = new Uint8Array(4);
  const iova = BigInt(iovaFrame) << 12n;
  const done = device.atsRead(iova, bytes, pasid === undefined ? {} : { pasid });
  return done === 4 ? new DataView(bytes.buffer).getUint32(0, true) : -1;
};

/** Whether an untranslated write gets through. */
export const writes = (device: Endpoint, iovaFrame: number, pasid?: number): boolean =>
  device.dmaWrite(
    (BigInt(iovaFrame) << 12n) + 8n,
    new Uint8Array(4),
    pasid === undefined ? {} : { pasid },
  ) === 4;

export const paging = ({ unit, device }: Bench, flags = 0, on: Endpoint = device): PagingDomain =>
  unit.allocPaging(on, { flags });

export const attach = (
  { unit, device }: Bench,
  domain: Domain,
  pasid = -1,
  on: Endpoint = device,
): void => unit.attach(on, pasid, domain);

/** A vendor struct as core hands it over. */
export const blob = (type: number, bytes: Uint8Array): UserBlob => ({
  type,
  length: bytes.length,
  copyIn(wanted, minLast, size) {
    if (wanted !== type || bytes.length < minLast || bytes.length > size) {
      throw Object.assign(new Error('EINVAL'), { code: 'EINVAL' });
    }
    const out = new Uint8Array(size);
    out.set(bytes);
    return out;
  },
  copyOut() {},
});

/** An array of vendor structs. */
export const userArray = (type: number, entries: Uint8Array[]): UserArray => ({
  type,
  entryLength: entries[0]?.length ?? 0,
  entryCount: entries.length,
  done: 0,
  copyEntry: (index) => entries[index] as Uint8Array,
  copyAll() {
    throw new Error('VT-d takes entries one by one');
  },
});

/** `struct iommu_hwpt_vtd_s1`. */
export const s1Blob = (
  rootGpa: number | bigint,
  { flags = 0, addrWidth = 48, reserved = 0 } = {},
): UserBlob => {
  const bytes = new Uint8Array(24);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, flags, true);
  view.setUint32(8, Number(BigInt(rootGpa) & 0xffff_ffffn), true);
  view.setUint32(12, Number(BigInt(rootGpa) >> 32n), true);
  view.setUint32(16, addrWidth, true);
  view.setUint32(20, reserved, true);
  return blob(1, bytes);
};

/** `struct iommu_hwpt_vtd_s1_invalidate`. */
export const s1Invalidate = (addr: bigint, npages: bigint, flags = 0, reserved = 0): Uint8Array => {
  const bytes = new Uint8Array(24);
  const view = new DataView(bytes.buffer);
  const put = (at: number, value: bigint) => {
    view.setUint32(at, Number(value & 0xffff_ffffn), true);
    view.setUint32(at + 4, Number(value >> 32n), true);
  };
  put(0, addr);
  put(8, npages);
  view.setUint32(16, flags, true);
  view.setUint32(20, reserved, true);
  return bytes;
};

export const ALL_PAGES = 2n ** 64n - 1n;

/**
 * Guest RAM behind a nest parent: guest frame g lives at a host frame of its own choosing, so
 * that nothing works by accident of GPA = HPA.
 */
export class Guest {
  readonly machine: Machine;
  readonly parent: PagingDomain;
  readonly hostFrameOf = new Map<number, number>();
  #nextFrame: number;

  /** @param firstFrame guest frame of its first page */
  constructor(machine: Machine, parent: PagingDomain, firstFrame = 0x100) {
    this.machine = machine;
    this.parent = parent;
    this.#nextFrame = firstFrame;
  }

  /** Give the guest one page. */
  page(): number {
    const gfn = this.#nextFrame++;
    const frame = stampedPage(this.machine);
    if (map(this.parent, gfn, frame) !== 0) throw new Error('parent map failed');
    this.hostFrameOf.set(gfn, frame);
    return gfn;
  }

  /** A page for a table: zeroed. */
  table(): number {
    const gfn = this.page();
    this.machine.memory.write32(this.hostFrame(gfn) * PAGE, 0);
    return gfn;
  }

  hostFrame(gfn: number): number {
    return this.hostFrameOf.get(gfn) as number;
  }

  /** Write a first-stage entry: present, writable, user. */
  set(tableGfn: number, index: number, gfn: number, bits = 7): void {
    const value = BigInt(gfn) * 4096n + BigInt(bits);
    const pa = this.hostFrame(tableGfn) * PAGE + index * 8;
    this.machine.memory.write64(pa, Number(value & 0xffff_ffffn), Number(value >> 32n));
  }
}

/** A guest's 4-level table that maps page frame numbers below 512 to guest frames. */
export class GuestTable {
  readonly guest: Guest;
  readonly root: number;
  readonly leafTable: number;

  constructor(guest: Guest) {
    this.guest = guest;
    const tables = [guest.table(), guest.table(), guest.table(), guest.table()] as const;
    this.root = tables[0];
    this.leafTable = tables[3];
    guest.set(tables[0], 0, tables[1]);
    guest.set(tables[1], 0, tables[2]);
    guest.set(tables[2], 0, tables[3]);
  }

  get rootGpa(): number {
    return this.root * PAGE;
  }

  map(frame: number, gfn: number, bits = 7): void {
    this.guest.set(this.leafTable, frame, gfn, bits);
  }

  /** No page there any more. */
  clear(frame: number): void {
    this.guest.set(this.leafTable, frame, 0, 0);
  }
}

/** A nest parent with a guest and its table, nested for `pasid` of `device`. */
export const nest = (at: Bench, pasid = -1, on: Endpoint = at.device, parent?: PagingDomain) => {
  const below = parent ?? paging(at, HWPT.NEST_PARENT, on);
  const guest = new Guest(at.machine, below);
  const table = new GuestTable(guest);
  const nested = at.unit.nesting?.allocNested(on, below, 0, s1Blob(table.rootGpa));
  if (!nested) throw new Error('no nesting');
  attach(at, nested, pasid, on);
  return { parent: below, guest, table, nested };
};

export const codeOf = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
  return 'no error';
};
