/** A guest kernel's driver for an SMMUv3: it knows registers, RAM and the architecture's layouts. */
import { type Decoded, decode, encode, type Kinds, type Layout, type Values } from '@iommukit/bits';
import {
  CD,
  CFGI,
  CFGI_RANGE,
  CMDQ_BASE,
  CMDQ_CONS,
  CMDQ_PROD,
  COMMAND,
  CR0,
  EVENT_RECORD,
  EVENTQ_BASE,
  EVENTQ_CONS,
  EVENTQ_PROD,
  GERROR,
  GERRORN,
  IDR1,
  RANGE_ALL,
  S1_DSS,
  STE,
  STE_CONFIG,
  STRTAB_BASE,
  STRTAB_BASE_CFG,
  SYNC,
  TLBI,
} from '@iommukit/driver-smmuv3';
import { PageTable } from './page-table.ts';
import { type Platform, readWords, writeEntry, writeWords } from './platform.ts';

const QUEUE_LG2 = 4;
const INDEX_MASK = 2 ** (QUEUE_LG2 + 1) - 1;
const STREAMS_LG2 = 8;
const STE_BYTES = 64;
const CD_BYTES = 64;
/** CDs of a device, lg2. */
const CONTEXTS_LG2 = 4;
const COMMAND_BYTES = 16;
const EVENT_BYTES = 32;

/** An event as the driver decoded it. */
export type GuestEvent = Decoded<typeof EVENT_RECORD extends Layout<infer K> ? K : never>;

/** An address space of the guest. */
export interface Space {
  readonly asid: number;
  readonly table: PageTable;
}

/** The driver of one unit. */
export class GuestDriver {
  readonly #platform: Platform;
  readonly #streams: number;
  readonly #commands: number;
  readonly #events: number;
  /** CD tables by StreamID. */
  readonly #contexts = new Map<number, number>();
  #nextAsid = 1;

  /** Bring the unit up. */
  constructor(platform: Platform) {
    this.#platform = platform;
    this.#streams = platform.allocPages((2 ** STREAMS_LG2 * STE_BYTES) / 4096);
    this.#commands = platform.allocPages(1);
    this.#events = platform.allocPages(1);
    const { CMDQEN, EVENTQEN, SMMUEN } = CR0.fields;
    this.#write64(STRTAB_BASE, { ADDR: this.#streams });
    platform.writeRegister(STRTAB_BASE_CFG.offset, STREAMS_LG2);
    this.#write64(CMDQ_BASE, { ADDR: this.#commands, LOG2SIZE: QUEUE_LG2 });
    this.#write64(EVENTQ_BASE, { ADDR: this.#events, LOG2SIZE: QUEUE_LG2 });
    platform.writeRegister(CR0.offset, CMDQEN.mask);
    this.#send(CFGI_RANGE, { OPCODE: COMMAND.CFGI_STE_RANGE, RANGE: RANGE_ALL });
    this.#send(TLBI, { OPCODE: COMMAND.TLBI_NSNH_ALL });
    this.sync();
    platform.writeRegister(CR0.offset, CMDQEN.mask | EVENTQEN.mask | SMMUEN.mask);
  }

