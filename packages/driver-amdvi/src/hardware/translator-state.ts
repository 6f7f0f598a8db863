/**
 * What a translator consists of, and what stands in its fields after a translation.
 */
import { PendingUpdates } from './accessed-dirty.ts';
import { type Caches, GUEST } from './caches.ts';
import type { Features } from './capabilities.ts';
import { DeviceTable } from './device-table.ts';
import { Gcr3Walker } from './gcr3-walker.ts';
import { GuestPhysical } from './guest-physical.ts';
import { GuestTableWalker } from './guest-table-walker.ts';
import { HostTableWalker } from './host-table-walker.ts';
import type { HardwareMemory } from './memory.ts';
import type { TraceSink } from './trace.ts';
import { createRefusal } from './translation-request.ts';
import type { UnitState } from './unit-state.ts';

const TWO_32 = 0x1_0000_0000;

/** Walkers and results; the walks themselves are `Translator`'s. */
export abstract class TranslatorState {
  /** 4 KiB frame of the result. */
  pfn = 0;
  /** Rights of the tables (not of the device table entry), a sum of `RIGHT`. */
  rights = 0;
  sizeLg2 = 12;
  dirtyKnown = true;
  /** ENTRY_KIND of the result; 0 = it came out of no walk, and is not cached. */
  kind = 0;
  /** PASID under which the result is cached, -1 = none. */
  pasidTag = -1;
  /** The address lay in the exclusion range. */
  excluded = false;
  /** The refusal is not recorded (DTE.IG). */
  silent = false;
  /** How the request was refused. */
  readonly refusal = createRefusal();

  readonly pending = new PendingUpdates();
  readonly device: DeviceTable;
  readonly host: HostTableWalker;
  readonly guestPhysical: GuestPhysical;
  readonly gcr3: Gcr3Walker;
  readonly guest: GuestTableWalker;
  readonly memory: HardwareMemory;
  protected readonly state: UnitState;
  protected readonly features: Features;
  protected readonly caches: Caches;
  /** Answer from the cache of guest CR3s, and keep what was read. */
  protected readGuestCache = true;
  protected fillGuestCache = true;
  /** Called when the cache of guest CR3s takes an entry. */
  onGuestKept: ((domain: number, pasid: number) => void) | undefined;
  protected tracing: TraceSink | undefined;

  constructor(memory: HardwareMemory, state: UnitState, features: Features, caches: Caches) {
    this.memory = memory;
    this.state = state;
    this.features = features;
    this.caches = caches;
    this.device = new DeviceTable(memory, state, features, caches);
    this.host = new HostTableWalker(memory, this.pending);
    this.guestPhysical = new GuestPhysical(this.host);
    this.gcr3 = new Gcr3Walker(memory, this.guestPhysical);
    const { pending, host, guestPhysical } = this;
    this.guest = new GuestTableWalker(memory, features, pending, host, guestPhysical);
  }

  /** Who hears of every structure read; undefined = nobody. */
  get trace(): TraceSink | undefined {
    return this.tracing;
  }

  set trace(sink: TraceSink | undefined) {
    this.tracing = sink;
    for (const walker of [this.device, this.host, this.gcr3, this.guest]) walker.trace = sink;
  }

  /**
   * Make this a translator that fills no cache.
   * @param readCaches answer from the caches of device table entries and guest CR3s
   */
  dry(readCaches: boolean): this {
    this.device.fillCache = false;
    this.device.readCache = readCaches;
    this.fillGuestCache = false;
    this.readGuestCache = readCaches;
    return this;
  }

  /** A request starts. */
  protected begin(): void {
    this.pending.count = 0;
    this.kind = 0;
    this.pasidTag = -1;
    this.silent = false;
    this.excluded = false;
    this.dirtyKnown = true;
    this.refusal.code = 0;
  }

  /** Take over the result of a walk. */
  protected takeWalk(
    walker: Pick<HostTableWalker, 'pfn' | 'rights' | 'sizeLg2' | 'dirtyKnown'>,
    kind: number,
    pasidTag: number,
  ): void {
    this.pfn = walker.pfn;
    this.rights = walker.rights;
    this.sizeLg2 = walker.sizeLg2;
    this.dirtyKnown = walker.dirtyKnown;
    this.kind = kind;
    this.pasidTag = pasidTag;
  }

  /** Keep a guest's CR3. */
  protected keepGuestRoot(domain: number, pasid: number, cr3: number): void {
    const { guests } = this.caches;
    const at = guests.insert(domain, pasid, domain, pasid);
    guests.words[at + GUEST.LO] = cr3 | 0;
    guests.words[at + GUEST.HI] = Math.floor(cr3 / TWO_32);
    this.caches.guestCached(domain);
    this.onGuestKept?.(domain, pasid);
  }

  /** Refuse with an event about an address. @returns `code` */
  protected refuse(code: number, flags: number, pfn: number, offset: number): number {
    const { refusal } = this;
    refusal.code = code;
    refusal.flags = flags;
    refusal.pfn = pfn;
    refusal.offset = offset;
    return code;
  }

  /** Refuse because nothing answered at a structure. @returns `code` */
  protected refuseTable(code: number, flags: number, address: number): number {
    const { refusal } = this;
    refusal.code = code;
    refusal.flags = flags;
    refusal.address = address;
    return code;
  }
}
