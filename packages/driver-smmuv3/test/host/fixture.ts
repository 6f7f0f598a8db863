/**
 * A machine with SMMUv3 units, driven through the driver contract and by DMA.
 */
import {
  type Domain,
  type Endpoint,
  type EndpointOptions,
  isIommuError,
  Machine,
  type PagingDomain,
  PROT,
  type UnrecoverableFault,
} from '@iommukit/core';
import {
  COMMAND,
  type SmmuHardware,
  SmmuIommuUnit,
  type SmmuOptions,
  smmuv3,
} from '../../src/index.ts';

export const RW = PROT.READ | PROT.WRITE;
export const HWPT = { NEST_PARENT: 1, DIRTY_TRACKING: 2, PASID: 8 } as const;
export const STAGE2_ONLY = { capabilities: { idr0: { S1P: 0 } } } as const;

const PAGE = 4096;

export interface Bench {
  readonly machine: Machine;
  readonly unit: SmmuIommuUnit;
  readonly device: Endpoint;
  readonly devices: readonly Endpoint[];
  readonly faults: UnrecoverableFault[];
}

const PLAIN: EndpointOptions = { rid: '00:04.0' };
export const PASID_DEVICE: EndpointOptions = { rid: '00:05.0', pasidBits: 20 };

/** While set, hardware is made with a sanitizer and kept here. */
export const watch: { hardware: SmmuHardware[] | undefined } = { hardware: undefined };

/**
 * A use of a translation that is known to be stale: shows that caches are real. Left out under a
 * sanitizer, which would rightly complain.
 */
export const staleUse = (use: () => void): void => {
  if (!watch.hardware) use();
};

/** One machine, one unit, the devices asked for. */
export const bench = (
  options: SmmuOptions = {},
  devices: readonly EndpointOptions[] = [PLAIN],
): Bench => {
  const machine = new Machine({ ramBytes: 32 << 20 });
  const endpoints = devices.map((device) => machine.addEndpoint(device));
  const sanitize = watch.hardware !== undefined;
  const unit = machine.addUnit(smmuv3({ sanitize, ...options }));
  if (!(unit instanceof SmmuIommuUnit)) throw new Error('not an SMMUv3');
  watch.hardware?.push(unit.hardware);
  const faults: UnrecoverableFault[] = [];
  machine.onFault((fault) => faults.push(fault));
  return { machine, unit, device: endpoints[0] as Endpoint, devices: endpoints, faults };
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
  prot: number = RW,
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

/** A domain that maps one IOVA page to a fresh stamped page. */
export const aimed = (at: Bench, iovaFrame: number, flags = 0) => {
  const domain = paging(at, flags);
  const frame = stampedPage(at.machine);
  if (map(domain, iovaFrame, frame) !== 0) throw new Error('map failed');
  return { domain, frame };
};

export const attach = (
  { unit, device }: Bench,
  domain: Domain,
  pasid = -1,
  on: Endpoint = device,
): void => unit.attach(on, pasid, domain);

/** Code and rule of the refusal that `act` throws. */
export const refusalOf = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    if (isIommuError(error)) return `${error.code} ${error.reason.rule}`;
    throw error;
  }
  return 'ok';
};

/** 16 u32 words at a physical address. */
export const wordsAt = ({ machine }: Bench, pa: number, count = 16): number[] =>
  Array.from({ length: count }, (_, at) => machine.memory.read32(pa + at * 4));

/** A number from its 32-bit halves. */
const word64 = (lo: number, hi: number): number => hi * 2 ** 32 + (lo >>> 0);

/** Physical address of a device's stream table entry, found through the unit's registers. */
export const steAddress = (at: Bench, sid = at.device.rid): number => {
  const { hardware } = at.unit;
  const base = word64(hardware.readReg32(0x80) & ~63, hardware.readReg32(0x84) & 0xf_ffff);
  if ((hardware.readReg32(0x88) >>> 16) % 4 === 0) return base + sid * 64;
  const l1 = base + Math.floor(sid / 256) * 8;
  const { memory } = at.machine;
  return word64(memory.read32(l1) & ~63, memory.read32(l1 + 4) & 0xf_ffff) + (sid % 256) * 64;
};

/** The commands that `act` hands over, four u32 words each. */
export const commandsOf = (at: Bench, act: () => void): number[][] => {
  const { hardware } = at.unit;
  const baseLo = hardware.readReg32(0x90);
  const ring = word64(baseLo & ~31, hardware.readReg32(0x94) & 0xf_ffff);
  const entries = 2 ** (baseLo & 31);
  const before = hardware.readReg32(0x98);
  act();
  const count = (hardware.readReg32(0x98) - before + 2 * entries) % (2 * entries);
  return Array.from({ length: count }, (_, n) =>
    wordsAt(at, ring + ((before + n) % entries) * 16, 4),
  );
};

const NAMES = new Map<number, string>(Object.entries(COMMAND).map(([name, code]) => [code, name]));

/** Names of the commands that `act` hands over. */
export const commandNames = (at: Bench, act: () => void): string[] =>
  commandsOf(at, act).map(([w0 = 0]) => NAMES.get(w0 & 0xff) ?? '?');
