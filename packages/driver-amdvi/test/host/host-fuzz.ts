/**
 * Random lives of devices, domains and guests, against plain maps of what is mapped. After every
 * DMA: the frame is the one that the maps name, or the request is blocked.
 */
import {
  ACCESS,
  type Endpoint,
  INVALIDATION_ANSWER,
  isIommuError,
  type NestedDomain,
  type PagingDomain,
  PROT,
  type ViommuBackend,
} from '@iommukit/core';
import type { AmdviOptions } from '../../src/index.ts';
import {
  type Bench,
  bench,
  FULL,
  Guest,
  GuestTable,
  HWPT,
  RW,
  reachAts,
  SVA_DEVICE,
  stampedPage,
} from './fixture.ts';
import { Events, guestCommands, guestDte } from './guests.ts';

const DEVICES = [SVA_DEVICE, { rid: '00:06.0' }, { ...SVA_DEVICE, rid: '01:00.1' }];
/** -1 = without PASID. */
const SLOTS = [-1, 3, 700, 0x1_2345];
/** PASIDs of guests; 0 = without. */
const GUEST_PASIDS = [0, 3];
/** Pages on both sides of a 2 MiB boundary, and one large page. */
const BASE = 0x1f0;
const PAGES = 32;
const LARGE = 0x400;
const LARGE_PAGES = 512;
/** DeviceIDs that guests know devices by, from the first device on. */
const GUEST_RID = 0x21;
const EADDRINUSE = -98;
const CMD_BUF_RUN = 16;
const { DIRTY_TRACKING, NEST_PARENT, PASID } = HWPT;

const without = (bits: bigint): AmdviOptions => ({
  capabilities: { ...FULL.capabilities, efr: (FULL.capabilities?.efr ?? 0n) & ~bits },
});

/** Units whose hosts take different paths. */
export const VARIANTS: readonly AmdviOptions[] = [
  FULL,
  { ...FULL, guestTablesByDefault: true },
  {},
  // Four host levels, four guest levels, one GCR3 level.
  without(0xfc00n),
  // No page requests and so no PASIDs.
  without(2n),
  { capabilities: { ...FULL.capabilities, iotlbSup: false } },
];

interface Mapping {
  readonly frame: number;
  readonly prot: number;
}

interface HostTable {
  readonly kind: 'paging';
  readonly domain: PagingDomain;
  readonly pages: Map<number, Mapping>;
  /** Mapped at once, and unmapped so: first frame and count. */
  readonly areas: Map<number, number>;
  /** Pages written since dirty bits were cleared, while tracking was on. */
  readonly written: Set<number>;
}

interface GuestDomain {
  readonly kind: 'nested';
  readonly domain: NestedDomain;
  readonly backend: ViommuBackend;
  readonly guest: Guest;
  readonly table: GuestTable;
  /** PASID whose table it is; 0 = requests without. */
  readonly pasid: number;
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
  pasid: number;
}

/** One machine and its model. */
class HostWorld {
  readonly #at: Bench;
  readonly #hosts: HostTable[] = [];
  readonly #guests: GuestDomain[] = [];
  readonly #attached = new Map<string, Target>();
  readonly #waiting: WaitingGroup[] = [];
  readonly #frames: number;
  readonly #largeFrames: number;
  readonly #next: (below: number) => number;
  readonly #tally: Tally;

