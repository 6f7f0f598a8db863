/** A unit with everything, a device table, logs, and helpers to build tables by their layouts. */
import { encode, type Layout } from '@iommukit/bits';
import {
  ACCESS,
  createAtsCompletion,
  INVALIDATION_ANSWER,
  type InvalidationAnswer,
  type PageGroupResponse,
  type PageRequest,
  PhysicalMemory,
} from '@iommukit/core';
import { AmdviHardware } from '../../src/hardware/iommu.ts';
import {
  type AmdviHardwareOptions,
  CONTROL,
  DTE,
  FULL_EFR,
  FULL_EFR2,
  GCR3_ENTRY,
  GUEST_PDE_2M,
  GUEST_PDPE_1G,
  GUEST_PML,
  GUEST_PTE,
  GUEST_TABLE,
  HOST_PDE,
  HOST_PTE,
} from '../../src/index.ts';

const RAM = 0x10_0000;
export const AT = {
  deviceTable: RAM,
  commands: RAM + 0x1_0000,
  events: RAM + 0x1_1000,
  eventsB: RAM + 0x1_2000,
  pprs: RAM + 0x1_3000,
  pprsB: RAM + 0x1_4000,
  gcr3: RAM + 0x2_0000,
  /** Guest tables, one page per level. */
  guest: RAM + 0x3_0000,
  /** Host tables, one page per level. */
  host: RAM + 0x4_0000,
  data: RAM + 0x8_0000,
  /** Nothing answers there. */
  outside: 0x4000_0000,
};
export const RID = 0x20;
export const DOMAIN = 7;
export const { READ, WRITE, EXEC, PRIV } = ACCESS;

/** Control with everything on. */
export const ENABLES = {
  IOMMU_EN: 1,
  EVENT_LOG_EN: 1,
  CMD_BUF_EN: 1,
  EVENT_INT_EN: 1,
  COM_WAIT_INT_EN: 1,
  PPR_LOG_EN: 1,
  PPR_INT_EN: 1,
  PPR_EN: 1,
  GT_EN: 1,
  INV_TIME_OUT: 4,
};

type Fields = Readonly<Record<string, number | bigint>>;

/** Message address of MSI, as the fixture programs it. */
export const MSI = 0xfee0_0000;

/** The unit, its memory and what came out of it. */
export class Fixture {
  readonly memory = new PhysicalMemory();
  readonly unit: AmdviHardware;
  readonly messages: [address: number, data: number][] = [];
  readonly responses: PageGroupResponse[] = [];
  readonly invalidations: (readonly [rid: number, pasid: number, pfn: number, sizeLg2: number])[] =
    [];
  invalidationAnswer: InvalidationAnswer = INVALIDATION_ANSWER.COMPLETE;

  constructor(options: Partial<AmdviHardwareOptions> = {}) {
    this.memory.addRegion({ name: 'ram', base: RAM, size: 0x20_0000 });
    this.unit = new AmdviHardware({
      memory: this.memory,
      bus: {
        raiseMessage: (address, data) => this.messages.push([address, data]),
        deliverPageResponse: (response) => this.responses.push(response),
        invalidateDeviceTlb: (rid, pasid, pfn, sizeLg2) => {
          this.invalidations.push([rid, pasid, pfn, sizeLg2]);
          return this.invalidationAnswer;
        },
      },
      capabilities: { efr: FULL_EFR, efr2: FULL_EFR2, iotlbSup: true },
      ...options,
    });
    this.program();
  }

  /** Bases, MSI and Control, as firmware and a driver leave them. */
  program(): void {
    const { unit } = this;
    unit.writeReg64(0x0, AT.deviceTable | 0xf, 0);
    unit.writeReg64(0x8, AT.commands, 0x0800_0000);
    unit.writeReg64(0x10, AT.events, 0x0800_0000);
    unit.writeReg64(0x38, AT.pprs, 0x0800_0000);
    unit.writeReg64(0xf8, AT.eventsB, 0x0800_0000);
    unit.writeReg64(0xf0, AT.pprsB, 0x0800_0000);
    unit.writeReg32(0x15c, MSI);
    unit.writeReg32(0x158, 1 << 16);
    this.control(ENABLES);
  }

  control(values: Fields): void {
    const words = encode(CONTROL, values as never);
    this.unit.writeReg64(0x18, words[0] as number, words[1] as number);
  }

  put(pa: number, words: ArrayLike<number>): void {
    for (let at = 0; at < words.length; at++) this.memory.write32(pa + at * 4, words[at] as number);
  }

  layout(pa: number, layout: Layout, values: Fields): void {
    this.put(pa, encode(layout, values as never));
  }

  /** A device table entry; `gcr3` is spread over its three fields. */
  entry({ gcr3 = 0, ...values }: Fields & { gcr3?: number }, rid = RID): void {
    this.layout(AT.deviceTable + rid * 32, DTE, {
      GCR3_14_12: (gcr3 >>> 12) & 7,
      GCR3_30_15: (gcr3 >>> 15) & 0xffff,
      GCR3_51_31: Math.floor(gcr3 / 2 ** 31),
      ...values,
    });
  }

  /** A device with guest tables; PASID 5 and 0 have the tables of {@link guestTables}. */
  guestDevice(values: Fields = {}, rid = RID): void {
    this.entry(
      { V: 1, TV: 1, IR: 1, IW: 1, GV: 1, DOMAIN_ID: DOMAIN, gcr3: AT.gcr3, ...values },
      rid,
    );
    for (const pasid of [0, 5]) this.gcr3Entry(pasid, { V: 1, ADDR: AT.guest + 0x3000 });
    this.guestTables();
  }

