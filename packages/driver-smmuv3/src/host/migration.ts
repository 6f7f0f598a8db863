/**
 * The host half in a snapshot of its machine: domains and vIOMMUs are made anew under core's numbers,
 * all else is put in place as it was.
 */
import {
  type Domain,
  type DriverObject,
  type PreparedUnit,
  refuse,
  type VeventSink,
} from '@iommukit/core';
import { type PageTablePool, tableHandle } from '@iommukit/pgtable-fast';
import type { UnitParts } from './bring-up.ts';
import { CdTable } from './cd-table.ts';
import { type DeviceState, NO_SSID } from './device-state.ts';
import { SmmuPagingDomain } from './domain.ts';
import { checkParent, GuestTag } from './guest-tag.ts';
import type { HostState } from './migration-state.ts';
import { SmmuNestedDomain } from './nested-domain.ts';
import { directDomain } from './nesting.ts';
import { SmmuIdentityDomain, TranslatingDomain } from './translating-domain.ts';
import type { SmmuUnit } from './unit.ts';
import { SmmuViommu } from './viommu.ts';
import { readVste } from './vste.ts';

type Numbers = ReadonlyMap<DriverObject, number>;
type SavedDevice = HostState['devices'][number];
type ObjectAt = (number: number) => DriverObject | undefined;

const OP = 'restoreSnapshot';
const STAGES = [1, 2];

/** A unit with what its state is spread over. */
export interface MigratingUnit {
  readonly unit: SmmuUnit;
  readonly parts: UnitParts;
  readonly pool: PageTablePool;
}

const busy = (message: string) =>
  refuse('EBUSY', 'saveSnapshot', 'unknown-domain', message, {
    accepted: 'domains of HWPTs and vIOMMUs of the unit',
  });

/** A refusal of bytes. */
const badState = (message: string, value: number) =>
  refuse('EINVAL', OP, 'smmu-state', message, {
    value,
    accepted: 'the bytes of an SMMUv3 made with the same options',
  });

const numberOf = (object: DriverObject, numbers: Numbers): number => {
  const number = numbers.get(object);
  if (number !== undefined) return number;
  throw busy('a domain that is no HWPT is in use');
};

/** @throws {IommuError} EBUSY when an object is in use that core does not know */
export const saveHostState = (
  { unit, parts, pool }: MigratingUnit,
  numbers: Numbers,
): HostState => {
  const { context, commands, events, pageFaults, pageRequests } = parts;
  const own = [...numbers].filter(([object]) =>
    object instanceof SmmuViommu
      ? object.tag.unit === context
      : 'unit' in object && object.unit === unit,
  );
  const ofKind = <K extends DriverObject, S>(
    kind: new (...args: never[]) => K,
    save: (object: K, number: number) => S,
  ): S[] =>
    own.flatMap(([object, number]) => (object instanceof kind ? [save(object, number)] : []));
  return {
    pages: context.memory.pages,
    table: context.table.save(),
    commands: commands.save(),
    eventQueuePa: events.queuePa,
    pageRequests: pageRequests?.save(),
    pageFaults: pageFaults.save(),
    asids: context.asids.save(),
    vmids: context.vmids.save(),
    paging: ofKind(SmmuPagingDomain, savePaging),
    viommus: ofKind(SmmuViommu, ({ tag }, number) => ({
      number,
      parent: numberOf(tag.parent, numbers),
      vmid: tag.vmid,
    })),
    nested: ofKind(SmmuNestedDomain, (domain, number) => saveNested(domain, number, numbers)),
    devices: [...context.devices.values()].map((device) => saveDevice(device, numbers)),
    pool: pool.save().map((shard) => ({ ...shard, freeBlocks: [...shard.freeBlocks] })),
  };
};

const savePaging = (domain: SmmuPagingDomain, number: number): HostState['paging'][number] => {
  const { shape, nestParent, pasidCompatible } = domain.options;
  return {
    number,
    ...shape,
    nestParent,
    pasidCompatible,
    tracking: domain.dirty?.enabled ?? false,
    forcesSnooping: domain.enforcesCacheCoherency,
    tag: domain.tag,
    ...tableHandle(domain.table),
  };
};

const saveNested = (
  domain: SmmuNestedDomain,
  number: number,
  numbers: Numbers,
): HostState['nested'][number] => {
  const { guest, parent, vmid, vste } = domain;
  return {
    number,
    viommu: guest === undefined ? undefined : numberOf(guest as SmmuViommu, numbers),
    parent: numberOf(parent, numbers),
    vmid,
    vste: vste.words,
  };
};

