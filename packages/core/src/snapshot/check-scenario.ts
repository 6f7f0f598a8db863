/**
 * A whole saved scenario: everything that refers to something else must find it.
 * @module
 */
import { need, needIndex, needUnique } from './check.ts';
import { checkContext } from './check-context.ts';
import { checkMemory, RamFrames } from './check-memory.ts';
import type { BusState, FileRef, ProcessState, ScenarioState } from './scenario-state.ts';

const USER_END_PAGE = 2 ** 35;
const MAX_PASID_BITS = 20;
const MAX_PRGI = 512;
const CAPABILITIES = ['CAP_IPC_LOCK', 'CAP_SYS_RESOURCE', 'CAP_SYS_RAWIO'];

/**
 * @throws {IommuError} EINVAL for the first contradiction
 */
export const checkScenario = (state: ScenarioState): void => {
  checkMemory(state.memory);
  checkBus(state.bus, state.units.length);
  const ram = new RamFrames(state.memory);
  for (const file of state.memoryFiles) ram.needFile(file.frames, 'a file');
  for (const process of state.processes) checkProcess(process, state, ram);
  for (const context of state.contexts) checkContext(context, state, ram);
  checkOpenFiles(state);
  checkVfio(state);
  checkHeld(state);
};

const checkBus = ({ groups, endpoints }: BusState, units: number): void => {
  needUnique(
    endpoints.map(({ rid }) => rid),
    'a RID',
  );
  needUnique(
    groups.map(({ key }) => key),
    'a group',
  );
  needUnique(
    groups.map(({ id }) => id),
    'a group id',
  );
  for (const { rid, group, unit, pasidBits, pri, ats, waiting, nextPrgi } of endpoints) {
    needIndex(group, groups.length, 'group');
    need(groups[group]?.rids.includes(rid) ?? false, 'a device is not in its group', rid);
    if (unit !== -1) needIndex(unit, units, 'unit');
    need(pasidBits <= MAX_PASID_BITS && (ats || !pri), 'a device cannot be so', rid);
    needUnique(waiting, 'a page request group');
    need(
      [nextPrgi, ...waiting].every((prgi) => prgi < MAX_PRGI),
      'no such group index',
      nextPrgi,
    );
  }
  const rids = groups.flatMap((group) => group.rids);
  for (const group of groups) need(group.rids.length > 0, 'a group without device', group.id);
  needUnique(rids, 'a device of a group');
  need(rids.length === endpoints.length, 'groups have other devices than the bus', rids.length);
};

const needFileRef = (file: FileRef, { memoryFiles, contexts }: ScenarioState): void => {
  if (file.kind === 'memory') needIndex(file.index, memoryFiles.length, 'file in memory');
  else {
    needIndex(file.context, contexts.length, 'context');
    const regions = contexts[file.context]?.mmapRegions ?? [];
    need(
      regions.some(({ offset }) => offset === file.offset),
      'a mapping of no region',
      file.offset,
    );
  }
};

const checkProcess = (process: ProcessState, state: ScenarioState, ram: RamFrames): void => {
  const { vmas, frames, files, capabilities } = process;
  for (const name of capabilities) need(CAPABILITIES.includes(name), 'no such capability', name);
  let from = 0;
  for (const { start, end, shared, file } of vmas) {
    need(start >= from && end > start && end <= USER_END_PAGE, 'mappings overlap', start);
    need(!shared || file !== undefined, 'a shared mapping without file', start);
    if (file) needFileRef(file, state);
    from = end;
  }
  ram.needRuns(frames, USER_END_PAGE, 'a process');
  needUnique(
    files.map(({ fd }) => fd),
    'a descriptor',
  );
  for (const { file } of files) needIndex(file, state.openFiles.length, 'open file');
};

const checkOpenFiles = (state: ScenarioState): void => {
  const { openFiles, contexts, memoryFiles, vfioDevices, foreign, bus } = state;
  openFiles.forEach(({ references, operations }, index) => {
    need(references > 0, 'an open file that nobody holds', index);
    switch (operations.kind) {
      case 'iommufd':
        needIndex(operations.context, contexts.length, 'context');
        need(contexts[operations.context]?.file === index, 'a context has another file', index);
        break;
      case 'queue':
        needQueue(operations.context, operations.id, state);
        break;
      case 'memfd':
        needIndex(operations.file, memoryFiles.length, 'file in memory');
        break;
      case 'vfioGroup':
        needIndex(operations.group, bus.groups.length, 'group');
        if (operations.context !== undefined) {
          needIndex(operations.context, contexts.length, 'context');
        }
        break;
      case 'foreign':
        needIndex(operations.index, foreign.length, 'foreign thing');
        break;
      default:
        needIndex(operations.device, vfioDevices.length, 'VFIO device');
    }
  });
  contexts.forEach(({ file }, index) => {
    const operations = openFiles[file]?.operations;
    const own = operations?.kind === 'iommufd' && operations.context === index;
    need(own, 'a context without file of its own', index);
  });
};

const needQueue = (context: number, id: number, { contexts }: ScenarioState): void => {
  needIndex(context, contexts.length, 'context');
  const object = contexts[context]?.objects.find((known) => known.id === id);
  const isQueue = object?.kind === 'FAULT' || object?.kind === 'VEVENTQ';
  need(isQueue, 'a descriptor of no queue', id);
};

const checkVfio = ({ vfioDevices, contexts, bus }: ScenarioState): void => {
  needUnique(
    vfioDevices.map(({ rid }) => rid),
    'a VFIO device',
  );
  for (const { rid, bound, opens } of vfioDevices) {
    need(
      bus.endpoints.some((endpoint) => endpoint.rid === rid),
      'a VFIO device is not on the bus',
      rid,
    );
    need(opens > 0 === (bound !== undefined), 'a VFIO device is open and not bound', opens);
    if (!bound) continue;
    needIndex(bound.context, contexts.length, 'context');
    const object = contexts[bound.context]?.objects.find(({ id }) => id === bound.id);
    need(object?.kind === 'DEVICE' && object.rid === rid, 'bound to another device', bound.id);
  }
};

const checkHeld = ({ held, contexts }: ScenarioState): void => {
  needUnique(
    held.map(({ name }) => name),
    'a held thing',
  );
  for (const { value } of held) {
    if (value.kind === 'guestPasids') {
      needIndex(value.host, held.length, 'held thing');
      need(held[value.host]?.value.kind === 'hostPasids', 'guest PASIDs without host', value.host);
    }
    if (value.kind !== 'devicePasids') continue;
    needIndex(value.context, contexts.length, 'context');
    const object = contexts[value.context]?.objects.find(({ id }) => id === value.device);
    need(object?.kind === 'DEVICE', 'PASIDs of no device', value.device);
  }
};
