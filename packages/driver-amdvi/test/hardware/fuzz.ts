/** Random machines: tables that mostly make sense, with damage, in 64 pages of memory. */
import {
  ACCESS,
  createAtsCompletion,
  INVALIDATION_ANSWER,
  type InvalidationAnswer,
} from '@iommukit/core';
import { AmdviHardware, FULL_EFR, FULL_EFR2 } from '../../src/index.ts';
import { Reference, type ReferenceRequest } from './reference.ts';

const PAGE = 4096;
const PAGES = 64;
const MEMORY_BYTES = PAGES * PAGE;
const AT = {
  deviceTable: 0x1000,
  gcr3: 0x2000,
  commands: 0x5000,
  events: 0x6000,
  pprs: 0x7000,
  tables: 0x8000,
};
const FRAMES = 32;
const RIDS = [0, 1, 2, 3];
const ANSWERS = Object.values(INVALIDATION_ANSWER);

/** Deterministic random numbers (mulberry32). */
const random = (seed: number): ((below: number) => number) => {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b_79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
};

/** One memory, one unit. */
export class FuzzMachine {
  readonly i32 = new Int32Array(MEMORY_BYTES / 4);
  readonly unit: AmdviHardware;
  readonly #next: (below: number) => number;
  readonly #control: readonly [lo: number, hi: number];

  constructor(seed: number) {
    this.#next = random(seed);
    const region = { base: 0, size: MEMORY_BYTES, i32: this.i32 };
    const memory = {
      regionAt: (pa: number) => {
        if (!(Number.isSafeInteger(pa) && pa >= 0 && pa < 2 ** 53 && pa % 4 === 0)) {
          throw new Error(`an address that no bus has: ${pa}`);
        }
        return pa < MEMORY_BYTES ? region : undefined;
      },
    };
    this.unit = new AmdviHardware({
      memory,
      bus: { invalidateDeviceTlb: (rid) => ANSWERS[rid % 3] as InvalidationAnswer },
      capabilities: { efr: FULL_EFR, efr2: FULL_EFR2, iotlbSup: true },
      caches: { deviceEntries: 4, iotlbEntries: 64, guestEntries: 4 },
    });
    const guest = this.#chance(90) ? 1 << 16 : 0;
    const disabled = (this.#chance(20) ? 1 << 16 : 0) | (this.#chance(20) ? 1 << 22 : 0);
    const trp = this.#chance(50) ? 1 << 26 : 0;
    this.#control = [0xf005 | guest, disabled | trp];
  }

  #chance(percent: number): boolean {
    return this.#next(100) < percent;
  }

