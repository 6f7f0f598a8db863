/**
 * Machines of random configuration and tables: every page holds descriptors that look right more
 * often than not, made when it is first touched. The same seed gives the same machine.
 */
import { encode } from '@iommukit/bits';
import { isStalled, RAZ_WI } from '@iommukit/core';
import type { SmmuCapabilities } from '../../src/hardware/capabilities.ts';
import { SmmuHardware } from '../../src/hardware/iommu.ts';
import { type HardwareRegion, swapBytes } from '../../src/hardware/memory.ts';
import { CD, L1CD, L1STD, STE } from '../../src/spec/index.ts';
import { Reference, type ReferenceRequest, type ReferenceResult } from './reference.ts';

const PAGE = 4096;
/** RAM: one MiB; what is beyond it does not answer. */
const RAM = 0x4000_0000;
const RAM_PAGES = 256;
const STREAMS = RAM;
const SECOND_LEVEL = RAM + 0x1000;
const CONTEXTS = RAM + 0x2000;
const IDENTITY = RAM + 0x4000;
const EVENTS = 0x7000_0000;
const FIRST_TABLE_PAGE = 16;
const STREAM_COUNT = 8;

/** Units to try, from plain to everything. */
export const PROFILES: readonly SmmuCapabilities[] = [
  {},
  {
    idr0: { HYP: 1, HTTU: 3, STALL_MODEL: 0, TERM_MODEL: 0, TTENDIAN: 0 },
    idr1: { ATTR_PERMS_OVR: 1 },
    idr3: { XNX: 1, STT: 1, E0PD: 1, EPAN: 1, FWB: 1 },
    idr5: { OAS: 6, DS: 1, VAX: 1, STALL_MAX: 4 },
    aidr: 3,
  },
  { idr0: { HTTU: 1, VMID16: 0, ASID16: 0, CD2L: 0 }, idr3: { XNX: 0, HAD: 0 }, idr5: { OAS: 2 } },
  { idr0: { STALL_MODEL: 2, HTTU: 0, TTENDIAN: 3 }, idr5: { OAS: 5, STALL_MAX: 2, GRAN16K: 0 } },
  { idr0: { S1P: 0 }, idr3: { STT: 1 }, idr5: { OAS: 4 } },
  { idr0: { S2P: 0, HTTU: 2, ATS: 0 }, idr1: { SSIDSIZE: 0 }, idr5: { OAS: 6, VAX: 1 } },
];

/** A small generator: same seed, same numbers. */
const generator = (seed: number) => {
  let state = (seed * 0x9e3779b1 + 0x7f4a7c15) | 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
  const below = (n: number) => next() % n;
  return {
    below,
    word: next,
    /** True once in `n` times. */
    once: (n: number) => below(n) === 0,
    pick: <T>(...values: readonly T[]): T => values[below(values.length)] as T,
  };
};

type Random = ReturnType<typeof generator>;

/** A descriptor for any granule: table, block or page somewhere in RAM. */
const descriptor = (r: Random): [lo: number, hi: number] => {
  const type = r.pick(3, 3, 3, 3, 3, 3, 3, 1, 1, r.below(4));
  const page = r.once(3)
    ? 16 * (1 + r.below(15))
    : FIRST_TABLE_PAGE + r.below(RAM_PAGES - FIRST_TABLE_PAGE);
  let lo = (RAM + page * PAGE) | type;
  // MemAttr Normal and both rights of either stage, more often than not.
  lo |= r.once(6) ? r.below(1024) & 0xffc : r.pick(0x7c, 0x7c, 0xfc, 0xc0, 0x4c);
  if (!r.once(5)) lo |= 0x400;
  if (r.once(3)) lo |= 0x800;
  let hi = r.once(4) ? r.word() & 0xffff_0000 : r.once(2) ? 1 << 19 : 0;
  if (r.once(20)) hi |= r.word();
  return [lo, hi];
};

