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
import { type AmdviIommuUnit, type AmdviOptions, amdvi } from '../../src/index.ts';

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

/** One machine, one unit, the devices asked for. */
export const bench = (options: AmdviOptions = {}, devices: EndpointOptions[] = [PLAIN]): Bench => {
  const machine = new Machine({ ramBytes: 32 << 20 });
  const endpoints = devices.map((device) => machine.addEndpoint(device));
  const unit = machine.addUnit(amdvi(options)) as AmdviIommuUnit;
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
