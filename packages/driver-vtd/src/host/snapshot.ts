/**
 * State of the host half, and back: structures in memory, table memory, attachments, DIDs.
 *
 * A snapshot refers to domains and devices by number; the objects themselves belong to core. It
 * can be put back while the unit has the same devices and no domain was made or freed since.
 */
import { type IommuError, refuse } from '@iommukit/core';
import type { PageTablePool } from '@iommukit/pgtable-fast';
import type { Attachment } from './attachment.ts';
import type { UnitParts } from './bring-up.ts';
import type { DeviceState } from './device-state.ts';
import { VtdPagingDomain } from './domain.ts';
import type { OpenGroupsState } from './page-requests.ts';
import { messagePasid } from './scalable-entries.ts';
import type { TranslatingDomain } from './translating-domain.ts';
import type { UnitContext } from './unit-context.ts';

interface AttachmentState {
  readonly pasid: number;
  readonly domain: number;
  readonly did: number;
  readonly words: Uint32Array;
}

interface DeviceSnapshot {
  readonly rid: number;
  readonly directoryPa: number;
  readonly pasidTables: readonly (readonly [number, number])[];
  readonly pageRequestUsers: number;
  readonly attachments: readonly AttachmentState[];
}

/** What {@link saveHost} returns; plain data. */
export interface HostSnapshot {
  readonly domainChanges: number;
  readonly pages: readonly { readonly base: number; readonly bytes: Uint8Array }[];
  readonly contextTables: readonly (readonly [number, number])[];
  readonly queue: readonly [tail: number, sequence: number];
  readonly dids: Uint8Array;
  readonly devices: readonly DeviceSnapshot[];
  readonly paging: readonly {
    readonly domain: number;
    readonly dirtyTracking: boolean;
    readonly forcesSnooping: boolean;
  }[];
  /** Table memory, region by region. */
  readonly tableMemory: readonly Uint8Array[];
  readonly pageRequests: readonly OpenGroupsState[];
}

/**
 * Save. Unmaps that wait for a `sync` are synced first.
 *
 * @throws {IommuError} EOPNOTSUPP while a domain is shared with another unit
 */
export const saveHost = (parts: UnitParts, pool: PageTablePool): HostSnapshot => {
  const { context, tables, pageRequests } = parts;
  const { domains, devices, invalidate, memory, dids } = context;
  for (const domain of domains.living.values()) checkOwn(context, domain);
  for (const domain of pagingOf(context)) domain.sync();
  return {
    domainChanges: domains.changes,
    pages: memory.save(),
    contextTables: tables.save(),
    queue: invalidate.queue.save(),
    dids: dids.save(),
    devices: [...devices.values()].map((device) => saveDevice(context, device)),
    paging: pagingOf(context).map(({ id, dirtyTracking, forcesSnooping }) => ({
      domain: id,
      dirtyTracking,
      forcesSnooping,
    })),
    tableMemory: usedBytes(pool),
    pageRequests: pageRequests?.save() ?? [],
  };
};

/**
 * Put a state back.
 *
 * @throws {IommuError} EINVAL, with nothing changed, when devices or domains are not the ones of
 *   the snapshot, or somebody else uses memory that the structures need
 */
export const restoreHost = (parts: UnitParts, pool: PageTablePool, state: HostSnapshot): void => {
  const { context, tables, pageRequests } = parts;
  const { domains, devices, invalidate, memory, dids } = context;
  for (const domain of domains.living.values()) checkOwn(context, domain);
  checkSame('domain-changes', 'domains were made or freed', state.domainChanges, domains.changes);
  const rids = (list: Iterable<{ rid: number }>) => [...list].map(({ rid }) => rid).join(' ');
  checkSame('devices', 'devices', rids(state.devices), rids(devices.values()));
  memory.load(state.pages);
  tables.load(state.contextTables);
  invalidate.queue.load(...state.queue);
  dids.load(state.dids);
  loadTableMemory(pool, state.tableMemory);
  for (const domain of domains.living.values()) domain.forgetAttachments();
  for (const { domain, dirtyTracking, forcesSnooping } of state.paging) {
    Object.assign(domains.living.get(domain) as VtdPagingDomain, { dirtyTracking, forcesSnooping });
  }
  for (const saved of state.devices) loadDevice(context, saved);
  pageRequests?.load(state.pageRequests);
};

const pagingOf = ({ domains }: UnitContext): VtdPagingDomain[] =>
  [...domains.living.values()].filter((domain) => domain instanceof VtdPagingDomain);

const checkOwn = (context: UnitContext, domain: TranslatingDomain): void => {
  for (const { unit, device } of domain.attachments) {
    if (unit === context) continue;
    throw refuse(
      'EOPNOTSUPP',
      'snapshot',
      'snapshot-shared-domain',
      `a domain of ${context.name} translates for ${device.device.name} under ${unit.name}`,
      { owner: unit.name, accepted: 'domains used by devices of this unit only' },
    );
  }
};

const checkSame = (rule: string, what: string, then: number | string, now: number | string) => {
  if (then === now) return;
  throw refuse('EINVAL', 'restore', `snapshot-${rule}`, `${what} since the snapshot was taken`, {
    value: now,
    accepted: String(then),
  }) satisfies IommuError;
};

const saveDevice = (context: UnitContext, device: DeviceState): DeviceSnapshot => ({
  rid: device.rid,
  directoryPa: device.directoryPa,
  pasidTables: [...device.pasidTables],
  pageRequestUsers: device.pageRequestUsers,
  attachments: [...device.attachments.values()].map(({ pasid, domain, did, words }) => {
    if (domain.context !== context) {
      throw refuse(
        'EOPNOTSUPP',
        'snapshot',
        'snapshot-shared-domain',
        `${device.device.name} uses a domain of ${domain.unit.name}`,
        { owner: domain.unit.name, accepted: 'domains of this unit only' },
      );
    }
    return { pasid, domain: domain.id, did, words };
  }),
});

const loadDevice = (unit: UnitContext, saved: DeviceSnapshot): void => {
  const device = unit.devices.get(saved.rid) as DeviceState;
  device.directoryPa = saved.directoryPa;
  device.pageRequestUsers = saved.pageRequestUsers;
  device.pasidTables.clear();
  for (const [index, table] of saved.pasidTables) device.pasidTables.set(index, table);
  device.attachments.clear();
  for (const { pasid, domain: id, did, words } of saved.attachments) {
    const domain = unit.domains.living.get(id) as TranslatingDomain;
    const attachment: Attachment = { unit, device, pasid, domain, did, words };
    device.attachments.set(pasid, attachment);
    domain.attachments.add(attachment);
    domain.adoptDid(unit, did);
    domain.addTags(unit, did, pasid);
    if (device.ats) domain.addDeviceTags(unit, device.rid, messagePasid(pasid));
  }
};

/** Table memory, each region up to its last byte that is not zero. */
const usedBytes = ({ regions }: PageTablePool): Uint8Array[] =>
  regions.map(({ i32, u8 }) => {
    let words = i32.length;
    while (words > 0 && i32[words - 1] === 0) words--;
    return u8.slice(0, words * 4);
  });

/** A region that came since keeps its tables: none of the domains knows them any more. */
const loadTableMemory = ({ regions }: PageTablePool, memory: readonly Uint8Array[]): void => {
  memory.forEach((bytes, index) => {
    const u8 = regions[index]?.u8;
    u8?.set(bytes);
    u8?.fill(0, bytes.length);
  });
};