  get identity(): string {
    const { SIDSIZE, SSIDSIZE } = decode(IDR1, [this.#platform.readRegister(IDR1.offset)]);
    return `StreamIDs of ${SIDSIZE} bits, SubstreamIDs of ${SSIDSIZE}`;
  }

  createSpace(): Space {
    return { asid: this.#nextAsid++, table: new PageTable(this.#platform) };
  }

  /** Give a device a table of contexts; 0 is that of requests without PASID. */
  addDevice(sid: number): void {
    const contexts = this.#platform.allocPages(1);
    this.#contexts.set(sid, contexts);
    this.writeStream(sid, {
      V: 1,
      CONFIG: STE_CONFIG.S1,
      S1CONTEXTPTR: contexts,
      S1CDMAX: CONTEXTS_LG2,
      S1DSS: S1_DSS.SSID0,
    });
  }

  /** Write a stream table entry and make the unit look at it. */
  writeStream(
    sid: number,
    fields: Partial<Record<'V' | 'CONFIG' | 'S1CONTEXTPTR' | 'S1CDMAX' | 'S1DSS', number>>,
  ): void {
    writeEntry(this.#platform, this.#streams + sid * STE_BYTES, STE, fields);
    this.#send(CFGI, { OPCODE: COMMAND.CFGI_STE, SID: sid, LEAF: 1 });
    this.sync();
  }

  /**
   * Let requests with a PASID use an address space. The descriptor was not valid before, so there is
   * nothing cached of it.
   */
  setContext(sid: number, pasid: number, { asid, table }: Space): void {
    const at = (this.#contexts.get(sid) as number) + pasid * CD_BYTES;
    const shape = { T0SZ: 64 - 48, EPD1: 1, IPS: 5, AA64: 1 };
    const faults = { R: 1, A: 1 };
    const own = { V: 1, ASET: 1, ASID: asid, TTB0: table.root };
    writeEntry(this.#platform, at, CD, { ...shape, ...faults, ...own });
  }

  /** A page of an address space changed. */
  invalidate({ asid }: Space, va: number): void {
    this.#send(TLBI, { OPCODE: COMMAND.TLBI_NH_VA, ASID: asid, ADDR: va, LEAF: 1 });
    this.sync();
  }

  /** Put a command into the queue that the unit does not know here. */
  sendIllegal(): void {
    this.#send(TLBI, { OPCODE: COMMAND.TLBI_S12_VMALL });
    this.sync();
  }

  /** The error that stopped the command queue, after which it goes on; 0 = none. */
  takeCommandError(): number {
    const active =
      this.#platform.readRegister(GERROR.offset) ^ this.#platform.readRegister(GERRORN.offset);
    if ((active & GERROR.fields.CMDQ_ERR.mask) === 0) return 0;
    const { INDEX, ERR } = decode(CMDQ_CONS, [this.#platform.readRegister(CMDQ_CONS.offset)]);
    // A SYNC in place of the command that was refused.
    const at = this.#commands + (INDEX & (2 ** QUEUE_LG2 - 1)) * COMMAND_BYTES;
    writeWords(this.#platform, at, encode(SYNC, { OPCODE: COMMAND.SYNC }));
    this.#platform.writeRegister(GERRORN.offset, this.#platform.readRegister(GERROR.offset));
    return ERR;
  }

  /** All commands so far have been executed. @throws {Error} when the unit stopped before */
  get isIdle(): boolean {
    const consumer = this.#platform.readRegister(CMDQ_CONS.offset) & INDEX_MASK;
    return consumer === (this.#platform.readRegister(CMDQ_PROD.offset) & INDEX_MASK);
  }

  /** Wait for everything before. */
  sync(): void {
    this.#send(SYNC, { OPCODE: COMMAND.SYNC });
  }

  /** Events since the last time, oldest first. */
  takeEvents(): GuestEvent[] {
    const events: GuestEvent[] = [];
    let consumer = this.#platform.readRegister(EVENTQ_CONS.offset);
    while (((consumer ^ this.#platform.readRegister(EVENTQ_PROD.offset)) & INDEX_MASK) !== 0) {
      const at = this.#events + (consumer & (2 ** QUEUE_LG2 - 1)) * EVENT_BYTES;
      events.push(decode(EVENT_RECORD, readWords(this.#platform, at, EVENT_BYTES / 4)));
      consumer = (consumer + 1) & INDEX_MASK;
    }
    this.#platform.writeRegister(EVENTQ_CONS.offset, consumer);
    return events;
  }

  #send<K extends Kinds>(layout: Layout<K>, values: Values<K>): void {
    const producer = this.#platform.readRegister(CMDQ_PROD.offset) & INDEX_MASK;
    const at = this.#commands + (producer & (2 ** QUEUE_LG2 - 1)) * COMMAND_BYTES;
    writeWords(this.#platform, at, encode(layout, values));
    this.#platform.writeRegister(CMDQ_PROD.offset, (producer + 1) & INDEX_MASK);
  }

  #write64(
    register: typeof STRTAB_BASE | typeof CMDQ_BASE | typeof EVENTQ_BASE,
    values: { readonly ADDR: number; readonly LOG2SIZE?: number },
  ): void {
    const words = encode(register as typeof CMDQ_BASE, values);
    this.#platform.writeRegister(register.offset, words[0] as number);
    this.#platform.writeRegister(register.offset + 4, words[1] as number);
  }
}