const saveDevice = (device: DeviceState, numbers: Numbers): SavedDevice => {
  const { sid, cdTable, atsEnabled, domain, pasids } = device;
  const isNamed = domain !== undefined && !(domain instanceof SmmuIdentityDomain);
  return {
    sid,
    cdTable: cdTable?.save(),
    atsEnabled,
    attached: domain !== undefined,
    domain: isNamed ? numberOf(domain as unknown as Domain, numbers) : undefined,
    pasids: [...pasids].map(([ssid, paging]) => ({ ssid, domain: numberOf(paging, numbers) })),
  };
};

/** The host half of a snapshot, on its way into a unit. */
export class PreparedHost {
  readonly objects = new Map<number, DriverObject>();
  readonly #to: MigratingUnit;
  readonly #state: HostState;
  /** Guests whose stage 2 another unit makes. */
  readonly #orphans: { readonly tag: GuestTag; readonly parent: number }[] = [];
  /** Tags in use before, in case nothing comes of it. */
  readonly #tags: readonly [asids: Uint8Array, vmids: Uint8Array];

  /** @throws {IommuError} EINVAL; RangeError for tables that cannot be */
  constructor(to: MigratingUnit, state: HostState, eventsOf: (number: number) => VeventSink) {
    this.#to = to;
    this.#state = state;
    const { asids, vmids } = to.parts.context;
    this.#tags = [asids.save(), vmids.save()];
    this.#checkShape();
    to.pool.reserveFor(state.pool);
    try {
      for (const saved of state.paging) this.#makePaging(saved);
      for (const saved of state.viommus) this.#makeViommu(saved, eventsOf(saved.number));
      for (const saved of state.nested) this.#makeNested(saved);
    } catch (error) {
      this.discard();
      throw error;
    }
  }

