/**
 * A machine with an AMD unit, driven through the driver contract and by DMA.
 */
import {
  type Domain,
  type Endpoint,
  type EndpointOptions,
  Machine,
  type PagingDomain,
  PROT,
} from '@iommukit/core';
import {
  type AmdviHardware,
  type AmdviIommuUnit,
  type AmdviOptions,
  amdvi,
  FULL_EFR,
  FULL_EFR2,
} from '../../src/index.ts';
import { guestDte, guestOf } from './guests.ts';

export const RW = PROT.READ | PROT.WRITE;
export const HWPT = { NEST_PARENT: 1, DIRTY_TRACKING: 2, PASID: 8 } as const;

const PAGE = 4096;

export interface Bench {
  readonly machine: Machine;
  readonly unit: AmdviIommuUnit;
  readonly device: Endpoint;
  readonly devices: readonly Endpoint[];
}

const PLAIN: EndpointOptions = { rid: '00:04.0' };
export const SVA_DEVICE: EndpointOptions = { rid: '00:05.0', pasidBits: 20, ats: true, pri: true };

/** While set, hardware is made with a sanitizer and kept here. */
export const watch: { hardware: AmdviHardware[] | undefined } = { hardware: undefined };

/**
 * A use of a translation that is known to be stale: shows that caches are real. Left out under a
 * sanitizer, which would rightly complain.
 */
export const staleUse = (use: () => void): void => {
  if (!watch.hardware) use();
};

/** One machine, one unit, the devices asked for. */
export const bench = (options: AmdviOptions = {}, devices: EndpointOptions[] = [PLAIN]): Bench => {
  const machine = new Machine({ ramBytes: 32 << 20 });
  const endpoints = devices.map((device) => machine.addEndpoint(device));
  const sanitize = watch.hardware !== undefined;
  const unit = machine.addUnit(amdvi({ sanitize, ...options })) as AmdviIommuUnit;
  watch.hardware?.push(unit.hardware);
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

const options = (pasid: number | undefined) => (pasid === undefined ? {} : { pasid });

const stamp = (done: number, bytes: Uint8Array): number =>
  done === 4 ? new DataView(bytes.buffer).getUint32(0, true) : -1;

/** Frame that an untranslated read reaches, by the stamp it finds there; -1 = blocked. */
export const reach = (device: Endpoint, iovaFrame: number, pasid?: number): number => {
  const bytes = new Uint8Array(4);
  return stamp(device.dmaRead(BigInt(iovaFrame) << 12n, bytes, options(pasid)), bytes);
};

/** The same through the device's own TLB. */
export const reachAts = (device: Endpoint, iovaFrame: number, pasid?: number): number => {
  const bytes = new Uint8Array(4);
  return stamp(device.atsRead(BigInt(iovaFrame) << 12n, bytes, options(pasid)), bytes);
};

/** Whether an untranslated write gets through. */
export const writes = (device: Endpoint, iovaFrame: number, pasid?: number): boolean =>
  device.dmaWrite((BigInt(iovaFrame) << 12n) + 8n, new Uint8Array(4), options(pasid)) === 4;

export const paging = ({ unit, device }: Bench, flags = 0, on: Endpoint = device): PagingDomain =>
  unit.allocPaging(on, { flags });

export const attach = (
  { unit, device }: Bench,
  domain: Domain,
  pasid = -1,
  on: Endpoint = device,
): void => unit.attach(on, pasid, domain);

/** Errno of a refusal, or `'no error'`. */
export const codeOf = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
  return 'no error';
};

/** Options of a unit with everything that the host half makes use of. */
export const FULL: AmdviOptions = {
  capabilities: { efr: FULL_EFR, efr2: FULL_EFR2, iotlbSup: true },
};

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

  /** Write a table entry: present, writable, user. */
  set(tableGfn: number, index: number, gfn: number, bits = 7): void {
    const value = BigInt(gfn) * 4096n + BigInt(bits);
    const pa = this.hostFrame(tableGfn) * PAGE + index * 8;
    this.machine.memory.write64(pa, Number(value & 0xffff_ffffn), Number(value >> 32n));
  }
}

/** A guest's GCR3 table, and under it a 4-level table that maps frames below 512 for one PASID. */
export class GuestTable {
  readonly guest: Guest;
  readonly gcr3: number;
  readonly leafTable: number;

  constructor(guest: Guest, pasid = 0) {
    this.guest = guest;
    this.gcr3 = guest.table();
    const tables = [guest.table(), guest.table(), guest.table(), guest.table()] as const;
    this.leafTable = tables[3];
    guest.set(this.gcr3, pasid, tables[0], 1);
    guest.set(tables[0], 0, tables[1]);
    guest.set(tables[1], 0, tables[2]);
    guest.set(tables[2], 0, tables[3]);
  }

  map(frame: number, gfn: number, bits = 7): void {
    this.guest.set(this.leafTable, frame, gfn, bits);
  }

  /** No page there any more. */
  clear(frame: number): void {
    this.guest.set(this.leafTable, frame, 0, 0);
  }

  /** The guest's device table entry: V, TV, GV, GIoV, IR, IW, four levels. */
  dte(domainId = 0x42): bigint[] {
    const root = BigInt(this.gcr3) * 4096n;
    const q0 = 0x60c0_0000_0000_0003n | (((root >> 12n) & 7n) << 58n);
    const q1 = BigInt(domainId) | (((root >> 15n) & 0xffffn) << 16n) | ((root >> 31n) << 43n);
    return [q0, q1, 0n, 0n];
  }
}

/** DeviceID by which the guest of {@link nest} knows its device. */
export const GUEST_RID = 0x21;

/** A nest parent with a guest and its table, nested for a device; PASID 0 is "without PASID". */
export const nest = (
  at: Bench,
  { pasid = 0, on = at.device, flags = HWPT.NEST_PARENT as number } = {},
) => {
  const { parent, backend, events } = guestOf(at.unit, on, flags);
  const guest = new Guest(at.machine, parent);
  const table = new GuestTable(guest, pasid);
  const nested = backend.allocNested(on, 0, guestDte(table.dte()));
  backend.vdeviceInit(on, BigInt(GUEST_RID));
  attach(at, nested, -1, on);
  return { parent, guest, table, nested, backend, events };
};