/** Granule code, start level code and T0SZ that go together; the last ones need DS, STT or 52 bits. */
const SHAPES = [
  [0, 1, 25],
  [0, 1, 30],
  [0, 0, 34],
  [0, 0, 40],
  [0, 2, 24],
  [0, 1, 24],
  [0, 1, 26],
  [2, 2, 26],
  [2, 1, 34],
  [2, 1, 28],
  [2, 0, 36],
  [1, 2, 20],
  [1, 1, 34],
  [1, 1, 26],
  [1, 0, 34],
  [0, 3, 45],
  [1, 2, 12],
  [2, 3, 12],
  [0, 0, 12],
  [0, 2, 12],
] as const;

const stage2Fields = (r: Random) => {
  const identity = !r.once(3);
  const legal = r.pick<readonly number[]>(...SHAPES);
  const shape = r.once(8) ? [r.below(4), r.below(4), r.below(64)] : legal;
  const [S2TG = 0, sl = 0, t0sz = 0] = shape;
  return {
    S2VMID: r.pick(0, 7, 0x100),
    S2T0SZ: identity ? 25 : t0sz,
    S2SL0: identity ? 1 : sl,
    S2TG: identity ? 0 : S2TG,
    S2PS: r.once(10) ? r.below(8) : 6,
    S2AA64: r.once(60) ? 0 : 1,
    S2ENDI: r.once(8) ? 1 : 0,
    S2AFFD: r.below(2),
    S2PTW: r.once(4) ? 1 : 0,
    S2HD: r.below(2),
    S2HA: r.once(3) ? 0 : 1,
    S2HAFT: r.once(6) ? 1 : 0,
    S2S: r.below(2),
    S2R: r.below(2),
    S2SL0_2: r.once(4) ? 1 : 0,
    S2DS: r.once(4) ? 1 : 0,
    S2FWB: r.below(2),
    S2TTB: identity ? IDENTITY : RAM + 16 * (1 + r.below(15)) * PAGE,
  };
};

const streamFields = (r: Random) => ({
  V: r.once(60) ? 0 : 1,
  CONFIG: r.pick(5, 5, 5, 5, 6, 6, 6, 7, 7, 7, 7, 7, 7, r.below(8)),
  S1FMT: r.below(4),
  S1CONTEXTPTR: r.once(60) ? 2 ** 50 : CONTEXTS,
  S1CDMAX: r.pick(0, 0, 0, 0, 2, 7, r.once(4) ? r.below(32) : 3),
  S1DSS: r.pick(2, 2, 1, r.below(4)),
  S1STALLD: r.once(8) ? 1 : 0,
  EATS: r.once(8) ? r.below(4) : 0,
  STRW: r.once(3) ? r.pick(2, 2, r.below(4)) : 0,
  PRIVCFG: r.once(3) ? r.below(4) : 0,
  INSTCFG: r.once(3) ? r.below(4) : 0,
  ...stage2Fields(r),
});

/** T0SZ: what every unit takes, what some do, anything. */
const inputSize = (r: Random) =>
  r.once(12) ? r.below(64) : r.once(6) ? r.pick(12, 42, 47) : r.pick(16, 25, 25, 28, 30, 34);

const contextFields = (r: Random) => {
  const granule = r.once(20) ? 0 : r.pick(12, 14, 16);
  const ttb = () => (r.once(40) ? 2 ** 49 : RAM + 16 * (1 + r.below(15)) * PAGE + 64 * r.below(4));
  return {
    V: r.once(60) ? 0 : 1,
    T0SZ: inputSize(r),
    TG0: { 12: 0, 14: 2, 16: 1, 0: 3 }[granule] as number,
    EPD0: r.once(8) ? 1 : 0,
    ENDI: r.once(8) ? 1 : 0,
    T1SZ: inputSize(r),
    TG1: { 12: 2, 14: 1, 16: 3, 0: 0 }[granule] as number,
    EPD1: r.once(2) ? 1 : 0,
    IPS: r.once(10) ? r.below(8) : 6,
    AFFD: r.below(2),
    WXN: r.once(3) ? 1 : 0,
    TBI0: r.below(2),
    TBI1: r.below(2),
    PAN: r.once(3) ? 1 : 0,
    AA64: r.once(60) ? 0 : 1,
    HD: r.below(2),
    HA: r.once(3) ? 0 : 1,
    S: r.below(2),
    R: r.below(2),
    A: r.once(3) ? 0 : 1,
    ASET: r.below(2),
    ASID: r.pick(0, 5, 0x100),
    HAD0: r.below(2),
    E0PD0: r.once(4) ? 1 : 0,
    HAFT: r.once(5) ? 1 : 0,
    TTB0: ttb(),
    EPAN: r.below(2),
    HAD1: r.below(2),
    E0PD1: r.once(4) ? 1 : 0,
    TTB1: ttb(),
    DS: r.once(3) ? 1 : 0,
  };
};

