/**
 * The host half in a snapshot of its machine: domains are made anew under core's numbers, all else
 * is put in place as it was.
 */
import {
  type Domain,
  type DriverObject,
  type IommuUnit,
  type PageFault,
  type PreparedUnit,
  refuse,
} from '@iommukit/core';
import { type PageTablePool, tableHandle } from '@iommukit/pgtable-fast';
import type { Attachment } from './attachment.ts';
import type { UnitParts } from './bring-up.ts';
import type { DeviceState } from './device-state.ts';
import { VtdPagingDomain } from './domain.ts';
import type { HostState } from './migration-state.ts';
import { VtdNestedDomain } from './nesting.ts';
import { messagePasid } from './scalable-entries.ts';
import { TranslatingDomain, VtdIdentityDomain } from './translating-domain.ts';
import type { UnitContext } from './unit-context.ts';

type Numbers = ReadonlyMap<DriverObject, number>;
type SavedDevice = HostState['devices'][number];

/** A unit with what its state is spread over. */
export interface MigratingUnit {
  readonly unit: IommuUnit;
  readonly parts: UnitParts;
  readonly pool: PageTablePool;
}

const busy = (message: string) =>
  refuse('EBUSY', 'saveSnapshot', 'unknown-domain', message, {
    accepted: 'domains of HWPTs of the unit',
  });

/** A refusal of bytes. */
export const badState = (message: string, value: number) =>
  refuse('EINVAL', 'restoreSnapshot', 'vtd-state', message, {
    value,
    accepted: 'the bytes of a VT-d unit made with the same options',
  });

const numberOf = (object: DriverObject, numbers: Numbers): number => {
  const number = numbers.get(object);
  if (number !== undefined) return number;
  throw busy('a domain that is no HWPT is in use');
};

/** @throws {IommuError} EBUSY when a domain is in use that core does not know */
export const saveHostState = (
  { unit, parts, pool }: MigratingUnit,
  numbers: Numbers,
): HostState => {
  const { context, tables, pageRequests } = parts;
  const { invalidate, memory, dids, devices } = context;
  const [tail, sequence] = invalidate.queue.save();
  const own = [...numbers].filter(([object]) => 'unit' in object && object.unit === unit);
  return {
    pages: memory.pages,
    rootPa: tables.rootPa,
    contextTables: tables.save().map(([key, pa]) => ({ key, pa })),
    queue: { ...invalidate.queue.place, tail, sequence },
    pageRequestQueuePa: pageRequests?.queuePa,
    openGroups: (pageRequests?.save() ?? []).map(({ rid, groups }) => ({
      rid,
      groups: groups.map(({ key, bad, faults }) => ({ key, bad, faults: [...faults] })),
    })),
    dids: dids.save(),
    paging: own.flatMap(([object, number]) =>
      object instanceof VtdPagingDomain ? [savePaging(object, number)] : [],
    ),
    nested: own.flatMap(([object, number]) =>
      object instanceof VtdNestedDomain ? [saveNested(object, number, numbers)] : [],
    ),
    devices: [...devices.values()].map((device) => saveDevice(device, numbers)),
    pool: pool.save().map((shard) => ({ ...shard, freeBlocks: [...shard.freeBlocks] })),
  };
};

const savePaging = (domain: VtdPagingDomain, number: number): HostState['paging'][number] => {
  const { geometry, ...options } = domain.options;
  const { dirtyTracking, forcesSnooping } = domain;
  return {
    number,
    ...options,
    geometry: { ...geometry, pageSizesLg2: [...geometry.pageSizesLg2] },
    dirtyTracking,
    forcesSnooping,
    ...tableHandle(domain.table),
  };
};

const saveNested = (
  domain: VtdNestedDomain,
  number: number,
  numbers: Numbers,
): HostState['nested'][number] => {
  if (domain.parent.unit !== domain.unit)
    throw busy('a nested domain has a parent of another unit');
  const { pasidCompatible, tables } = domain;
  return { number, parent: numberOf(domain.parent, numbers), pasidCompatible, tables };
};

const saveDevice = (device: DeviceState, numbers: Numbers): SavedDevice => {
  const { rid, contextPa, directoryPa, pasidTables, pageRequestUsers, attachments } = device;
  return {
    rid,
    contextPa,
    directoryPa,
    pasidTables: [...pasidTables].map(([index, pa]) => ({ index, pa })),
    pageRequestUsers,
    attachments: [...attachments.values()].map(({ pasid, domain, did, words }) => ({
      pasid,
      domain:
        domain instanceof VtdIdentityDomain
          ? undefined
          : numberOf(domain as unknown as Domain, numbers),
      did,
      words,
    })),
  };
};

/** The host half of a snapshot, on its way into a unit. */
export class PreparedHost {
  readonly objects = new Map<number, DriverObject>();
  readonly #to: MigratingUnit;
  readonly #state: HostState;

