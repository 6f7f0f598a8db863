/**
 * Mappings, descriptors and VFIO devices of restored processes.
 * @module
 */
import type { FaultQueue } from '../iommufd/fault-queue.ts';
import type { MemoryFile, Process } from '../memory/index.ts';
import type { Vma } from '../memory/vma-list.ts';
import { type FileOperations, filesOf, MemfdOperations, OpenFile } from '../uapi/files.ts';
import { VfioCdev } from '../vfio/vfio-cdev.ts';
import type { VfioDevice } from '../vfio/vfio-device.ts';
import { VfioDeviceFile, VfioGroupFile, vfioGroupOf } from '../vfio/vfio-group.ts';
import { misfit } from './fit.ts';
import type { RestoreGraph } from './restore-graph.ts';
import type { FileRef, OperationsState } from './scenario-state.ts';

/**
 * The program's VFIO devices in the order of the snapshot.
 *
 * @throws {IommuError} EINVAL naming a device that is missing
 */
export const findVfioDevices = (graph: RestoreGraph, given: readonly VfioDevice[]): void => {
  for (const state of graph.state.vfioDevices) {
    const device = given.find(({ device: { rid } }) => rid === state.rid);
    const { name } = graph.endpoint(state.rid);
    if (!device) throw misfit(`VFIO device ${name}`, 'not given', 'a VfioDevice of it');
    if (device.isOpen) throw misfit(`VFIO device ${name}`, 'open', 'a VfioDevice nobody has open');
    graph.vfioDevices.push(device);
    const { bound, opens, pasids, isCdevBound } = state;
    graph.commit.push(() => {
      const iommufd = bound && graph.context(bound.context).find('restore', bound.id, 'DEVICE');
      device.load(opens, iommufd, pasids);
      device.isCdevBound = isCdevBound;
    });
  }
};

/** Mappings with their files, page tables and accounts. */
export const loadProcesses = (graph: RestoreGraph): void => {
  graph.state.processes.forEach((state, index) => {
    const vmas = state.vmas.map(
      ({ file, ...vma }): Vma => ({ ...vma, file: file && fileAt(graph, file) }),
    );
    (graph.processes[index] as Process).load(state, vmas);
  });
};

const fileAt = (graph: RestoreGraph, ref: FileRef): MemoryFile | undefined => {
  if (ref.kind === 'memory') return graph.memoryFiles[ref.index];
  const { all } = graph.context(ref.context).mmapRegions;
  return all.find(({ offset }) => offset === ref.offset)?.file;
};

/** Open files, and the descriptors that refer to them. */
export const loadFiles = (graph: RestoreGraph): void => {
  for (const { operations, references } of graph.state.openFiles) {
    const file =
      operations.kind === 'iommufd'
        ? graph.context(operations.context).file
        : new OpenFile(operationsOf(graph, operations));
    file.load(references);
    graph.openFiles.push(file);
  }
  graph.state.processes.forEach(({ files }, index) => {
    const table = filesOf(graph.processes[index] as Process);
    table.load(files.map(({ fd, file }) => ({ fd, file: graph.openFiles[file] as OpenFile })));
  });
};

const operationsOf = (
  graph: RestoreGraph,
  state: Exclude<OperationsState, { kind: 'iommufd' }>,
): FileOperations => {
  switch (state.kind) {
    case 'queue':
      return graph.context(state.context).objects.get(state.id) as FaultQueue;
    case 'memfd':
      return new MemfdOperations(graph.memoryFiles[state.file] as MemoryFile);
    case 'vfioCdev':
      return new VfioCdev(graph.vfioDevices[state.device] as VfioDevice, state.isBound);
    case 'vfioDevice':
      return new VfioDeviceFile(graph.vfioDevices[state.device] as VfioDevice);
    case 'vfioGroup':
      return openGroup(graph, state.group, state.context);
    default:
      return graph.foreign(state.index) as FileOperations;
  }
};

const openGroup = (
  graph: RestoreGraph,
  index: number,
  context: number | undefined,
): VfioGroupFile => {
  const group = vfioGroupOf(graph.group(index));
  const what = `VFIO group ${graph.state.bus.groups[index]?.key}`;
  if (!group) throw misfit(what, 'none', 'addToVfioGroup for its devices');
  if (group.isOpen) throw misfit(what, 'open', 'a group nobody has open');
  graph.undo.push(() => {
    group.isOpen = false;
  });
  return new VfioGroupFile(group, context === undefined ? undefined : graph.context(context));
};