  constructor(seed: number, tally: Tally) {
    this.#next = random(seed);
    this.#tally = tally;
    const options = VARIANTS[seed % VARIANTS.length] as AmdviOptions;
    this.#at = bench({ ...options, sanitize: true }, DEVICES);
    this.#largeFrames = stampedPage(this.#at.machine, LARGE_PAGES);
    this.#frames = stampedPage(this.#at.machine, 64);
    for (const flags of [0, PASID, PASID, NEST_PARENT, DIRTY_TRACKING | NEST_PARENT]) {
      this.#newHost(flags);
    }
    if (this.#hosts.length === 1) this.#newHost(DIRTY_TRACKING);
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

  #newHost(flags: number): void {
    this.#try(() => {
      const domain = this.#at.unit.allocPaging(this.#at.device, { flags });
      const pages = new Map<number, Mapping>();
      this.#hosts.push({ kind: 'paging', domain, pages, areas: new Map(), written: new Set() });
    });
  }

  #listen(device: Endpoint): void {
    const { pri } = this.#at.unit;
    if (!device.pri || !pri) return;
    pri.enable(device);
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
    else if (roll < 88) this.#guestCommands();
    else if (roll < 92) this.#pageRequest();
    else if (roll < 95) this.#dirty();
    else this.#rarely();
  }

  #rarely(): void {
    const roll = this.#next(10);
    if (roll < 4) this.#newGuest();
    else if (roll < 5) this.#replug();
    else if (roll < 6) this.#newHost(this.#next(16));
    else if (roll < 7) this.#freeOne();
    else if (roll < 8) this.#ask();
    else this.#misbehave();
  }

  #ask(): void {
    const { unit, device, devices } = this.#at;
    this.#try(() => unit.hwInfo(device, this.#next(6)));
    unit.reservedRegions(this.#pick(devices));
    unit.hwCapabilities(this.#pick(devices));
  }

  #misbehave(): void {
    const { COMPLETE, UNEXPECTED } = INVALIDATION_ANSWER;
    this.#pick(this.#at.devices).invalidationAnswer = this.#chance(50) ? COMPLETE : UNEXPECTED;
  }

  #map(): void {
    const { domain, pages, areas } = this.#pick(this.#hosts);
    const prot = this.#chance(20) ? PROT.READ : RW;
    const large = this.#chance(10);
    const count = large ? LARGE_PAGES : 1 + this.#next(9);
    const start = large ? LARGE : BASE + this.#next(PAGES);
    const frame = large ? this.#largeFrames : this.#frames + this.#next(55);
    const result = domain.mapRuns(start, Float64Array.of(frame, count), 1, prot);
    const taken = Array.from({ length: count }, (_, i) => pages.has(start + i)).some(Boolean);
    expectThat(result === (taken ? EADDRINUSE : 0), `map gives ${result}`);
    if (result !== 0) return;
    areas.set(start, count);
    for (let i = 0; i < count; i++) pages.set(start + i, { frame: frame + i, prot });
  }

  #unmap(): void {
    const { domain, pages, areas, written } = this.#pick(this.#hosts);
    if (areas.size === 0) return;
    const [start, count] = this.#pick([...areas]);
    areas.delete(start);
    for (let i = 0; i < count; i++) {
      pages.delete(start + i);
      written.delete(start + i);
    }
    expectThat(domain.unmap(start, count) === count, 'unmap counts what was mapped');
    domain.sync();
  }

  #target(slot: number): Target | undefined {
    const roll = this.#next(10);
    const hosts =
      slot < 0 ? this.#hosts : this.#hosts.filter(({ domain }) => domain.pasidCompatible);
    if (roll < 5 && hosts.length > 0) return this.#pick(hosts);
    if (roll < 8 && this.#guests.length > 0) return this.#pick(this.#guests);
    return roll < 9 ? undefined : { kind: 'identity' };
  }

  #attach(): void {
    const { unit, devices } = this.#at;
    const device = this.#pick(devices);
    const slot = this.#pick(SLOTS);
    const target = this.#target(slot);
    const { blocking, identity } = unit;
    const domain = target?.kind === 'identity' ? identity : (target?.domain ?? blocking);
    if (!this.#try(() => unit.attach(device, slot, domain))) return;
    const key = `${device.rid} ${slot}`;
    if (target) this.#attached.set(key, target);
    else this.#attached.delete(key);
  }

  /** The guests' vDEVICEs go with the device. */
  #replug(): void {
    const { unit, devices } = this.#at;
    const device = this.#pick(devices);
    const id = BigInt(GUEST_RID + devices.indexOf(device));
    for (const { backend } of this.#guests) backend.vdeviceDestroy?.(device, id);
    unit.releaseDevice(device);
    unit.probeDevice(device);
    for (const { backend } of this.#guests) backend.vdeviceInit?.(device, id);
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
    const { unit, device, machine, devices } = this.#at;
    const host = this.#pick(this.#hosts);
    if (this.#guests.length >= 3) return;
    this.#try(() => {
      const backend = unit.viommu.init(device, 3, host.domain, undefined, new Events());
      const noise = Array.from({ length: 4 }, () => this.#noise());
      if (this.#chance(40)) {
        backend.allocNested?.(device, 0, guestDte(noise)).free();
        return;
      }
      const guest = new Guest(machine, host.domain, 0x10_0000 * (1 + this.#next(2 ** 13)));
      const pasid = this.#pick(GUEST_PASIDS);
      const table = new GuestTable(guest, pasid);
      const domain = backend.allocNested?.(device, 0, guestDte(table.dte()));
      if (!domain) return;
      devices.forEach((each, at) => {
        backend.vdeviceInit?.(each, BigInt(GUEST_RID + at));
      });
      this.#guests.push({ kind: 'nested', domain, backend, guest, table, pasid, pages: new Map() });
    });
  }

  /** 64 bits, few of them set. */
  #noise(): bigint {
    let value = 0n;
    for (let bits = this.#next(6); bits > 0; bits--) value |= 1n << BigInt(this.#next(64));
    return value;
  }

  /** The guest changes one of its pages and says so. */
  #guestWrites(): void {
    if (this.#guests.length === 0) return;
    const { backend, table, guest, pages, pasid } = this.#pick(this.#guests);
    const page = this.#next(16);
    if (this.#chance(30)) {
      table.clear(page);
      pages.delete(page);
    } else {
      const parent = this.#hosts.find((host) => host.domain === guest.parent);
      const mapped = [...(parent?.pages.keys() ?? [])];
      const known = mapped.length > 0 && this.#chance(80);
      const gfn = known ? this.#pick(mapped) : BASE + this.#next(PAGES);
      table.map(page, gfn, this.#chance(50) ? 7 : 0x67);
      pages.set(page, gfn);
    }
    backend.invalidate?.(guestCommands(this.#flushOf(pasid, page)));
  }

  /** One page of the guest, or all; then the same in every device. */
  #flushOf(pasid: number, page: number): [bigint, bigint][] {
    const whole = this.#chance(20);
    const range = whole ? 0x7fff_ffff_ffff_f001n : BigInt(page) << 12n;
    const guestTag = pasid === 0 ? 0n : 4n;
    const device = (id: number): [bigint, bigint] => [
      0x4000_0000_2000_0000n | BigInt(id) | (BigInt(pasid) << 48n),
      range | guestTag,
    ];
    return [
      [0x3000_0042_0000_0000n | BigInt(pasid), range | 4n],
      ...this.#at.devices.map((_, at) => device(GUEST_RID + at)),
    ];
  }

  /** Commands that mostly make no sense; what they must not do is reach anybody else. */
  #guestCommands(): void {
    if (this.#guests.length === 0) return;
    const { backend } = this.#pick(this.#guests);
    const commands = Array.from({ length: 1 + this.#next(3) }, (): [bigint, bigint] => {
      const opcode = BigInt(this.#next(16));
      // COMPLETION_WAIT would store into what the model believes to know; PPR answers are ours.
      const safe = opcode === 1n || opcode === 7n ? 8n : opcode;
      const device = this.#chance(60) ? BigInt(GUEST_RID + this.#next(4)) : 0n;
      return [
        (safe << 60n) | device | (this.#chance(30) ? this.#noise() >> 4n : 0n),
        this.#noise(),
      ];
    });
    this.#try(() => backend.invalidate?.(guestCommands(commands)));
  }

  #pageRequest(): void {
    const { pri, agent } = this.#at.unit;
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
    dirty.readAndClear(BASE, PAGES + 16, visit, clear);
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
    const target = this.#targetOf(rid, slot);
    const page = this.#address(target);
    if (target?.kind === 'identity' && !isMemory(page)) return;
    const write = this.#chance(40);
    const wanted = this.#expected(target, page, write);
    const access = write ? ACCESS.WRITE : ACCESS.READ;
    const { agent, hardware } = this.#at.unit;
    const kept = device.ats && hardware.features.iotlbSup && target?.kind !== 'identity';
    const ats = kept && !write && this.#chance(30);
    const pasid = slot < 0 ? undefined : slot;
    const got = ats
      ? reachAts(device, page, pasid)
      : Math.max(agent.translatePage(device.rid, slot, page, access), -1);
    expectThat(got === wanted, `${target?.kind} page ${page} PASID ${slot}: ${got}, not ${wanted}`);
    this.#count(target, slot, got);
    const tracked = target?.kind === 'paging' && target.domain.dirty?.enabled;
    if (got >= 0 && write && tracked) target.written.add(page);
  }

  #count(target: Target | undefined, slot: number, got: number): void {
    if (got < 0) {
      this.#tally.blocked++;
      return;
    }
    this.#tally.reached++;
    if (target?.kind === 'nested') this.#tally.nested++;
    if (slot >= 0) this.#tally.pasid++;
  }

  /** A guest's tables of a PASID stand behind what the device has without one. */
  #targetOf(rid: number, slot: number): Target | undefined {
    const own = this.#attached.get(`${rid} ${slot}`);
    if (own && (slot >= 0 || own.kind !== 'nested' || own.pasid === 0)) return own;
    const below = this.#attached.get(`${rid} -1`);
    return slot >= 0 && below?.kind === 'nested' && below.pasid === slot ? below : undefined;
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
    if (target.kind === 'identity') return page;
    if (target.kind === 'paging') return allowed(target.pages.get(page), write);
    const gfn = target.pages.get(page);
    const parent = this.#hosts.find(({ domain }) => domain === target.guest.parent);
    return gfn === undefined ? -1 : allowed(parent?.pages.get(gfn), write);
  }

  /** The sanitizer has nothing to say, and the command buffer runs. */
  finish(): void {
    const { hardware } = this.#at.unit;
    hardware.sanitizer?.audit();
    const [finding] = hardware.sanitizer?.findings ?? [];
    expectThat(finding === undefined, finding?.text ?? '');
    expectThat((hardware.readReg32(0x2020) & CMD_BUF_RUN) !== 0, 'commands are processed');
  }
}

/** Neither beyond memory nor interrupt messages. */
const isMemory = (page: number) => page < 2 ** 34 && (page < 0xf_ee00 || page > 0xf_eeff);

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
  const tally: Tally = { operations: 0, refused: 0, reached: 0, blocked: 0, nested: 0, pasid: 0 };
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