  #checkShape(): void {
    const { context, pageRequests } = this.#to.parts;
    const state = this.#state;
    const here = [...context.devices.keys()].sort((a, b) => a - b);
    const there = state.devices.map(({ sid }) => sid).sort((a, b) => a - b);
    if (here.join() !== there.join()) throw badState('the unit has other devices', here.length);
    const [asids, vmids] = this.#tags;
    if (state.asids.length !== asids.length)
      throw badState('ASIDs have another width', state.asids.length);
    if (state.vmids.length !== vmids.length)
      throw badState('VMIDs have another width', state.vmids.length);
    if ((state.pageRequests === undefined) !== (pageRequests === undefined))
      throw badState('page requests differ', state.pageRequests?.queuePa ?? 0);
  }

  /** See {@link PreparedUnit.link}. */
  link(objectAt: ObjectAt): () => void {
    const devices = this.#state.devices.map((saved) => ({
      saved,
      domain: this.#attached(saved, objectAt),
      pasids: saved.pasids.map(({ ssid, domain }) => [ssid, pagingAt(domain, objectAt)] as const),
    }));
    const parents = this.#parentsOf(objectAt);
    return () => {
      this.#loadUnit();
      for (const [tag, parent] of parents) tag.link(parent);
      for (const { saved, domain, pasids } of devices) this.#loadDevice(saved, domain, pasids);
      const { pageFaults, pageRequests } = this.#to.parts;
      pageFaults.load(this.#state.pageFaults);
      const queue = this.#state.pageRequests;
      if (queue !== undefined) pageRequests?.adopt(queue);
    };
  }

  /** Free what was made, children first. */
  discard(): void {
    for (const object of [...this.objects.values()].reverse()) {
      if (object instanceof SmmuViommu) object.destroy();
      else (object as Domain).free();
    }
    this.objects.clear();
    const { asids, vmids } = this.#to.parts.context;
    asids.load(this.#tags[0]);
    vmids.load(this.#tags[1]);
  }

  #makePaging(saved: HostState['paging'][number]): void {
    const { unit, parts, pool } = this.#to;
    const { number, stage, smallPagesOnly, dirtyTracking, forcedWriteBack, shard, block } = saved;
    const { nestParent, pasidCompatible, tag } = saved;
    const { asids, vmids } = this.#state;
    const from = pool.shards[shard]?.byteOffset ?? Number.POSITIVE_INFINITY;
    const end = from + (this.#state.pool[shard]?.size ?? 0);
    if (block % 64 !== 0 || block < from || block >= end) throw badState('no such table', block);
    if (!STAGES.includes(stage)) throw badState('no such stage', stage);
    if ((stage === 1 ? asids : vmids)[tag] !== 1) throw badState('a tag that is free', tag);
    const shape = { stage: stage as 1 | 2, smallPagesOnly, dirtyTracking, forcedWriteBack };
    const options = { shape, nestParent, pasidCompatible };
    this.#add(number, new SmmuPagingDomain(unit, parts.context, pool, options));
  }

  #makeViommu({ number, parent, vmid }: HostState['viommus'][number], events: VeventSink): void {
    const { unit } = this.#to;
    this.#add(number, new SmmuViommu(unit, this.#tagOf(parent, vmid), unit.guestOptions, events));
  }

  #makeNested({ number, viommu, parent, vmid, vste }: HostState['nested'][number]): void {
    const { unit } = this.#to;
    const bytes = new Uint8Array(16);
    const view = new DataView(bytes.buffer);
    if (vste.length !== 4) throw badState('dwords of a vSTE', vste.length);
    vste.forEach((word, at) => {
      view.setUint32(at * 4, word, true);
    });
    const guest = viommu === undefined ? undefined : this.objects.get(viommu);
    if (viommu !== undefined && !(guest instanceof SmmuViommu))
      throw badState('a nested domain without its vIOMMU', viommu);
    const entry = readVste(bytes, unit.guestOptions.features);
    const domain =
      guest instanceof SmmuViommu
        ? new SmmuNestedDomain(unit, guest.tag, entry, guest)
        : directDomain(unit, this.#tagOf(parent, vmid), entry, unit.guestOptions);
    this.#add(number, domain);
  }

  #tagOf(parent: number, vmid: number): GuestTag {
    const { unit, parts } = this.#to;
    if (this.#state.vmids[vmid] !== 1) throw badState('a VMID that is free', vmid);
    const over = this.objects.get(parent);
    const own = over instanceof SmmuPagingDomain ? over : undefined;
    const tag = new GuestTag(OP, parts.context, own, unit.guestOptions, vmid);
    if (own === undefined) this.#orphans.push({ tag, parent });
    return tag;
  }

  /** Stage 2 of another unit, for each guest that has one. */
  #parentsOf(objectAt: ObjectAt): (readonly [GuestTag, SmmuPagingDomain])[] {
    return this.#orphans.map(({ tag, parent }) => {
      const over = objectAt(parent);
      if (!(over instanceof SmmuPagingDomain)) throw badState('a guest without stage 2', parent);
      checkParent(OP, tag.unit, over, this.#to.unit.guestOptions);
      return [tag, over];
    });
  }

  #add(number: number, object: DriverObject): void {
    if (this.objects.has(number)) throw badState('a number comes twice', number);
    this.objects.set(number, object);
  }

  #attached({ attached, domain }: SavedDevice, objectAt: ObjectAt): TranslatingDomain | undefined {
    if (!attached) return undefined;
    const object = domain === undefined ? this.#to.unit.identity : objectAt(domain);
    if (object instanceof TranslatingDomain) return object;
    throw badState('something that cannot be attached', domain ?? -1);
  }

  #loadUnit(): void {
    const { parts, pool } = this.#to;
    const { context, commands, events } = parts;
    const state = this.#state;
    context.memory.adopt(state.pages);
    context.table.adopt(state.table);
    commands.adopt(state.commands);
    events.queuePa = state.eventQueuePa;
    context.asids.load(state.asids);
    context.vmids.load(state.vmids);
    pool.load(state.pool);
    for (const { number, shard, block, tag, forcesSnooping, tracking } of state.paging) {
      const domain = this.objects.get(number) as SmmuPagingDomain;
      domain.adopt({ shard, block }, tag, forcesSnooping, tracking);
    }
  }

  #loadDevice(
    { sid, cdTable, atsEnabled }: SavedDevice,
    domain: TranslatingDomain | undefined,
    pasids: readonly (readonly [number, SmmuPagingDomain])[],
  ): void {
    const { devices, memory, invalidate } = this.#to.parts.context;
    const device = devices.get(sid) as DeviceState;
    device.cdTable = cdTable && new CdTable(memory, invalidate, sid, device.ssidBits, cdTable);
    device.atsEnabled = atsEnabled;
    device.domain = domain;
    domain?.addTags(device, NO_SSID);
    device.pasids.clear();
    for (const [ssid, paging] of pasids) {
      device.pasids.set(ssid, paging);
      paging.addTags(device, ssid);
    }
  }
}

const pagingAt = (number: number, objectAt: ObjectAt): SmmuPagingDomain => {
  const object = objectAt(number);
  if (object instanceof SmmuPagingDomain) return object;
  throw badState('something that no PASID can have', number);
};