  gcr3Entry(index: number, values: Fields, table = AT.gcr3): void {
    this.layout(table + index * 8, GCR3_ENTRY, values);
  }

  /**
   * Four levels for addresses below 2 MiB (level 1), 2 MiB pages from there to 1 GiB (level 2 is at
   * `guest + 1000h`), 1 GiB pages above (level 3 is at `guest + 2000h`). The top is `guest + 3000h`.
   */
  guestTables(): void {
    const rights = { P: 1, RW: 1, US: 1 };
    const table = { ...rights, ADDR: AT.guest };
    this.layout(AT.guest + 0x3000, GUEST_PML, { ...table, ADDR: AT.guest + 0x2000 });
    this.layout(AT.guest + 0x2000, GUEST_TABLE, { ...table, ADDR: AT.guest + 0x1000 });
    this.layout(AT.guest + 0x2008, GUEST_PDPE_1G, { ...rights, PS: 1, ADDR: 0 });
    this.layout(AT.guest + 0x1000, GUEST_TABLE, table);
    this.layout(AT.guest + 0x1008, GUEST_PDE_2M, { ...rights, PS: 1, ADDR: 0 });
    this.page(1, {});
  }

  /** A 4 KiB guest page of the lowest 2 MiB. */
  page(index: number, values: Fields): void {
    const whole = { P: 1, RW: 1, US: 1, ADDR: AT.data + index * 0x1000, ...values };
    this.layout(AT.guest + index * 8, GUEST_PTE, whole);
  }

  /**
   * A host table of two levels: 2 MiB one to one by default, so that guest physical addresses of the
   * RAM are those of the system.
   */
  hostTables(leaf: Fields = {}): void {
    const rights = { PR: 1, IR: 1, IW: 1 };
    this.layout(AT.host, HOST_PDE, { ...rights, NEXT_LEVEL: 1, ADDR: AT.host + 0x1000 });
    this.layout(AT.host + 8, HOST_PTE, { ...rights, ADDR: 0x20_0000, ...leaf });
    for (let index = 0; index < 512; index++) this.hostPage(index, {});
  }

  /** A 4 KiB host page of the lowest 2 MiB. */
  hostPage(index: number, values: Fields): void {
    const whole = { PR: 1, IR: 1, IW: 1, ADDR: index * 0x1000, ...values };
    this.layout(AT.host + 0x1000 + index * 8, HOST_PTE, whole);
  }

  /** A device with guest tables over host tables. */
  nestedDevice(values: Fields = {}): void {
    this.hostTables();
    this.guestDevice({ MODE: 2, HOST_ROOT: AT.host, ...values });
  }

  /** Run commands; the ring holds 256. */
  run(...commands: ArrayLike<number>[]): void {
    let tail = this.unit.readReg32(0x2008);
    for (const words of commands) {
      this.put(AT.commands + tail, words);
      tail = (tail + 16) % 4096;
    }
    this.unit.writeReg32(0x2008, tail);
  }

  /** DMA. @returns byte address, or -1 */
  dma(iova: number, { access = READ as number, pasid = -1, rid = RID } = {}): number {
    const offset = iova % 4096;
    const pfn = (iova - offset) / 4096;
    const frame = this.unit.translatePage(rid, pasid, pfn, access, offset);
    return frame < 0 ? -1 : frame * 4096 + offset;
  }

  /** ATS translation request. */
  ask(iova: number, { access = (READ | WRITE) as number, pasid = -1, rid = RID } = {}) {
    const completion = createAtsCompletion();
    this.unit.translationRequest(rid, pasid, Math.floor(iova / 4096), access, completion);
    return completion;
  }

  /** Page request. */
  request(values: Partial<PageRequest> = {}): void {
    this.unit.pageRequest({
      rid: RID,
      pasid: -1,
      addressPfn: 1,
      read: true,
      write: false,
      exec: false,
      priv: false,
      last: true,
      prgi: 3,
      ...values,
    });
  }

  word(pa: number): number {
    return this.memory.read32(pa) >>> 0;
  }

  /** Events in the log since the head: their four dwords. Moves the head. */
  takeEvents(): (readonly [number, number, number, number])[] {
    return this.#take(AT.events, 0x2010, 0x2018);
  }

  /** The same of the PPR log. */
  takePprs(): (readonly [number, number, number, number])[] {
    return this.#take(AT.pprs, 0x2030, 0x2038);
  }

  #take(base: number, headAt: number, tailAt: number) {
    const entries: (readonly [number, number, number, number])[] = [];
    let head = this.unit.readReg32(headAt);
    while (head !== this.unit.readReg32(tailAt)) {
      const word = (at: number) => this.word(base + head + at * 4);
      entries.push([word(0), word(1), word(2), word(3)]);
      head = (head + 16) % 4096;
    }
    this.unit.writeReg32(headAt, head);
    return entries;
  }
}

/** Names of the flags that an event has, and its code, DomainID or PASID, and address. */
export const describeEvent = ([w0, w1, w2, w3]: readonly [number, number, number, number]) => ({
  code: w1 >>> 28,
  rid: w0 & 0xffff,
  tag: (w1 & 0xffff) + ((w0 >>> 16) & 0xf) * 0x1_0000,
  flags: ['GN', 'NX', 'US', 'I', 'PR', 'RW', 'PE', 'RZ', 'TR']
    .filter((_, bit) => ((w1 >>> (16 + bit)) & 1) === 1)
    .join(' '),
  type: (w1 >>> 25) & 7,
  address: w2 + w3 * 2 ** 32,
});