/** Change a field to what the unit can do, so that not every entry is bad. */
const suit = <T extends Record<string, number>>(
  fields: T,
  unit: SmmuHardware,
  r: Random,
  big: boolean,
): T => {
  if (r.once(6)) return fields;
  const { features: f } = unit;
  const fixed: Record<string, number> = { ...fields };
  const set = (name: string, value: number) => {
    if (name in fixed) fixed[name] = value;
  };
  if (!f.stalls) for (const name of ['S', 'S2S', 'S1STALLD']) set(name, 0);
  if (!f.terminates) for (const name of ['S', 'S2S']) set(name, 1);
  if (f.stalls && r.once(2)) set('S', 0);
  if (!f.stallIsOptional) set('S1STALLD', 0);
  if (f.abortsOnly) set('A', 1);
  if (f.httu < 1) for (const name of ['HA', 'S2HA']) set(name, 0);
  if (f.httu < 2) for (const name of ['HD', 'S2HD']) set(name, 0);
  if (fixed['HA'] === 0) set('HAFT', 0);
  if (fixed['S2HA'] === 0) set('S2HAFT', 0);
  for (const name of ['ENDI', 'S2ENDI']) set(name, big ? 1 : 0);
  if (!f.asid16) set('ASID', 5);
  if (!f.vmid16) set('S2VMID', 7);
  if (!f.cdTwoLevel) set('S1FMT', 0);
  if (!f.stage1 && 'CONFIG' in fixed) set('CONFIG', 6);
  if (!f.stage2 && 'CONFIG' in fixed) set('CONFIG', 5);
  return fixed as T;
};

/** A machine with its requests. */
export class FuzzMachine {
  readonly unit: SmmuHardware;
  readonly random: Random;
  readonly #pages = new Map<number, HardwareRegion>();
  /** What memory must look like: as made, with the updates of the reference. */
  readonly #shadow = new Map<number, Int32Array>();
  readonly #events = new Int32Array(PAGE / 4);
  readonly #registers: { readonly twoLevel: boolean; readonly e2h: boolean };
  readonly #aidr: number;
  readonly #tagged: boolean;
  #contents: 'descriptors' | 'zeros' = 'descriptors';
  /** Byte order of the tables. */
  #big = false;

