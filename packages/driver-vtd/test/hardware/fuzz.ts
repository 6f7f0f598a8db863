/** Random machines: tables that mostly make sense, with damage, in 64 pages of memory. */
import {
  ACCESS,
  type BusPort,
  createAtsCompletion,
  createInterruptMessage,
  INVALIDATION_ANSWER,
  type InterruptMessage,
  type InvalidationAnswer,
} from '@iommukit/core';
import { createVtdHardware, type VtdHardware } from '../../src/hardware/index.ts';
import type { ReferenceInterruptUnit } from './reference-interrupts.ts';

const PAGES = 64;
const PAGE = 4096;
const MEMORY_BYTES = PAGES * PAGE;

/** Deterministic random numbers (mulberry32). */
function random(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b_79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

const ANSWERS = Object.values(INVALIDATION_ANSWER);

const bus: BusPort = {
  deliverPageResponse() {},
  invalidateDeviceTlb: (rid) => ANSWERS[rid % 3] as InvalidationAnswer,
  raiseMessage() {},
};

/** Byte offsets of the structures that a request of this machine meets. */
const AT = { root: 0x1000, context: 0x2000, directory: 0x3000, pasids: 0x4000, tables: 0x8000 };
const RIDS = [0x00, 0x08, 0x80, 0x81, 0x100];
/** Host permission tables by level, from level 4 down: first page and how many there are. */
const PERMISSIONS = {
  4: [0x2_8000, 1],
  3: [0x2_9000, 2],
  2: [0x2_b000, 2],
  1: [0x2_d000, 3],
} as const;
const INTERRUPTS = 0x3_0000;
const DESCRIPTORS = 0x3_1000;
/** Interrupt remapping, posting and host permission tables. */
export const EVERYTHING = {
  cap: { PI: 1 },
  ecap: { IR: 1, EIM: 1, HPTS: 1, HPT1GPS: 1, PTRS: 1 },
};
const FRAMES = 32;
const { READ, WRITE, ATOMIC, ZERO_LENGTH } = ACCESS;
const ACCESSES = [READ, WRITE, ATOMIC, READ | ZERO_LENGTH, READ | WRITE];

/** One memory, one unit. */
export class FuzzMachine {
  readonly i32 = new Int32Array(MEMORY_BYTES / 4);
  readonly unit: VtdHardware;
  rtaddr = BigInt(AT.root);
  readonly #next: (below: number) => number;
  readonly #region = { base: 0, size: MEMORY_BYTES, i32: this.i32 };

  constructor(seed: number, capabilities = {}) {
    this.#next = random(seed);
    const memory = {
      regionAt: (pa: number) => (pa >= 0 && pa < MEMORY_BYTES ? this.#region : undefined),
    };
    this.unit = createVtdHardware({ memory, bus, capabilities, iotlbEntriesLg2: 6 });
  }

  read(pa: bigint): bigint | undefined {
    if (pa >= BigInt(MEMORY_BYTES)) return undefined;
    const at = Number(pa) / 4;
    return (
      (BigInt((this.i32[at + 1] as number) >>> 0) << 32n) | BigInt((this.i32[at] as number) >>> 0)
    );
  }

  #put(pa: number, lo: number, hi: number): void {
    this.i32[pa / 4] = lo;
    this.i32[pa / 4 + 1] = hi;
  }

  #chance(percent: number): boolean {
    return this.#next(100) < percent;
  }

  /** A word with one or two random bits flipped, sometimes. */
  #damaged(pa: number, lo: number, hi: number, percent = 4): void {
    let [l, h] = [lo, hi];
    for (let n = this.#chance(percent) ? 1 + this.#next(2) : 0; n > 0; n--) {
      const bit = this.#next(64);
      if (bit < 32) l ^= 1 << bit;
      else h ^= 1 << (bit - 32);
    }
    this.#put(pa, l, h);
  }

  #tablePage(): number {
    return AT.tables + this.#next(FRAMES) * PAGE;
  }

  /** Fill every table; the pages point at each other at random. */
  build(): this {
    const scalable = this.#chance(75);
    this.rtaddr = BigInt(AT.root | (scalable ? 0x400 : 0));
    this.i32.fill(0);
    for (let bus = 0; bus < 2; bus++) {
      this.#damaged(AT.root + bus * 16, AT.context | 1, 0, 2);
      if (scalable) this.#damaged(AT.root + bus * 16 + 8, AT.context | 1, 0, 2);
      else this.#damaged(AT.root + bus * 16 + 8, 0, 0, 2);
    }
    for (const rid of RIDS) this.#context(rid, scalable);
    for (let i = 0; i < 4; i++) this.#damaged(AT.directory + i * 8, AT.pasids | 1, 0, 3);
    for (let pasid = 0; pasid < 64; pasid++) this.#pasidEntry(pasid);
    for (let page = 0; page < FRAMES; page++) this.#fillTable(AT.tables + page * PAGE);
    if (this.unit.features.hostPermission) this.#fillPermissions();
    if (this.unit.features.interruptRemapping) this.#fillInterrupts();
    return this;
  }

  #permissionPage(level: 1 | 2 | 3): number {
    const [first, count] = PERMISSIONS[level];
    return first + this.#next(count) * PAGE;
  }

  /** Four pairs of R and W in each half word; reserved bits stay clear. */
  #pairs(): number {
    return this.#chance(30)
      ? 0
      : this.#next(0x1_0000_0000) & this.#next(0x1_0000_0000) & 0x3333_3333;
  }

  #fillPermissions(): void {
    for (const level of [4, 3, 2, 1] as const) {
      const [first, count] = PERMISSIONS[level];
      for (let at = first; at < first + count * PAGE; at += 16) {
        const below = level === 1 ? undefined : ((level - 1) as 1 | 2 | 3);
        const valid = below !== undefined && this.#chance(85);
        const low = level === 4 ? 0 : this.#pairs();
        this.#damaged(at, low, level === 1 || level === 2 ? this.#pairs() : 0, 1);
        if (below === undefined) this.#damaged(at + 8, this.#pairs(), this.#pairs(), 1);
        else this.#damaged(at + 8, valid ? this.#permissionPage(below) | 1 : 0, 0, 1);
      }
    }
  }

  #fillInterrupts(): void {
    for (let index = 0; index < 256; index++) {
      const at = INTERRUPTS + index * 16;
      const posted = this.#chance(40);
      const descriptor = DESCRIPTORS + this.#next(64) * 64;
      const flags =
        (this.#chance(90) ? 1 : 0) | (this.#chance(10) ? 2 : 0) | (this.#next(256) << 16);
      const mode = posted ? 0x8000 | (this.#next(2) << 14) : this.#next(64) << 2;
      this.#damaged(at, flags | mode, posted ? descriptor : this.#next(256) << 8);
      const sid = this.#chance(60)
        ? (RIDS[this.#next(RIDS.length)] as number)
        : this.#next(0x1_0000);
      this.#damaged(at + 8, sid | (this.#next(this.#chance(95) ? 12 : 16) << 16), 0);
    }
    for (let n = 0; n < 64; n++) {
      const at = DESCRIPTORS + n * 64;
      this.#damaged(at + 32, this.#next(4) | (this.#next(256) << 16), this.#next(256) << 8);
      for (const word of [40, 48, 56]) this.#damaged(at + word, 0, 0, 1);
    }
  }

  #context(rid: number, scalable: boolean): void {
    if (!scalable) {
      const at = AT.context + (rid & 0xff) * 16;
      const tt = this.#chance(80) ? this.#next(3) : 3;
      this.#damaged(at, this.#tablePage() | (tt << 2) | 1, 0);
      this.#damaged(at + 8, (1 + this.#next(3)) | (this.#next(4) << 8), 0);
      return;
    }
    const at = AT.context + (rid & 0x7f) * 32;
    const { hostPermission, translatedPasid } = this.unit.features;
    const optional =
      (hostPermission && this.#chance(85) ? 0x20 : 0) |
      (translatedPasid && this.#chance(60) ? 0x40 : 0);
    const flags = (this.#chance(80) ? 0x1c : this.#next(32) & 0x1c) | 1 | optional;
    this.#damaged(at, AT.directory | flags | (this.#next(8) << 9), 0);
    this.#damaged(at + 8, this.#next(4), 0);
    this.#damaged(at + 16, 0, 0, 1);
    this.#damaged(at + 24, 0, 0, 1);
  }

  #pasidEntry(pasid: number): void {
    const at = AT.pasids + pasid * 64;
    const pgtt = this.#chance(90) ? 1 + this.#next(4) : this.#next(8);
    const ssade = this.#chance(30) ? 0x200 : 0;
    this.#damaged(at, this.#tablePage() | ssade | (pgtt << 6) | ((1 + this.#next(3)) << 2) | 1, 0);
    const snoop = this.#chance(90) ? 0x80_0000 : 0;
    this.#damaged(at + 8, snoop | (this.#chance(20) ? 0x100_0000 : 0) | this.#next(6), 0);
    const flags =
      (this.#next(2) * 1) | (this.#next(2) << 2) | (this.#next(2) << 4) | (this.#next(2) << 7);
    this.#damaged(at + 16, this.#tablePage() | flags, 0);
    const permissions = this.unit.features.hostPermission;
    for (let i = 3; i < 8; i++)
      if (permissions && i === 4) this.#damaged(at + 32, PERMISSIONS[4][0] | this.#next(8), 0, 2);
      else this.#damaged(at + i * 8, permissions && i === 5 ? this.#next(3) : 0, 0, 1);
  }

  #fillTable(base: number): void {
    for (let i = 0; i < 512; i++) {
      if (i >= 16 && i < 496) continue;
      const large = this.#chance(15);
      const low = (this.#chance(85) ? 7 : this.#next(8)) | (large ? 0x80 : 0);
      const address = large ? this.#next(4) * 2 ** 30 : this.#tablePage();
      const accessed = this.#chance(50) ? 0x760 : 0;
      this.#damaged(base + i * 8, (address | low | accessed) & ~(large ? 0x400 : 0), 0, 2);
    }
  }

  enable(): this {
    this.unit.writeRegister64(0x20, this.rtaddr);
    this.unit.writeReg32(0x18, 0x4000_0000);
    this.unit.writeReg32(0x18, 0x8000_0000);
    return this;
  }

  /** A request whose address hits filled entries mostly. */
  request() {
    const index = () => (this.#chance(90) ? this.#next(16) : this.#next(512));
    let pfn = 0;
    for (let level = 0; level < 5; level++)
      pfn += (level > 2 && this.#chance(70) ? 0 : index()) * 512 ** level;
    if (this.#chance(15)) pfn += 2 ** 52 - 2 ** 44;
    return {
      rid: RIDS[this.#next(RIDS.length)] as number,
      pasid: this.#chance(60) ? this.#next(70) : -1,
      pfn: Math.min(pfn, 2 ** 52 - 1),
      write: this.#chance(40),
      priv: this.#chance(20),
    };
  }

  /** A translated request whose address hits filled entries mostly. */
  permissionRequest() {
    const index = () => this.#next(this.#chance(90) ? 8 : 256);
    const low = this.#next(32) + index() * 2 ** 5 + this.#next(16) * 2 ** 9;
    const high = index() * 2 ** 13 + this.#next(8) * 2 ** 18 + index() * 2 ** 21;
    const top = this.#next(this.#chance(95) ? 2 : 0x1000) * 2 ** 29;
    return {
      rid: RIDS[this.#next(RIDS.length)] as number,
      pasid: this.#chance(50) ? this.#next(70) : -1,
      pfn: low + high + top,
      access: ACCESSES[this.#next(ACCESSES.length)] as number,
    };
  }

  /** Latch and enable interrupt remapping. */
  enableInterrupts(): ReferenceInterruptUnit {
    const extended = this.#chance(30);
    const compatibility = this.#chance(50);
    const size = this.#chance(80) ? 7 : this.#next(16);
    const irta = BigInt(INTERRUPTS | (extended ? 0x800 : 0) | size);
    this.unit.writeRegister64(0xb8, irta);
    this.unit.writeReg32(0x18, 0x0100_0000);
    this.unit.writeReg32(0x18, compatibility ? 0x0280_0000 : 0x0200_0000);
    return { enabled: true, compatibility, irta };
  }

  /** A write of four bytes to FEEx_xxxxh. */
  interruptRequest() {
    const handle = this.#next(this.#chance(90) ? 280 : 0x1_0000);
    const shv = this.#chance(30);
    const format = this.#chance(90) ? 0x10 : 0;
    const address =
      0xfee0_0000 + (handle & 0x7fff) * 32 + (handle >> 15) * 4 + format + (shv ? 8 : 0);
    const data = this.#next(this.#chance(80) ? 16 : 0x1_0000_0000);
    return { rid: RIDS[this.#next(RIDS.length)] as number, address, data };
  }

  readonly #message = createInterruptMessage();

  /** Send one; the message is the machine's own. */
  interrupt(rid: number, address: number, data: number, bytes = 4): [number, InterruptMessage] {
    const message = this.#message;
    return [this.unit.remapInterrupt(rid, address, data, bytes, message), message];
  }

  /** Change one word of memory: a bit, or the whole word. */
  mutate(): void {
    const at = this.#next(this.i32.length);
    this.i32[at] = this.#chance(50)
      ? (this.i32[at] as number) ^ (1 << this.#next(32))
      : this.#next(0x1_0000_0000) | 0;
  }

  /** Write a random register, mostly one that exists. */
  pokeRegister(): void {
    const known = [
      0x18, 0x20, 0x24, 0x28, 0x2c, 0x34, 0x38, 0x3c, 0x40, 0x64, 0x80, 0x88, 0x90, 0x94, 0x9c,
      0xa0, 0xa8, 0xb8, 0xbc, 0xc0, 0xc8, 0xd0, 0xd4, 0xdc, 0xe0, 0x22c, 0x23c, 0xe00, 0xf00, 0xf04,
      0xf08, 0xf0c,
    ];
    const offset = this.#chance(90)
      ? (known[this.#next(known.length)] as number)
      : this.#next(0x500) * 4;
    const value = this.#chance(50) ? this.#next(0x1_0000_0000) : this.#next(0x4_0000);
    this.unit.writeReg32(offset, this.#chance(20) ? 2 ** this.#next(32) : value);
  }

  /** Any request of any kind; the answer is checked for range only. */
  anyRequest(): number {
    const { rid, pasid, pfn } = this.request();
    const access = this.#next(128);
    const kind = this.#next(20);
    if (kind === 0) {
      this.unit.pageRequest({
        rid,
        pasid,
        addressPfn: pfn,
        read: true,
        write: this.#chance(50),
        exec: false,
        priv: false,
        last: this.#chance(50),
        prgi: this.#next(512),
      });
      return -1;
    }
    if (kind === 1) {
      const completion = createAtsCompletion();
      this.unit.translationRequest(rid, pasid, pfn, access, completion);
      return completion.status === 0 ? completion.pfn : -1;
    }
    if (kind === 2) return this.unit.translatedPage(rid, pasid, pfn, access);
    if (kind === 3) {
      const { address, data } = this.interruptRequest();
      return Math.min(this.interrupt(rid, address, data, this.#chance(95) ? 4 : 8)[0], 0);
    }
    if (kind === 4) {
      const request = this.permissionRequest();
      return this.unit.translatedPage(rid, request.pasid, request.pfn, request.access);
    }
    return this.unit.translatePage(rid, pasid, pfn, access);
  }
}

/** Compare a fresh unit with the reference; ACCESS bits of a request. */
export const accessOf = (request: { write: boolean; priv: boolean; pasid: number }) =>
  (request.write ? ACCESS.WRITE : ACCESS.READ) |
  (request.priv && request.pasid >= 0 ? ACCESS.PRIV : 0);
