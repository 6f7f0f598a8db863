/**
 * Random lives of devices, domains and guests, against plain maps of what is mapped. After every
 * DMA: the frame is the one that the maps name, or the request is blocked.
 */
import {
  ACCESS,
  type Endpoint,
  INVALIDATION_ANSWER,
  type IommuUnit,
  isIommuError,
  type NestedDomain,
  type PagingDomain,
  PROT,
} from '@iommukit/core';
import type { VtdIommuUnit, VtdOptions } from '../../src/index.ts';
import {
  type Bench,
  bench,
  blob,
  Guest,
  GuestTable,
  HWPT,
  reachAts,
  SVA_DEVICE,
  s1Blob,
  s1Invalidate,
  stampedPage,
  userArray,
} from './fixture.ts';

const RW = PROT.READ | PROT.WRITE;
const DEVICES = [SVA_DEVICE, { rid: '00:06.0' }, { ...SVA_DEVICE, rid: '01:00.1' }];
/** -1 = without PASID. */
const SLOTS = [-1, 3, 700, 0x1_2345];
/** Pages on both sides of a 2 MiB boundary, and one large page. */
const BASE = 0x1f0;
const PAGES = 32;
const LARGE = 0x400;
const LARGE_PAGES = 512;

/** Units whose hosts take different paths. */
export const VARIANTS: readonly VtdOptions[] = [
  {},
  { firstStageByDefault: false },
  { scalable: false },
  { capabilities: { cap: { CM: 1 } } },
  { scalable: false, capabilities: { cap: { CM: 1 } } },
  { capabilities: { cap: { PSI: 0 } } },
  { capabilities: { cap: { MAMV: 3 } }, firstStageByDefault: false },
  { capabilities: { ecap: { PTRS: 1, DIT: 1 } }, erratum772415: false },
];

interface Mapping {
  readonly frame: number;
  readonly prot: number;
}

interface HostTable {
  readonly kind: 'paging';
  readonly domain: PagingDomain;
  readonly pages: Map<number, Mapping>;
  /** Pages written since dirty bits were cleared, while tracking was on. */
  readonly written: Set<number>;
}

interface GuestDomain {
  readonly kind: 'nested';
  readonly domain: NestedDomain;
  readonly guest: Guest;
  readonly table: GuestTable;
  /** Guest frame by page. */
  readonly pages: Map<number, number>;
}

interface WaitingGroup {
  readonly device: Endpoint;
  readonly pasid: number;
  readonly grpid: number;
}

type Target = HostTable | GuestDomain | { readonly kind: 'identity' };

/** What was done, for the statistics of a run. */
export interface Tally {
  operations: number;
  refused: number;
  reached: number;
  blocked: number;
  nested: number;
}

/** One machine and its model. */
class HostWorld {
  readonly #at: Bench;
  readonly #unit: IommuUnit;
  readonly #hardware: VtdIommuUnit['hardware'];
  readonly #hosts: HostTable[] = [];
  readonly #guests: GuestDomain[] = [];
  readonly #attached = new Map<string, Target>();
  readonly #waiting: WaitingGroup[] = [];
  readonly #frames: number;
  readonly #largeFrames: number;
  readonly #next: (below: number) => number;
  readonly #tally: Tally;
  readonly #legacy: boolean;

  constructor(seed: number, tally: Tally) {
    this.#next = random(seed);
    this.#tally = tally;
    const options = VARIANTS[seed % VARIANTS.length] as VtdOptions;
    this.#legacy = options.scalable === false;
    this.#at = bench({ ...options, sanitize: true }, DEVICES);
    this.#unit = this.#at.unit;
    this.#hardware = (this.#unit as VtdIommuUnit).hardware;
    this.#largeFrames = stampedPage(this.#at.machine, LARGE_PAGES);
    this.#frames = stampedPage(this.#at.machine, 64);
    for (let i = 0; i < 4; i++) this.#newHost(i);
    for (const device of this.#at.devices) this.#listen(device);
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#next(list.length)] as T;
  }

  #chance(percent: number): boolean {
    return this.#next(100) < percent;
  }