  /** @param tagged whether each stream and context has a VMID and ASID of its own */
  constructor(seed: number, capabilities: SmmuCapabilities, tagged = false) {
    this.#tagged = tagged;
    this.random = generator(seed);
    this.#aidr = (capabilities.aidr ?? 1) & 15;
    const events: HardwareRegion = { base: EVENTS, size: PAGE, i32: this.#events };
    this.unit = new SmmuHardware({
      memory: {
        regionAt: (pa) => (pa >= EVENTS && pa < EVENTS + PAGE ? events : this.#regionAt(pa)),
      },
      capabilities,
      bus: { raiseMessage: () => undefined },
    });
    this.#registers = { twoLevel: this.random.once(3), e2h: this.random.once(2) };
    const { bigEndian, littleEndian } = this.unit.features;
    this.#big = bigEndian && (!littleEndian || this.random.once(4));
    this.#build();
    this.#enable();
  }

  #regionAt(pa: number): HardwareRegion | undefined {
    if (!(Number.isSafeInteger(pa) && pa >= 0 && pa < 2 ** 52 && pa % 4 === 0)) {
      throw new Error(`an address that no bus has: ${pa}`);
    }
    const page = Math.floor(pa / PAGE);
    const known = this.#pages.get(page);
    if (known !== undefined) return known;
    if (pa < RAM || pa >= RAM + RAM_PAGES * PAGE) return undefined;
    const i32 = new Int32Array(PAGE / 4);
    if (this.#contents === 'descriptors') {
      const r = generator(page * 31 + this.random.word());
      for (let at = 0; at < i32.length; at += 2) i32.set(this.#ordered(descriptor(r)), at);
    }
    const region = { base: page * PAGE, size: PAGE, i32 };
    this.#pages.set(page, region);
    this.#shadow.set(page, i32.slice());
    return region;
  }

  #ordered([lo, hi]: readonly [number, number]): [number, number] {
    return this.#big ? [swapBytes(hi), swapBytes(lo)] : [lo, hi];
  }

  #store(pa: number, words: ArrayLike<number>): void {
    const region = this.#regionAt(pa) as HardwareRegion;
    region.i32.set(words, (pa - region.base) >>> 2);
    (this.#shadow.get(region.base / PAGE) as Int32Array).set(words, (pa - region.base) >>> 2);
  }

  #build(): void {
    const { random: r, unit } = this;
    this.#contents = 'zeros';
    for (let sid = 0; sid < STREAM_COUNT; sid++) {
      const at = this.#registers.twoLevel ? SECOND_LEVEL : STREAMS;
      this.#store(
        at + sid * 64,
        encode(STE, {
          ...suit(streamFields(r), unit, r, this.#big),
          ...this.#tag('S2VMID', sid),
        } as never),
      );
    }
    if (this.#registers.twoLevel) {
      const SPAN = r.pick(4, 4, 4, 4, 4, 4, 3, r.below(32));
      this.#store(STREAMS, encode(L1STD, { SPAN, L2PTR: SECOND_LEVEL }));
    }
    // CDs of a linear table; of a two-level one, the first CD is read as the first level.
    for (let n = 0; n < 8; n++) {
      this.#store(
        CONTEXTS + n * 64,
        encode(CD, {
          ...suit(contextFields(r), unit, r, this.#big),
          ...this.#tag('ASID', n),
        } as never),
      );
    }
    if (r.once(6)) this.#store(CONTEXTS, encode(L1CD, { V: 1, L2PTR: CONTEXTS }));
    this.#buildIdentity();
    this.#contents = 'descriptors';
  }

