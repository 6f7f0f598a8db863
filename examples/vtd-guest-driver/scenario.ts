import { hex } from '@iommukit/bits';
import { faultCondition } from '@iommukit/driver-vtd';
import { createEmulator, DEVICE_RID } from './emulator.ts';
import type { Fault } from './events.ts';
import { GuestDriver, RID_PASID } from './guest-driver.ts';

const IOVA = 0x4000_0000;
const OTHER_IOVA = 0x4000_1000;
const VA = 0x7f00_0000_1000;
const PASID = 42;

/** What happened; {@link runScenario} reports, it checks nothing. */
export interface Step {
  readonly title: string;
  /** Facts by name, as they are printed. */
  readonly facts: Readonly<Record<string, string | number | boolean>>;
}

/** Let the guest's driver program the unit and the device work through it. */
export const runScenario = (): Step[] => {
  const { machine, endpoint, hardware, platform } = createEmulator();
  const steps: Step[] = [];
  const step = (title: string, facts: Step['facts']) => steps.push({ title, facts });
  const pages = [platform.allocPages(1), platform.allocPages(1), platform.allocPages(1)] as const;
  const [a, b, c] = pages;
  const nameOf = (address: number) => 'ABC'[pages.indexOf(address as typeof a)] ?? hex(address);
  let mark = 0;
  /** Write one byte by DMA and tell in which page it arrived. */
  const dma = (write: (bytes: Uint8Array) => number): string => {
    mark = (mark + 1) & 0xff;
    const written = write(Uint8Array.of(mark));
    if (written === 0) return 'blocked';
    const hit = pages.find((page) => (machine.memory.read32(page) & 0xff) === mark);
    return hit === undefined ? 'lost' : `page ${nameOf(hit)}`;
  };
  const plainDma = (iova: number) => dma((bytes) => endpoint.dmaWrite(iova, bytes));
  const atsDma = (va: number) => dma((bytes) => endpoint.atsWrite(va, bytes, { pasid: PASID }));

  const driver = new GuestDriver(platform);
  step('Bring the unit up through its registers', {
    unit: driver.identity,
    'DMA before the device is known': plainDma(IOVA),
    ...describeFaults(driver.events.faults.splice(0)),
  });

  driver.addDevice(DEVICE_RID);
  const space = driver.attach(DEVICE_RID, RID_PASID, 'second');
  space.table.map(IOVA, a);
  step('Build root, context, PASID entry and a second-stage table, map a page', {
    'DMA arrives in': plainDma(IOVA),
  });

  space.table.map(IOVA, b);
  const stale = plainDma(IOVA);
  driver.invalidate(space, IOVA);
  step('Point the page elsewhere', {
    'without invalidation DMA arrives in': stale,
    'after an IOTLB invalidation in': plainDma(IOVA),
  });

  const blocked = plainDma(OTHER_IOVA);
  const { PPF, PFO } = driver.events.faultStatus;
  step('Touch a page that is not mapped', {
    DMA: blocked,
    ...describeFaults(driver.events.faults.splice(0)),
    'FSTS after the interrupt handler': `PPF=${PPF} PFO=${PFO}`,
  });

  space.table.map(OTHER_IOVA, c);
  step('Map it and go on', { 'DMA arrives in': plainDma(OTHER_IOVA) });

  const process = driver.attach(DEVICE_RID, PASID, 'first');
  const asked: string[] = [];
  driver.events.onPageRequest = (request) => {
    asked.push(`PASID ${request.PASID} ${hex(request.ADDR)} PRGI ${request.PRGI}`);
    if (request.ADDR !== VA) return false;
    process.table.map(VA, a);
    return true;
  };
  const before = atsDma(VA);
  const answers: number[] = [];
  const ask = (iova: number) =>
    endpoint.requestPages([{ iova, write: true }], { pasid: PASID }, (code) => answers.push(code));
  ask(VA);
  ask(VA + 0x1000);
  step('Serve page requests of a device with PASID 42 and a first-stage table', {
    'DMA before': before,
    requests: asked.join(', '),
    'response codes': answers.join(', '),
    'DMA after arrives in': atsDma(VA),
  });

  process.table.unmap(VA);
  driver.invalidate(process, VA);
  const cached = atsDma(VA);
  driver.invalidateDevice(DEVICE_RID, process, VA);
  step('Unmap it again', {
    'IOTLB invalidated, the device has its own TLB: DMA arrives in': cached,
    'device TLB invalidated too': atsDma(VA),
    'unexpected faults': driver.events.faults.length,
  });

  const { translations, iotlbHits, faults, descriptors } = hardware.stats();
  step('What the unit counted', {
    'translations, IOTLB hits': `${translations}, ${iotlbHits}`,
    'descriptors executed': descriptors,
    'faults recorded': faults,
  });
  return steps;
};

const describeFaults = (faults: readonly Fault[]): Step['facts'] =>
  Object.fromEntries(faults.map((fault, index) => [`fault record ${index}`, describe(fault)]));

const describe = ({ FR, SID, FI, T1, T2 }: Fault): string => {
  const condition = faultCondition(FR);
  const kind = T1 === 0 && T2 === 0 ? 'write' : T1 === 1 && T2 === 0 ? 'read' : 'other request';
  return (
    `${hex(FR)} ${condition?.condition ?? 'unknown'} (${condition?.doc ?? ''}), ` +
    `${kind} by ${hex(SID)} to ${hex(FI)}`
  );
};