  /** Run something that may be refused, but only by an IommuError. */
  #try(act: () => void): boolean {
    try {
      act();
      return true;
    } catch (error) {
      if (!isIommuError(error)) throw error;
      this.#tally.refused++;
      return false;
    }
  }

  #newHost(kind: number): void {
    const flags = this.#legacy ? 0 : ([0, HWPT.DIRTY_TRACKING, HWPT.NEST_PARENT, 3][kind] ?? 0);
    this.#try(() => {
      const domain = this.#unit.allocPaging(this.#at.device, { flags: flags | (kind & 8) });
      this.#hosts.push({ kind: 'paging', domain, pages: new Map(), written: new Set() });
    });
  }

  #listen(device: Endpoint): void {
    if (!device.pri || !this.#unit.pri) return;
    this.#unit.pri.enable(device);
    this.#at.machine.setPageFaultHandler(device, ({ pasid, grpid, last }) => {
      if (last) this.#waiting.push({ device, pasid, grpid });
      return true;
    });
  }

  /** One random operation. */
  step(): void {
    this.#tally.operations++;
    const roll = this.#next(100);
    if (roll < 45) this.#dma();
    else if (roll < 57) this.#map();
    else if (roll < 68) this.#unmap();
    else if (roll < 78) this.#attach();
    else if (roll < 84) this.#guestWrites();
    else if (roll < 88) this.#userInvalidate();
    else if (roll < 92) this.#pageRequest();
    else if (roll < 95) this.#dirty();
    else this.#rarely();
  }

  #rarely(): void {
    const roll = this.#next(10);
    if (roll < 3) this.#newGuest();
    else if (roll < 4) this.#replug();
    else if (roll < 5) this.#newHost(this.#next(12));
    else if (roll < 6) this.#freeOne();
    else if (roll < 7) this.#pick(this.#hosts).domain.enforceCacheCoherency?.();
    else if (roll < 8) this.#ask();
    else this.#misbehave();
  }

  #ask(): void {
    this.#try(() => this.#unit.hwInfo(this.#at.device, this.#next(3)));
    this.#unit.reservedRegions(this.#pick(this.#at.devices));
    this.#unit.hwCapabilities(this.#pick(this.#at.devices));
  }

  #misbehave(): void {
    const { COMPLETE, UNEXPECTED } = INVALIDATION_ANSWER;
    this.#pick(this.#at.devices).invalidationAnswer = this.#chance(50) ? COMPLETE : UNEXPECTED;
  }

  #map(): void {
    const { domain, pages } = this.#pick(this.#hosts);
    const prot = this.#chance(20) ? PROT.READ : RW;
    const large = this.#chance(10);
    const count = large ? LARGE_PAGES : 1 + this.#next(5);
    const start = large ? LARGE : BASE + this.#next(PAGES);
    const frame = large ? this.#largeFrames : this.#frames + this.#next(58);
    const result = domain.mapRuns(start, Float64Array.of(frame, count), 1, prot);
    const taken = Array.from({ length: count }, (_, i) => pages.has(start + i)).some(Boolean);
    const refused = result === EINVAL && prot === PROT.READ && domain.nestParent;
    expectThat(refused || result === (taken ? EADDRINUSE : 0), `map gives ${result}`);
    if (result !== 0) return;
    for (let i = 0; i < count; i++) pages.set(start + i, { frame: frame + i, prot });
  }

  #unmap(): void {
    const { domain, pages, written } = this.#pick(this.#hosts);
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

  #target(): Target | undefined {
    const roll = this.#next(10);
    if (roll < 5) return this.#pick(this.#hosts);
    if (roll < 8 && this.#guests.length > 0) return this.#pick(this.#guests);
    return roll < 9 ? undefined : { kind: 'identity' };
  }

  #attach(): void {
    const device = this.#pick(this.#at.devices);
    const slot = this.#pick(SLOTS);
    const target = this.#target();
    const { blocking, identity } = this.#unit;
    const domain = target?.kind === 'identity' ? identity : (target?.domain ?? blocking);
    if (!domain) return;
    if (!this.#try(() => this.#unit.attach(device, slot, domain))) return;
    const key = `${device.rid} ${slot}`;
    if (target) this.#attached.set(key, target);
    else this.#attached.delete(key);
  }

  #replug(): void {
    const device = this.#pick(this.#at.devices);
    this.#unit.releaseDevice(device);
    this.#unit.probeDevice(device);
    for (const slot of SLOTS) this.#attached.delete(`${device.rid} ${slot}`);
    this.#listen(device);
  }

  #freeOne(): void {
    const used = new Set<unknown>(this.#attached.values());
    const guest = this.#guests.findIndex((one) => !used.has(one));
    if (guest >= 0) {
      this.#guests[guest]?.domain.free();
      this.#guests.splice(guest, 1);
      return;
    }
    const parents = new Set(this.#guests.map(({ guest: { parent } }) => parent));
    const host = this.#hosts.findIndex((one) => !used.has(one) && !parents.has(one.domain));
    if (host < 0 || this.#hosts.length < 3) return;
    this.#hosts[host]?.domain.free();
    this.#hosts.splice(host, 1);
  }

  #newGuest(): void {
    const { nesting } = this.#unit;
    const host = this.#pick(this.#hosts);
    if (!nesting) return;
    if (this.#chance(40)) {
      const noise = blob(
        1,
        Uint8Array.from({ length: 24 }, () => this.#next(256)),
      );
      this.#try(() =>
        nesting.allocNested(this.#at.device, host.domain, this.#next(16), noise).free(),
      );
      return;
    }
    if (this.#guests.length >= 3) return;
    this.#try(() => {
      if (!host.domain.nestParent) nesting.allocNested(this.#at.device, host.domain, 0, s1Blob(0));
      const guest = new Guest(this.#at.machine, host.domain, 0x10_0000 * (1 + this.#next(2 ** 13)));
      const table = new GuestTable(guest);
      const flags = this.#next(2) * 2;
      const domain = nesting.allocNested(
        this.#at.device,
        host.domain,
        0,
        s1Blob(table.rootGpa, { flags }),
      );
      this.#guests.push({ kind: 'nested', domain, guest, table, pages: new Map() });
    });
  }

  /** The guest changes one of its pages and says so. */
  #guestWrites(): void {
    if (this.#guests.length === 0) return;
    const { domain, table, guest, pages } = this.#pick(this.#guests);
    const page = this.#next(16);
    if (this.#chance(30)) {
      table.clear(page);
      pages.delete(page);
    } else {
      const parent = this.#hosts.find((host) => host.domain === guest.parent);
      const mapped = [...(parent?.pages.keys() ?? [])];
      const known = mapped.length > 0 && this.#chance(80);
      const gfn = known
        ? this.#pick(mapped)
        : this.#chance(80)
          ? BASE + this.#next(PAGES)
          : LARGE + this.#next(LARGE_PAGES);
      if (!parent) return;
      table.map(page, gfn, this.#chance(50) ? 7 : 0x67);
      pages.set(page, gfn);
    }
    const whole = this.#chance(20);
    const address = whole ? 0n : BigInt(page) << 12n;
    domain.invalidate?.(userArray(0, [s1Invalidate(address, whole ? 2n ** 64n - 1n : 1n)]));
  }

  /** Bytes that mostly make no sense. */
  #userInvalidate(): void {
    if (this.#guests.length === 0) return;
    const { domain } = this.#pick(this.#guests);
    const entries = Array.from({ length: 1 + this.#next(3) }, () => {
      const bytes = Uint8Array.from({ length: 24 }, () => (this.#chance(30) ? this.#next(256) : 0));
      if (this.#chance(60)) bytes.fill(0, 17);
      if (this.#chance(60)) bytes[0] = 0;
      if (this.#chance(60)) bytes[1] = 0;
      return bytes;
    });
    this.#try(() => domain.invalidate?.(userArray(this.#chance(90) ? 0 : 1, entries)));
  }

  #pageRequest(): void {
    const { pri, agent } = this.#unit;
    const device = this.#pick(this.#at.devices);
    if (!pri || !device.pri) return;
    agent.pageRequest?.({
      rid: device.rid,
      pasid: this.#pick(SLOTS),
      addressPfn: this.#chance(80) ? BASE + this.#next(PAGES) : this.#next(2 ** 31) * 2 ** 21,
      read: this.#chance(70),
      write: this.#chance(50),
      exec: this.#chance(5),
      priv: this.#chance(10),
      last: this.#chance(70),
      prgi: this.#next(512),
    });
    while (this.#waiting.length > 0 && this.#chance(60)) {
      const { device: asker, pasid, grpid } = this.#waiting.shift() as WaitingGroup;
      this.#try(() => pri.respond(asker, pasid, grpid, this.#next(4)));
    }
  }

  #dirty(): void {
    const { domain, pages, written } = this.#pick(this.#hosts);
    const { dirty } = domain;
    if (!dirty) return;
    if (this.#chance(40)) {
      this.#try(() => dirty.setTracking(this.#chance(60)));
      written.clear();
      return;
    }
    const found = new Set<number>();
    const clear = this.#chance(60);
    const visit = (start: number, count: number) => {
      for (let i = 0; i < count; i++) found.add(start + i);
    };
    dirty.readAndClear(BASE, PAGES + 8, visit, clear);
    for (const page of written) if (page < LARGE) expectThat(found.has(page), `${page} is dirty`);
    for (const page of found) expectThat(pages.has(page), 'only mapped pages are dirty');
    if (clear) for (const page of found) written.delete(page);
  }

  #dma(): void {
    const used = [...this.#attached.keys()];
    const [rid, slot] =
      used.length > 0 && this.#chance(80)
        ? (this.#pick(used).split(' ').map(Number) as [number, number])
        : [this.#pick(this.#at.devices).rid, this.#pick(SLOTS)];
    const device = this.#at.machine.endpoint(rid) as Endpoint;
    const target = this.#attached.get(`${rid} ${slot}`);
    const page = this.#address(target);
    const write = this.#chance(40);
    const wanted = this.#expected(target, page, write);
    const access = write ? ACCESS.WRITE : ACCESS.READ;
    const ats = device.ats && !write && this.#chance(30) && target?.kind !== 'identity';
    const pasid = slot < 0 ? undefined : slot;
    const got = ats
      ? reachAts(device, page, pasid)
      : Math.max(this.#unit.agent.translatePage(device.rid, slot, page, access), -1);
    expectThat(got === wanted, `${target?.kind} page ${page}: ${got}, not ${wanted}`);
    if (got < 0) this.#tally.blocked++;
    else this.#tally.reached++;
    if (got >= 0 && target?.kind === 'nested') this.#tally.nested++;
    if (got >= 0 && write && target?.kind === 'paging' && target.domain.dirty?.enabled)
      target.written.add(page);
  }

  #address(target: Target | undefined): number {
    if (this.#chance(3)) return this.#next(2 ** 31) * 2 ** 21 + this.#next(2 ** 21);
    if (target !== undefined && target.kind !== 'identity' && this.#chance(70)) {
      const mapped = [...target.pages.keys()];
      if (mapped.length > 0) return this.#pick(mapped);
    }
    if (target?.kind === 'nested') return this.#next(20);
    return this.#chance(10) ? LARGE + this.#next(LARGE_PAGES) : BASE + this.#next(PAGES + 8);
  }

  /** Frame that a request must reach; -1 = blocked. */
  #expected(target: Target | undefined, page: number, write: boolean): number {
    if (target === undefined) return -1;
    if (target.kind === 'identity') return page < 2 ** 34 && !isMessage(page) ? page : -1;
    if (target.kind === 'paging') return allowed(target.pages.get(page), write);
    const gfn = target.pages.get(page);
    const parent = this.#hosts.find(({ domain }) => domain === target.guest.parent);
    return gfn === undefined ? -1 : allowed(parent?.pages.get(gfn), write);
  }

  /** The sanitizer has nothing to say, and no queue error was left behind. */
  finish(): void {
    this.#hardware.sanitizer?.audit();
    const [finding] = this.#hardware.sanitizer?.findings ?? [];
    expectThat(finding === undefined, finding?.text ?? '');
    expectThat((this.#hardware.readReg32(0x34) & 0x70) === 0, 'no queue error');
  }
}

const EINVAL = -22;
const EADDRINUSE = -98;

const isMessage = (page: number) => page >= 0xf_ee00 && page <= 0xf_eeff;

const allowed = (mapping: Mapping | undefined, write: boolean): number => {
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

/** Run `operations` in worlds of `each`; what happened, or an error that names world and step. */
export function runWorlds(operations: number, each: number, firstSeed = 0): Tally {
  const tally: Tally = { operations: 0, refused: 0, reached: 0, blocked: 0, nested: 0 };
  for (let seed = firstSeed; tally.operations < operations; seed++) {
    const world = new HostWorld(seed, tally);
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