  /** Software gives a tag to one address space only: without that, caches may answer otherwise. */
  #tag(name: string, value: number): object {
    return this.#tagged ? { [name]: value } : {};
  }

  /** 39 bits, RAM as it is, pages with random attributes. */
  #buildIdentity(): void {
    const { random: r } = this;
    this.#store(IDENTITY + 8, this.#ordered([(IDENTITY + PAGE) | 0x403, 0]));
    this.#store(IDENTITY + PAGE, this.#ordered([(IDENTITY + 2 * PAGE) | 0x403, 0]));
    for (let n = 0; n < RAM_PAGES; n++) {
      const rights = r.once(8) ? r.pick(0x43, 0x83, 3) : 0xc3;
      const lo = (RAM + n * PAGE) | rights | (r.once(8) ? 0 : 0x400) | (r.once(8) ? 0 : 0x3c);
      const hi = r.once(4) ? (1 << 19) | (r.below(4) << 21) : 0;
      this.#store(IDENTITY + 2 * PAGE + n * 8, this.#ordered([lo, hi]));
    }
  }

  #enable(): void {
    const { unit } = this;
    unit.writeReg64(0x80, STREAMS, 0);
    unit.writeReg32(0x88, this.#registers.twoLevel ? 0x1_0000 | (6 << 6) | 6 : 3);
    unit.writeReg32(0x2c, 2 | (this.#registers.e2h ? 1 : 0));
    unit.writeReg64(0xa0, EVENTS, 0);
    unit.writeReg32(0x20, 0x5);
  }

  /** Something a device may send. */
  request(): ReferenceRequest {
    const { random: r } = this;
    const write = r.once(3);
    const width = r.pick(30, 30, 34, 36, 38, 38, 39, 40, 47, r.pick(48, 52, 64));
    let address = ((BigInt(r.word()) << 32n) | BigInt(r.word())) & ((1n << BigInt(width)) - 1n);
    if (r.once(2)) address = (address & 0xfffffn) | BigInt(RAM);
    if (r.once(8)) address |= ~((1n << BigInt(r.pick(39, 48, 52))) - 1n) & 0xffff_ffff_ffff_ffffn;
    if (r.once(16)) address ^= BigInt(r.below(256)) << 56n;
    const exec = !write && r.once(4);
    return {
      sid: r.once(60) ? STREAM_COUNT + r.below(100) : r.below(STREAM_COUNT),
      ssid: r.once(5) ? r.pick(0, 1, 3, 5, 70) : -1,
      address,
      read: write ? r.once(4) : !exec || r.once(2),
      write,
      exec: exec || (write && r.once(8)),
      priv: r.once(2),
    };
  }

  /** What the reference makes of a request; its updates are kept for {@link differingPage}. */
  expected(request: ReferenceRequest): ReferenceResult {
    const idr = [0, 4, 0xc, 0x14].map((offset) => this.unit.readReg32(offset));
    const load = (pa: bigint) => {
      const region = this.#regionAt(Number(pa));
      if (region === undefined) return undefined;
      const at = (Number(pa) - region.base) >>> 2;
      const half = (n: number) => BigInt((region.i32[at + n] as number) >>> 0);
      return (half(1) << 32n) | half(0);
    };
    const { twoLevel, e2h } = this.#registers;
    const registers = {
      strtab: BigInt(STREAMS),
      log2size: twoLevel ? 6 : 3,
      split: 6,
      twoLevel,
      e2h,
    };
    const reference = new Reference(load, [...idr, this.#aidr] as never, registers);
    const result = reference.translate(request);
    for (const [pa, value] of reference.writes) {
      const shadow = this.#shadow.get(Math.floor(Number(pa) / PAGE)) as Int32Array;
      shadow[(Number(pa) % PAGE) >>> 2] = Number(value & 0xffff_ffffn);
      shadow[((Number(pa) % PAGE) >>> 2) + 1] = Number(value >> 32n);
    }
    return result;
  }

  /** What the unit makes of it; a stall is ended at once. */
  actual({ sid, ssid, address, read, write, exec, priv }: ReferenceRequest): ReferenceResult {
    const { unit } = this;
    const access = (read ? 1 : 0) | (write ? 2 : 0) | (exec ? 4 : 0) | (priv ? 8 : 0);
    const offset = address & 0xfffn;
    const frame = unit.translatePage(sid, ssid, Number(address >> 12n), access, Number(offset));
    const event = this.#takeEvent();
    if (isStalled(frame)) {
      unit.writeReg32(0x20, 0x4);
      unit.writeReg32(0x20, 0x5);
    }
    if (frame >= 0) return { outcome: 'ok', pa: (BigInt(frame) << 12n) | offset };
    const outcome = isStalled(frame) ? 'stall' : frame === RAZ_WI ? 'raz' : 'abort';
    return event === undefined ? { outcome } : { outcome, event };
  }

  #takeEvent(): bigint[] | undefined {
    const prod = this.unit.readReg32(0x100a8);
    if (prod === this.unit.readReg32(0x100ac)) return undefined;
    this.unit.writeReg32(0x100ac, prod);
    const half = (at: number) => BigInt((this.#events[at] as number) >>> 0);
    const words = Array.from({ length: 4 }, (_, n) => (half(2 * n + 1) << 32n) | half(2 * n));
    // The tag of a stall is the unit's choice.
    words[1] = (words[1] as bigint) & ~0xffffn;
    return words;
  }

  /** The first page that is not what the reference made of it; undefined = none. */
  differingPage(): number | undefined {
    for (const [page, { i32 }] of this.#pages) {
      const shadow = this.#shadow.get(page) as Int32Array;
      for (let at = 0; at < i32.length; at++)
        if (i32[at] !== shadow[at]) return page * PAGE + at * 4;
    }
    return undefined;
  }
}