  /** @throws {IommuError} EINVAL; RangeError for tables that cannot be */
  constructor(to: MigratingUnit, state: HostState) {
    this.#to = to;
    this.#state = state;
    const { context, pageRequests } = to.parts;
    const here = [...context.devices.keys()].sort((a, b) => a - b);
    const there = state.devices.map(({ rid }) => rid).sort((a, b) => a - b);
    if (here.join() !== there.join()) throw badState('the unit has other devices', here.length);
    if (state.dids.length !== context.dids.save().length) {
      throw badState('domain ids have another width', state.dids.length);
    }
    if ((state.pageRequestQueuePa === undefined) !== (pageRequests === undefined)) {
      throw badState('page requests differ', state.pageRequestQueuePa ?? 0);
    }
    to.pool.reserveFor(state.pool);
    try {
      this.#makeDomains();
    } catch (error) {
      this.discard();
      throw error;
    }
  }

  /** See {@link PreparedUnit.link}. */
  link(objectAt: (number: number) => DriverObject | undefined): () => void {
    const devices = this.#state.devices.map((saved) => ({
      saved,
      domains: saved.attachments.map(({ domain }) => this.#attached(domain, objectAt)),
    }));
    return () => {
      this.#loadUnit();
      for (const { saved, domains } of devices) {
        loadDevice(this.#to.parts.context, saved, domains);
      }
      this.#to.parts.pageRequests?.load(
        this.#state.openGroups.map(({ rid, groups }) => ({
          rid,
          groups: groups.map(({ key, bad, faults }) => ({
            key,
            bad,
            faults: faults as PageFault[],
          })),
        })),
      );
    };
  }

  /** Free the domains, children first. */
  discard(): void {
    for (const object of [...this.objects.values()].reverse()) (object as Domain).free();
    this.objects.clear();
  }

  #makeDomains(): void {
    const { unit, parts, pool } = this.#to;
    for (const { number, dirtyTracking, forcesSnooping, shard, block, ...options } of this.#state
      .paging) {
      const from = pool.shards[shard]?.byteOffset ?? Number.POSITIVE_INFINITY;
      const end = from + (this.#state.pool[shard]?.size ?? 0);
      if (block % 64 !== 0 || block < from || block >= end) throw badState('no such table', block);
      const domain = new VtdPagingDomain(unit, parts.context, pool, options);
      Object.assign(domain, { dirtyTracking, forcesSnooping });
      this.#add(number, domain);
    }
    for (const { number, parent, tables, pasidCompatible } of this.#state.nested) {
      const over = this.objects.get(parent);
      if (!(over instanceof VtdPagingDomain))
        throw badState('a nested domain without parent', parent);
      this.#add(number, new VtdNestedDomain(unit, parts.context, over, tables, pasidCompatible));
    }
  }

  #add(number: number, domain: Domain): void {
    if (this.objects.has(number)) throw badState('a number comes twice', number);
    this.objects.set(number, domain);
  }

  #attached(
    number: number | undefined,
    objectAt: (number: number) => DriverObject | undefined,
  ): TranslatingDomain {
    const object = number === undefined ? this.#to.unit.identity : objectAt(number);
    if (object instanceof TranslatingDomain) return object;
    throw badState('something that cannot be attached', number ?? -1);
  }

  #loadUnit(): void {
    const { parts, pool } = this.#to;
    const { context, tables, pageRequests } = parts;
    const { pages, rootPa, contextTables, queue, dids, paging } = this.#state;
    context.memory.adopt(pages);
    tables.load(
      contextTables.map(({ key, pa }) => [key, pa] as const),
      rootPa,
    );
    context.invalidate.queue.adopt(queue);
    context.invalidate.queue.load(queue.tail, queue.sequence);
    context.dids.load(dids);
    pool.load(this.#state.pool);
    pageRequests?.adopt(this.#state.pageRequestQueuePa ?? 0);
    for (const { number, shard, block } of paging) {
      (this.objects.get(number) as VtdPagingDomain).adoptTable({ shard, block });
    }
  }
}

const loadDevice = (
  unit: UnitContext,
  saved: SavedDevice,
  domains: readonly TranslatingDomain[],
): void => {
  const device = unit.devices.get(saved.rid) as DeviceState;
  device.contextPa = saved.contextPa;
  device.directoryPa = saved.directoryPa;
  device.pageRequestUsers = saved.pageRequestUsers;
  device.pasidTables.clear();
  for (const { index, pa } of saved.pasidTables) device.pasidTables.set(index, pa);
  device.attachments.clear();
  saved.attachments.forEach(({ pasid, did, words }, index) => {
    const domain = domains[index] as TranslatingDomain;
    const attachment: Attachment = { unit, device, pasid, domain, did, words };
    device.attachments.set(pasid, attachment);
    domain.attachments.add(attachment);
    domain.adoptDid(unit, did);
    domain.addTags(unit, did, pasid);
    if (device.ats) domain.addDeviceTags(unit, device.rid, messagePasid(pasid));
  });
};