  #put(pa: number, lo: number, hi: number): void {
    this.i32[pa / 4] = lo;
    this.i32[pa / 4 + 1] = hi;
  }

  /** A word with one or two random bits flipped, sometimes. */
  #damaged(pa: number, lo: number, hi: number, percent = 3): void {
    let [l, h] = [lo, hi];
    for (let n = this.#chance(percent) ? 1 + this.#next(2) : 0; n > 0; n--) {
      const at = this.#next(64);
      if (at < 32) l ^= 1 << at;
      else h ^= 1 << (at - 32);
    }
    this.#put(pa, l, h);
  }

  /** Pages 0 to 15 hold guest tables, 16 to 31 host tables. */
  #guestPage(): number {
    return AT.tables + this.#next(FRAMES / 2) * PAGE;
  }

  #hostPage(): number {
    return AT.tables + (FRAMES / 2 + this.#next(FRAMES / 2)) * PAGE;
  }

  /** Fill every table; the pages point at each other at random. */
  build(): this {
    for (const rid of RIDS) this.#deviceEntry(rid);
    for (let page = 0; page < 3; page++) this.#gcr3Table(AT.gcr3 + page * PAGE, page === 0);
    for (let page = 0; page < FRAMES; page++) {
      const table = AT.tables + page * PAGE;
      for (let slot = 0; slot < 8; slot++) this.#fill(table, slot, page < FRAMES / 2);
      this.#fill(table, 511, page < FRAMES / 2);
    }
    return this;
  }

  #fill(table: number, slot: number, guest: boolean): void {
    if (guest) this.#guestEntry(table + slot * 8);
    else this.#hostEntry(table + slot * 8);
  }

  #deviceEntry(rid: number): void {
    const pa = AT.deviceTable + rid * 32;
    const mode = this.#chance(35) ? 0 : 1 + this.#next(this.#chance(90) ? 4 : 7);
    const had = [0, 0, 1, 3, 3][this.#next(5)] as number;
    const valid = this.#chance(97) ? 3 : this.#next(4);
    const glx = this.#next(this.#chance(95) ? 2 : 4);
    const guest = (this.#chance(80) ? 1 << 23 : 0) | (this.#chance(50) ? 1 << 22 : 0);
    const rights = this.#chance(90) ? 0x6000_0000 : this.#next(4) << 29;
    const gcr3 = AT.gcr3 + (glx === 0 ? 0 : PAGE);
    this.#damaged(
      pa,
      valid | (had << 7) | (mode << 9) | this.#hostPage(),
      guest | (glx << 24) | ((gcr3 >>> 12) << 26) | rights,
      2,
    );
    this.#damaged(pa + 8, 1 + this.#next(3) + ((gcr3 >>> 15) << 16), this.#chance(50) ? 1 : 0, 1);
    this.#logAll(pa);
    this.#damaged(pa + 16, 0, this.#chance(30) ? 1 << 22 : 0, 1);
    this.#put(pa + 24, 0, 0);
  }

  /** SE and SA keep events out of the log, where comparisons read them. */
  #logAll(pa: number): void {
    const high = pa / 4 + 3;
    this.i32[high] = (this.i32[high] as number) & ~6;
  }

  #gcr3Table(table: number, last: boolean): void {
    for (let slot = 0; slot < 8; slot++) {
      const next = last ? this.#guestPage() : AT.gcr3 + (this.#chance(90) ? 0 : PAGE);
      this.#damaged(table + slot * 8, next | (this.#chance(95) ? 1 : 0), 0);
    }
  }

  #guestEntry(pa: number): void {
    const rights = this.#chance(85) ? 6 : this.#next(4) << 1;
    const present = this.#chance(95) ? 1 : 0;
    const page = this.#chance(12) ? 0x80 : 0;
    const bits = present | rights | page | (this.#next(4) << 5);
    const target = page === 0 ? AT.tables + this.#next(FRAMES / 2) * PAGE : 0;
    this.#damaged(pa, bits | target, this.#chance(8) ? 0x8000_0000 : 0);
  }

  /** Level 1 tables of host pages map one to one often, so that nested walks get far. */
  #hostEntry(pa: number): void {
    const rights = this.#chance(85) ? 0x6000_0000 : this.#next(4) << 29;
    const present = this.#chance(96) ? 1 : 0;
    const kind = this.#next(10);
    const next = kind < 3 ? 0 : kind < 9 ? 1 + this.#next(3) : this.#next(8);
    const coded = next === 7 ? 0x7000 : 0;
    const target = next === 0 && this.#chance(70) ? 0 : this.#hostPage();
    this.#damaged(pa, present | (this.#next(4) << 5) | (next << 9) | target | coded, rights);
  }

  /** Program the registers. */
  enable(): this {
    const { unit } = this;
    unit.writeReg64(0x0, AT.deviceTable, 0);
    unit.writeReg64(0x8, AT.commands, 0x0800_0000);
    unit.writeReg64(0x10, AT.events, 0x0800_0000);
    unit.writeReg64(0x38, AT.pprs, 0x0800_0000);
    unit.writeReg64(0x18, this.#control[0], this.#control[1]);
    return this;
  }

  /** The reference beside the unit, over a copy of its memory. */
  reference(copy: Int32Array): Reference {
    const { features } = this.unit;
    const [lo, hi] = this.#control;
    const memory = {
      read: (pa: bigint) => {
        if (pa >= BigInt(MEMORY_BYTES)) return undefined;
        const at = Number(pa) / 4;
        const half = (word: number) => BigInt((copy[word] as number) >>> 0);
        return (half(at + 1) << 32n) | half(at);
      },
      write: (pa: bigint, value: bigint) => {
        copy[Number(pa) / 4] = Number(value & 0xffff_ffffn) | 0;
        copy[Number(pa) / 4 + 1] = Number(value >> 32n) | 0;
      },
    };
    return new Reference(memory, {
      deviceTable: BigInt(AT.deviceTable),
      deviceTableBytes: PAGE,
      guestTables: (lo & (1 << 16)) !== 0,
      gcr3AtGuestPhysical: (hi & (1 << 26)) !== 0,
      guestAccessed: (hi & (1 << 22)) === 0,
      guestDirty: (hi & (1 << 16)) === 0,
      hostLevels: features.hostLevels,
      guestLevels: features.guestLevels,
      glx: features.glx,
      pasidBits: features.pasidBits,
    });
  }

  /** A request that a path may lead somewhere for. */
  request(): ReferenceRequest {
    const tagged = this.#chance(60);
    const pasid = tagged ? this.#next(this.#chance(95) ? 8 : 0x2_0000) : -1;
    let page = 0n;
    for (let level = 0; level < 5; level++) {
      const index = this.#chance(30) ? this.#next(8) : 0;
      page |= BigInt(index) << BigInt(9 * level);
    }
    if (this.#chance(5)) page |= 0xf_ffff_8000_0000n << BigInt(this.#next(4));
    const address = ((page << 12n) | BigInt(this.#next(1024) * 4)) & 0xffff_ffff_ffff_ffffn;
    const write = this.#chance(40);
    const privileged = this.#chance(40);
    return {
      rid: this.#chance(98) ? (RIDS[this.#next(4)] as number) : 128 + this.#next(1000),
      pasid,
      address,
      write,
      read: !write || this.#chance(20),
      user: !tagged || !privileged,
      execute: tagged && this.#chance(15),
    };
  }

  /** Send it. @returns byte address, or the event that was logged */
  send({ rid, pasid, address, ...request }: ReferenceRequest): bigint | readonly [bigint, bigint] {
    const access =
      (request.read ? ACCESS.READ : 0) |
      (request.write ? ACCESS.WRITE : 0) |
      (request.execute ? ACCESS.EXEC : 0) |
      (pasid >= 0 && !request.user ? ACCESS.PRIV : 0);
    const before = this.unit.readReg32(0x2018);
    const pfn = Number(address >> 12n);
    const frame = this.unit.translatePage(rid, pasid, pfn, access, Number(address & 0xfffn));
    if (frame >= 0) return (BigInt(frame) << 12n) | (address & 0xfffn);
    this.unit.writeReg32(0x2010, this.unit.readReg32(0x2018));
    const at = (AT.events + before) / 4;
    const half = (word: number) => BigInt((this.i32[at + word] as number) >>> 0);
    return [(half(1) << 32n) | half(0), (half(3) << 32n) | half(2)];
  }

  /** A copy of the memory. */
  copy(): Int32Array {
    return this.i32.slice();
  }

  /** Take the rings over into a copy: damaged pointers may lead a walk there. */
  followRings(copy: Int32Array): void {
    copy.set(this.i32.subarray(AT.commands / 4, AT.tables / 4), AT.commands / 4);
  }

  /** First dword in which tables and configuration (not the logs) differ from a copy; -1 = none. */
  differs(copy: Int32Array): number {
    for (let at = 0; at < copy.length; at++) {
      const isLog = at >= AT.commands / 4 && at < AT.tables / 4;
      if (!isLog && copy[at] !== this.i32[at]) return at;
    }
    return -1;
  }

  /** Change a word of a table, as software does. */
  mutate(): void {
    const table = this.#chance(50) ? this.#hostPage() : this.#guestPage();
    const pa = this.#chance(10) ? AT.deviceTable + this.#next(16) * 8 : table + this.#next(8) * 8;
    const at = pa / 4 + this.#next(2);
    this.i32[at] = (this.i32[at] as number) ^ (1 << this.#next(32));
    for (const rid of RIDS) this.#logAll(AT.deviceTable + rid * 32);
  }

  /** Write something to some register. */
  pokeRegister(): void {
    const offsets = [0, 8, 0x10, 0x18, 0x20, 0x28, 0x38, 0xf0, 0xf8, 0x158, 0x2000, 0x2008, 0x2010];
    const more = [0x2018, 0x2020, 0x2030, 0x2038, 0x2058, 0x2078, 0x2080, 0x2088, 0x170, 0x104];
    const all = [...offsets, ...more];
    const offset = (all[this.#next(all.length)] as number) + 4 * this.#next(2);
    const value = this.#chance(50) ? this.#next(2 ** 32) : this.#next(0x20) * 16;
    if (this.#chance(30)) this.unit.writeReg64(offset & ~7, value, this.#next(2 ** 32));
    else this.unit.writeReg32(offset, value);
  }

  /** Put a command into the ring and ring the bell. */
  anyCommand(): void {
    const { unit } = this;
    const tail = unit.readReg32(0x2008);
    const at = (AT.commands + (tail % PAGE)) / 4;
    const opcode = this.#next(16) << 28;
    const words = [this.#next(5), opcode | this.#next(4), this.#next(8), 0];
    for (let word = 0; word < 4; word++) {
      const wild = this.#chance(10) ? this.#next(2 ** 32) : (words[word] as number);
      this.i32[at + word] = wild | 0;
    }
    unit.writeReg32(0x2008, (tail + 16) % PAGE);
  }

  /** Any kind of request with any values. @returns a frame, or negative */
  anyRequest(): number {
    const { unit } = this;
    const rid = this.#chance(80) ? this.#next(5) : this.#next(0x1_0000);
    const pasid = this.#chance(50) ? -1 : this.#next(this.#chance(80) ? 8 : 0x10_0000);
    const wild = this.#next(2 ** 26) * 2 ** 26 + this.#next(2 ** 26);
    const pfn = this.#chance(70) ? this.#next(4096) : wild;
    const access = this.#next(128);
    const kind = this.#next(10);
    if (kind < 6) return unit.translatePage(rid, pasid, pfn, access, this.#next(PAGE));
    if (kind < 7) return unit.translatedPage(rid, pasid, pfn, access);
    if (kind < 9) {
      const completion = createAtsCompletion();
      unit.translationRequest(rid, pasid, pfn, access, completion);
      return completion.pfn;
    }
    unit.pageRequest({
      rid,
      pasid,
      addressPfn: pfn,
      read: this.#chance(50),
      write: this.#chance(50),
      exec: this.#chance(10),
      priv: this.#chance(50),
      last: this.#chance(50),
      prgi: this.#next(512),
    });
    return 0;
  }
}
