/**
 * Random lives of devices and domains, against plain maps of what is mapped. After every DMA: the
 * frame is the one that the maps name, or the request is blocked.
 */
import {
  ACCESS,
  type Endpoint,
  INVALIDATION_ANSWER,
  isIommuError,
  type PagingDomain,
  PROT,
} from '@iommukit/core';
import type { SmmuOptions } from '../../src/index.ts';
import { type Bench, bench, HWPT, RW, reachAts, refusalOf, stampedPage } from './fixture.ts';

const DEVICES = [
  { rid: '00:05.0', pasidBits: 20, ats: true },
  { rid: '00:06.0' },
  { rid: '01:00.1', pasidBits: 8 },
] as const;
/** -1 = without PASID. */
const SLOTS = [-1, 3, 200, 700, 0x1_2345];
/** Pages on both sides of a 2 MiB boundary, and one large page. */
const BASE = 0x1f0;
const PAGES = 32;
const LARGE = 0x400;
const LARGE_PAGES = 512;
const EADDRINUSE = -98;
const OUTPUT_FRAMES = 2 ** 36;

/** Units whose hosts take different paths. */
export const VARIANTS: readonly SmmuOptions[] = [
  {},
  { capabilities: { idr3: { RIL: 0 } } },
  { capabilities: { idr0: { S1P: 0 } } },
  { capabilities: { idr0: { S2P: 0 } } },
  { capabilities: { idr0: { CD2L: 0, ST_LEVEL: 0 } } },
  { capabilities: { idr0: { ASID16: 0, VMID16: 0, ATS: 0, PRI: 0 } } },
  { capabilities: { idr0: { HYP: 1 }, idr3: { FWB: 1 } }, vhe: true },
  { capabilities: { idr1: { CMDQS: 2, EVENTQS: 2, SSIDSIZE: 9 } } },
];

interface Mapping {
  readonly frame: number;
  readonly prot: number;
}

interface HostTable {
  readonly domain: PagingDomain;
  readonly stage: 1 | 2;
  readonly pages: Map<number, Mapping>;
  /** Small pages that count as written: mapped writable, or written since they were cleaned. */
  readonly written: Set<number>;
}

type Target = HostTable | 'identity';

/** What was done, for the statistics of a run. */
export interface Tally {
  operations: number;
  refused: number;
  reached: number;
  blocked: number;
  pasids: number;
  dirty: number;
}

/** One machine and its model. */
class HostWorld {
  readonly #at: Bench;
  readonly #tables: HostTable[] = [];
  readonly #attached = new Map<string, Target>();
  readonly #frames: number;
  readonly #largeFrames: number;
  readonly #next: (below: number) => number;
  readonly #tally: Tally;

  constructor(seed: number, sanitize: boolean, tally: Tally) {
    this.#next = random(seed);
    this.#tally = tally;
    this.#at = bench({ ...VARIANTS[seed % VARIANTS.length], sanitize }, DEVICES);
    this.#largeFrames = stampedPage(this.#at.machine, LARGE_PAGES);
    this.#frames = stampedPage(this.#at.machine, 64);
    for (const flags of [0, HWPT.PASID, HWPT.NEST_PARENT, HWPT.DIRTY_TRACKING]) {
      this.#newTable(flags);
    }
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#next(list.length)] as T;
  }

