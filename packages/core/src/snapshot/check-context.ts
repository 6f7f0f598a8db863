/**
 * Saved contexts: ids must be there, of the right kind, and fit together.
 * @module
 */
import { COHERENCY_POLICIES } from '../iommufd/coherency.ts';
import { need, needIndex, needUnique } from './check.ts';
import { checkIopt, checkPages } from './check-iopt.ts';
import type { RamFrames } from './check-memory.ts';
import type { FaultGroupState, ObjectState, StateOf } from './object-state.ts';
import type { ContextState, GroupState, ScenarioState } from './scenario-state.ts';

/** Ids count from 1 and the lowest free one is given out: none is ever as large as this. */
const MAX_ID = 2 ** 24;
const MAX_PASIDS = 2 ** 20;

type Kind = ObjectState['kind'];

/** The objects of a context by id. */
class Ids {
  readonly #kinds: ReadonlyMap<number, ObjectState>;

  constructor({ objects, tombstones }: ContextState) {
    this.#kinds = new Map(objects.map((object) => [object.id, object]));
    needUnique([...objects.map(({ id }) => id), ...tombstones], 'an object id');
    const ascending = objects.every(({ id }, at) => at === 0 || id > (objects[at - 1]?.id ?? 0));
    need(ascending, 'objects are out of order');
    for (const id of [...this.#kinds.keys(), ...tombstones]) {
      need(id > 0 && id < MAX_ID, 'no object has such an id', id);
    }
  }

  /** Fail unless `id` is an object of one of these kinds; undefined passes. */
  need(id: number | undefined, ...kinds: readonly Kind[]): void {
    if (id === undefined) return;
    const kind = this.#kinds.get(id)?.kind;
    need(
      kind !== undefined && kinds.includes(kind),
      `object ${id} is no ${kinds.join(' or ')}`,
      id,
    );
  }

  get(id: number): ObjectState | undefined {
    return this.#kinds.get(id);
  }
}

/** @throws {IommuError} EINVAL */
export const checkContext = (context: ContextState, all: ScenarioState, ram: RamFrames): void => {
  const ids = new Ids(context);
  const { openFiles, processes, memoryFiles, foreign } = all;
  needIndex(context.process, processes.length, 'process');
  needIndex(context.file, openFiles.length, 'open file');
  const scope = {
    processes: processes.length,
    memoryFiles: memoryFiles.length,
    foreign: foreign.length,
  };
  for (const pages of context.pages) checkPages(pages, scope, ram);
  ids.need(context.vfioIoas, 'IOAS');
  for (const id of context.boundHere) ids.need(id, 'DEVICE');
  needUnique(context.boundHere, 'a bound device');
  for (const object of context.objects) checkObject(object, ids, context, all);
  for (const group of context.groups) checkGroup(group, ids, all);
  needUnique(
    context.groups.map(({ group }) => group),
    'a group',
  );
  checkRegions(context, ids, ram);
};

const checkGroup = ({ group, attachments }: GroupState, ids: Ids, all: ScenarioState): void => {
  needIndex(group, all.bus.groups.length, 'group');
  const rids = all.bus.groups[group]?.rids as number[];
  needUnique(
    attachments.map(({ pasid }) => pasid),
    'a PASID',
  );
  for (const { pasid, hwpt, devices } of attachments) {
    need(pasid < MAX_PASIDS && devices.length > 0, 'an attachment without device', pasid);
    needUnique(devices, 'an attached device');
    ids.need(hwpt, 'HWPT_PAGING', 'HWPT_NESTED');
    for (const id of devices) {
      ids.need(id, 'DEVICE');
      const { rid } = ids.get(id) as StateOf<'DEVICE'>;
      need(rids.includes(rid), `device ${id} is in another group`, id);
    }
  }
};

const checkRegions = ({ mmapRegions }: ContextState, ids: Ids, ram: RamFrames): void => {
  let from = 0;
  for (const { offset, length, viommu, file } of mmapRegions) {
    ids.need(viommu, 'VIOMMU');
    need(offset >= from && offset % 4096 === 0 && length > 0, 'mappable regions overlap', offset);
    from = offset + length;
    ram.needFile(file.frames, 'a mappable region');
  }
};

const needUnit = (unit: number, all: ScenarioState): void => {
  if (unit !== -1) needIndex(unit, all.units.length, 'unit');
};

const checkFaults = (group: FaultGroupState | undefined, ids: Ids, context: ContextState): void => {
  if (!group) return;
  ids.need(group.device, 'DEVICE');
  const attached = context.groups.some(({ attachments }) =>
    attachments.some(
      ({ pasid, devices }) => pasid === group.handlePasid && devices.includes(group.device),
    ),
  );
  need(attached && group.faults.length > 0, 'faults came through no attachment', group.grpid);
};

const checkObject = (
  object: ObjectState,
  ids: Ids,
  context: ContextState,
  all: ScenarioState,
): void => {
  switch (object.kind) {
    case 'IOAS':
      checkIoas(object, ids, context);
      break;
    case 'HWPT_PAGING':
      ids.need(object.ioas, 'IOAS');
      ids.need(object.fault, 'FAULT');
      needUnit(object.unit, all);
      break;
    case 'HWPT_NESTED':
      ids.need(object.parent, 'HWPT_PAGING');
      ids.need(object.viommu, 'VIOMMU');
      ids.need(object.fault, 'FAULT');
      needIndex(object.unit, all.units.length, 'unit');
      break;
    case 'DEVICE':
      checkDevice(object, context, all);
      break;
    case 'ACCESS':
      ids.need(object.ioas, 'IOAS');
      ids.need(object.unpinFrom, 'IOAS');
      break;
    case 'FAULT':
      for (const group of [...object.waiting, ...object.delivered]) {
        checkFaults(group, ids, context);
      }
      break;
    case 'VIOMMU':
      ids.need(object.hwpt, 'HWPT_PAGING');
      needIndex(object.unit, all.units.length, 'unit');
      break;
    case 'VDEVICE':
      ids.need(object.viommu, 'VIOMMU');
      ids.need(object.device, 'DEVICE');
      break;
    case 'VEVENTQ':
      ids.need(object.viommu, 'VIOMMU');
      break;
    case 'HW_QUEUE':
      ids.need(object.viommu, 'VIOMMU');
      ids.need(object.access, 'ACCESS');
      break;
    default:
      needIndex(object.index, all.foreign.length, 'foreign thing');
  }
};

const checkDevice = (
  { id, rid, partial }: StateOf<'DEVICE'>,
  { groups }: ContextState,
  { bus }: ScenarioState,
): void => {
  const endpoint = bus.endpoints.find((known) => known.rid === rid);
  const inGroup = groups.some(({ group }) => group === endpoint?.group);
  need(endpoint !== undefined && inGroup, `device ${id} is in no group of its context`, rid);
  for (const { faults } of partial) need(faults.length > 0, 'a page request group is empty', id);
};

const checkIoas = (ioas: StateOf<'IOAS'>, ids: Ids, context: ContextState): void => {
  const { iopt, hwpts, shadow, coherency } = ioas;
  need(coherency < COHERENCY_POLICIES.length, 'an unknown coherency policy', coherency);
  checkIopt(iopt, context.pages);
  for (const id of hwpts) {
    ids.need(id, 'HWPT_PAGING');
    need((ids.get(id) as StateOf<'HWPT_PAGING'>).ioas === ioas.id, 'a HWPT of another IOAS', id);
  }
  needUnique(hwpts, 'a HWPT');
  for (const { hwpt } of iopt.domains) need(hwpts.includes(hwpt), 'a domain without HWPT', hwpt);
  for (const id of iopt.accesses) ids.need(id, 'ACCESS');
  for (const { owner } of iopt.reserved) {
    if (owner.kind === 'hwpt') ids.need(owner.id, 'HWPT_PAGING');
    if (owner.kind === 'device') ids.need(owner.id, 'DEVICE');
  }
  for (const id of iopt.shadows) {
    ids.need(id, 'IOAS');
    const child = ids.get(id) as StateOf<'IOAS'>;
    need(child.shadow?.parent === ioas.id, 'a shadow of another IOAS', id);
  }
  if (!shadow) return;
  ids.need(shadow.parent, 'IOAS');
  need(shadow.parent !== ioas.id, 'an IOAS is its own shadow', ioas.id);
  for (const { start, last, parentStart, parentLast } of shadow.children) {
    need(start <= last && parentLast - parentStart === last - start, 'a child range', start);
  }
};
