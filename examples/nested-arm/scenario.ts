import { hex } from '@iommukit/bits';
import { CMDQ_ERR, EVENT } from '@iommukit/driver-smmuv3';
import { GuestDriver, type GuestEvent } from './guest-driver.ts';
import { Host, RAM_BASE } from './host.ts';
import type { Platform } from './platform.ts';
import { VirtualSmmu } from './virtual-smmu.ts';

/** What the guest calls its device; the host knows it as 17:00.0. */
const VSID = 0x10;
const VA = 0x7f00_0000_1000;
const PASID = 7;

/** What happened; {@link runScenario} reports, it checks nothing. */
export interface Step {
  readonly title: string;
  /** Facts by name, as they are printed. */
  readonly facts: Readonly<Record<string, string | number>>;
}

/** A guest's platform: what the VMM emulates. */
const platformOf = (host: Host, smmu: VirtualSmmu): Platform => {
  let free = RAM_BASE;
  return {
    readRegister: (offset) => smmu.readRegister(offset),
    writeRegister: (offset, value) => smmu.writeRegister(offset, value),
    readMemory: (address) => host.readMemory(address),
    writeMemory: (address, value) => host.writeMemory(address, value),
    allocPages: (count) => {
      const address = free;
      free += count * 4096;
      return address;
    },
  };
};

/** A guest with a device under its own driver, and what the host sees of it. */
export const runScenario = (): Step[] => {
  const host = new Host(VSID);
  const smmu = new VirtualSmmu(host, VSID);
  const platform = platformOf(host, smmu);
  const steps: Step[] = [];
  const pages = [platform.allocPages(1), platform.allocPages(1), platform.allocPages(1)] as const;
  const [a, b, c] = pages;
  let mark = 0;
  const dma = (address: number, pasid?: number): string => {
    const options = pasid === undefined ? {} : { pasid };
    const written = host.device.dmaWrite(address, Uint8Array.of(++mark), options);
    if (written === 0) return 'blocked';
    const hit = pages.findIndex((page) => (host.readMemory(page) & 0xff) === mark);
    return hit < 0 ? 'lost' : `page ${'ABC'[hit]}`;
  };
  /** Do something and tell how many calls of the host it took. */
  const step = (title: string, work: () => Step['facts']): void => {
    const before = host.calls;
    const facts = work();
    steps.push({ title, facts: { ...facts, 'iommufd calls': host.calls - before } });
  };
  const events = (driver: GuestDriver): string => {
    smmu.deliverEvents();
    return driver.takeEvents().map(describe).join(', ') || 'none';
  };

  step('The vSMMU is off: requests reach guest RAM as they are', () => ({
    'DMA to page A': dma(a),
  }));

  const driver = new GuestDriver(platform);
  step('The guest has brought it up', () => ({
    'it found': driver.identity,
    'DMA of a device it does not know': dma(a),
  }));

  const space = driver.createSpace();
  step('The guest gives its device a CD table and maps a page', () => {
    space.table.map(VA, a);
    driver.addDevice(VSID);
    driver.setContext(VSID, 0, space);
    return { 'DMA arrives in': dma(VA) };
  });

  step('It points the page elsewhere', () => {
    space.table.map(VA, b);
    return { 'without invalidation DMA arrives in': dma(VA) };
  });

  step('It invalidates', () => {
    driver.invalidate(space, VA);
    return { 'DMA arrives in': dma(VA) };
  });

  step('It enables PASID 7 in its CD table', () => {
    const other = driver.createSpace();
    other.table.map(VA, c);
    driver.setContext(VSID, PASID, other);
    return { 'DMA with PASID 7 arrives in': dma(VA, PASID), 'and without': dma(VA) };
  });

  step('The device touches a page that is not mapped', () => ({
    DMA: dma(VA + 0x1000),
    'event queue of the guest': events(driver),
  }));

  step('The guest sends a command that is not for guests', () => {
    driver.sendIllegal();
    const error = driver.takeCommandError();
    return {
      'its command queue stops with': nameOf(CMDQ_ERR, error),
      'goes on': driver.isIdle ? 'yes' : 'no',
    };
  });

  step('It writes a stream table entry that it cannot have', () => {
    driver.writeStream(VSID, { V: 1, CONFIG: 7, S1CONTEXTPTR: a });
    return { DMA: dma(VA), 'event queue of the guest': events(driver) };
  });
  return steps;
};

const nameOf = (codes: Readonly<Record<string, number>>, code: number): string =>
  Object.entries(codes).find(([, value]) => value === code)?.[0] ?? hex(code);

const describe = ({ CODE, SID, INPUT_ADDR }: GuestEvent): string => {
  const address = INPUT_ADDR === 0n ? '' : ` at ${hex(INPUT_ADDR)}`;
  return `${nameOf(EVENT, CODE)} of stream ${hex(SID)}${address}`;
};