  #chance(percent: number): boolean {
    return this.#next(100) < percent;
  }

  #newTable(flags: number): void {
    const { unit, device } = this.#at;
    try {
      const domain = unit.allocPaging(device, { flags, smallPagesOnly: this.#chance(10) });
      const stage = flags === HWPT.NEST_PARENT || unit.caps.pasidBits === 0 ? 2 : 1;
      this.#tables.push({ domain, stage, pages: new Map(), written: new Set() });
    } catch (error) {
      if (!isIommuError(error)) throw error;
      this.#tally.refused++;
    }
  }

  /** One random operation. */
  step(): void {
    this.#tally.operations++;
    const roll = this.#next(100);
    if (roll < 50) this.#dma();
    else if (roll < 64) this.#map();
    else if (roll < 77) this.#unmap();
    else if (roll < 90) this.#attach();
    else if (roll < 96) this.#dirty();
    else this.#rarely();
  }

  #rarely(): void {
    const roll = this.#next(10);
    if (roll < 2) this.#replug();
    else if (roll < 5) this.#newTable(this.#next(16));
    else if (roll < 7) this.#freeOne();
    else if (roll < 8) this.#ask();
    else this.#misbehave();
  }

  #ask(): void {
    const { unit, devices } = this.#at;
    const device = this.#pick(devices);
    const type = this.#next(4);
    expectThat(
      refusalOf(() => unit.hwInfo(device, type)).startsWith(type % 2 === 0 ? 'ok' : 'EOPNOTSUPP'),
      `hw_info of type ${type}`,
    );
    expectThat(unit.reservedRegions(device).length === 1, 'one reserved region');
    unit.hwCapabilities(device);
    this.#pick(this.#tables).domain.enforceCacheCoherency?.();
  }

  #misbehave(): void {
    const { COMPLETE, UNEXPECTED } = INVALIDATION_ANSWER;
    this.#pick(this.#at.devices).invalidationAnswer = this.#chance(50) ? COMPLETE : UNEXPECTED;
  }

  #map(): void {
    const { domain, pages, written } = this.#pick(this.#tables);
    const prot = this.#chance(20) ? PROT.READ : RW;
    const large = this.#chance(10);
    const count = large ? LARGE_PAGES : 1 + this.#next(5);
    const start = large ? LARGE : BASE + this.#next(PAGES);
    const frame = large ? this.#largeFrames : this.#frames + this.#next(58);
    const result = domain.mapRuns(start, Float64Array.of(frame, count), 1, prot);
    const taken = Array.from({ length: count }, (_, i) => pages.has(start + i)).some(Boolean);
    expectThat(result === (taken ? EADDRINUSE : 0), `map gives ${result}`);
    if (result !== 0) return;
    for (let i = 0; i < count; i++) {
      pages.set(start + i, { frame: frame + i, prot });
      if (prot === RW) written.add(start + i);
    }
  }

  #unmap(): void {
    const { domain, pages, written } = this.#pick(this.#tables);
    const large = this.#chance(10);
    const start = large ? LARGE : BASE + this.#next(PAGES);
    const count = large ? LARGE_PAGES : 1 + this.#next(8);
    let gone = 0;
    for (let i = 0; i < count; i++) {
      if (pages.delete(start + i)) gone++;
      written.delete(start + i);
    }
    expectThat(domain.unmap(start, count) === gone, 'unmap counts what was mapped');
    domain.sync();
  }

  #attach(): void {
    const { unit, devices } = this.#at;
    const device = this.#pick(devices);
    const slot = this.#chance(40) ? -1 : this.#pick(SLOTS);
    const roll = this.#next(10);
    const target = roll < 7 ? this.#pick(this.#tables) : roll < 8 ? 'identity' : undefined;
    const domain =
      target === undefined ? unit.blocking : target === 'identity' ? unit.identity : target.domain;
    const wanted = this.#refusal(device, slot, target);
    const got = refusalOf(() => unit.attach(device, slot, domain));
    expectThat(got.split(' ')[0] === wanted, `attach of ${slot} says ${got}, not ${wanted}`);
    if (got !== 'ok') {
      this.#tally.refused++;
      return;
    }
    const key = `${device.rid} ${slot}`;
    if (target) this.#attached.set(key, target);
    else this.#attached.delete(key);
  }

  /** What an attach must be answered with. */
  #refusal(device: Endpoint, slot: number, target: Target | undefined): string {
    const at = (pasid: number) => this.#attached.get(`${device.rid} ${pasid}`);
    if (target === undefined) return 'ok';
    const needsStage2 = target !== 'identity' && target.stage === 2;
    if (slot < 0) {
      const hasPasids = SLOTS.some((pasid) => pasid >= 0 && at(pasid) !== undefined);
      return hasPasids && needsStage2 && at(-1) !== target ? 'EBUSY' : 'ok';
    }
    const bits = Math.min(device.pasidBits, this.#at.unit.caps.pasidBits);
    if (bits === 0) return 'EOPNOTSUPP';
    if (slot >= 2 ** bits) return 'EINVAL';
    if (target === 'identity') return 'EOPNOTSUPP';
    const rid = at(-1);
    const ridOnStage2 = rid !== undefined && rid !== 'identity' && rid.stage === 2;
    return needsStage2 || ridOnStage2 ? 'EINVAL' : 'ok';
  }

  #replug(): void {
    const device = this.#pick(this.#at.devices);
    this.#at.unit.releaseDevice(device);
    this.#at.unit.probeDevice(device);
    for (const slot of SLOTS) this.#attached.delete(`${device.rid} ${slot}`);
  }

  #freeOne(): void {
    const used = new Set<unknown>(this.#attached.values());
    const index = this.#tables.findIndex((one) => !used.has(one));
    if (index < 0 || this.#tables.length < 3) return;
    this.#tables[index]?.domain.free();
    this.#tables.splice(index, 1);
  }

  #dirty(): void {
    const { domain, written } = this.#pick(this.#tables);
    const { dirty } = domain;
    if (!dirty) return;
    this.#tally.dirty++;
    if (this.#chance(20)) dirty.setTracking(this.#chance(60));
    const found: number[] = [];
    const clear = this.#chance(60);
    const visit = (start: number, count: number) => {
      for (let i = 0; i < count; i++) found.push(start + i);
    };
    dirty.readAndClear(BASE, PAGES + 8, visit, clear);
    const wanted = [...written].filter((page) => page < LARGE).sort((a, b) => a - b);
    expectThat(`${found}` === `${wanted}`, `dirty pages ${found}, not ${wanted}`);
    if (clear) for (const page of found) written.delete(page);
  }

  #dma(): void {
    const used = [...this.#attached.keys()];
    const [rid = 0, slot = 0] =
      used.length > 0 && this.#chance(80)
        ? this.#pick(used).split(' ').map(Number)
        : [this.#pick(this.#at.devices).rid, this.#pick(SLOTS)];
    const device = this.#at.machine.endpoint(rid) as Endpoint;
    const target = this.#attached.get(`${rid} ${slot}`);
    const page = this.#address(target);
    const write = this.#chance(40);
    const wanted = expected(target, page, write);
    const { agent, caps } = this.#at.unit;
    const ats = caps.ats && device.ats && !write && this.#chance(30) && target !== 'identity';
    const got = ats
      ? reachAts(device, page, slot < 0 ? undefined : slot)
      : Math.max(agent.translatePage(rid, slot, page, write ? ACCESS.WRITE : ACCESS.READ), -1);
    expectThat(got === wanted, `${rid} ${slot} page ${page}: ${got}, not ${wanted}`);
    if (got < 0) this.#tally.blocked++;
    else this.#tally.reached++;
    if (got >= 0 && slot >= 0) this.#tally.pasids++;
    if (got >= 0 && write && target !== undefined && target !== 'identity') {
      target.written.add(page);
    }
  }

  #address(target: Target | undefined): number {
    if (this.#chance(3)) return this.#next(2 ** 31) * 2 ** 21 + this.#next(2 ** 21);
    if (target !== undefined && target !== 'identity' && this.#chance(70)) {
      const mapped = [...target.pages.keys()];
      if (mapped.length > 0) return this.#pick(mapped);
    }
    return this.#chance(10) ? LARGE + this.#next(LARGE_PAGES) : BASE + this.#next(PAGES + 8);
  }

  /** The sanitizer has nothing to say, and no queue error was left behind. */
  finish(): void {
    const { hardware } = this.#at.unit;
    hardware.sanitizer?.audit();
    const [finding] = hardware.sanitizer?.findings ?? [];
    expectThat(finding === undefined, finding?.text ?? '');
    const errors = hardware.readReg32(0x60) ^ hardware.readReg32(0x64);
    expectThat(errors === 0, `GERROR ${errors}`);
  }
}

/** Frame that a request must reach; -1 = blocked. */
const expected = (target: Target | undefined, page: number, write: boolean): number => {
  if (target === undefined) return -1;
  if (target === 'identity') return page < OUTPUT_FRAMES ? page : -1;
  const mapping = target.pages.get(page);
  if (mapping === undefined || (write && (mapping.prot & PROT.WRITE) === 0)) return -1;
  return mapping.frame;
};

function expectThat(holds: boolean, what: string): void {
  if (!holds) throw new Error(`broken: ${what}`);
}

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

/** How a run is laid out. */
export interface RunOptions {
  /** Operations in each world. */
  readonly each: number;
  readonly firstSeed?: number;
  /** Every how many worlds have a sanitizer, which is slow; default all. */
  readonly sanitizeEvery?: number;
}

/** Run `operations` at least; what happened, or an error that names world and step. */
export function runWorlds(
  operations: number,
  { each, firstSeed = 0, sanitizeEvery = 1 }: RunOptions,
): Tally {
  const tally = { operations: 0, refused: 0, reached: 0, blocked: 0, pasids: 0, dirty: 0 };
  for (let seed = firstSeed; tally.operations < operations; seed++) {
    const world = new HostWorld(seed, seed % sanitizeEvery === 0, tally);
    const start = tally.operations;
    try {
      while (tally.operations - start < each) world.step();
      world.finish();
    } catch (error) {
      throw new Error(`world ${seed}, step ${tally.operations - start}`, { cause: error });
    }
  }
  return tally;
}
