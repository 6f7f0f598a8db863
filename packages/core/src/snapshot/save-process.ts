/**
 * Processes, open files and VFIO devices, as a snapshot holds them.
 * @module
 */
import { FaultQueue } from '../iommufd/fault-queue.ts';
import { Veventq } from '../iommufd/veventq.ts';
import type { Process } from '../memory/index.ts';
import { type FileOperations, filesOf, MemfdOperations } from '../uapi/files.ts';
import { VfioCdev } from '../vfio/vfio-cdev.ts';
import type { VfioDevice } from '../vfio/vfio-device.ts';
import { VfioDeviceFile, VfioGroupFile } from '../vfio/vfio-group.ts';
import type { SaveGraph } from './save-graph.ts';
import type { OperationsState, ProcessState, VfioDeviceState } from './scenario-state.ts';

/** A process with its mappings and descriptors. */
export const saveProcess = (graph: SaveGraph, process: Process): ProcessState => {
  const { uid, rlimitMemlockBytes, pinnedPages, lockedPages, alive } = process;
  const { vmas, frames } = process.saveSpace();
  return {
    uid,
    capabilities: [...process.capabilities].sort(),
    rlimitMemlockBytes,
    pinnedPages,
    lockedPages,
    alive,
    vmas: vmas.map(({ file, ...vma }) => ({ ...vma, file: file && graph.fileRef(file) })),
    frames,
    files: filesOf(process)
      .save()
      .map(({ fd, file }) => ({ fd, file: graph.openFiles.of(file) })),
  };
};

/** What an open file does. */
export const saveOperations = (graph: SaveGraph, operations: FileOperations): OperationsState => {
  if (operations.iommufd?.file.operations === operations) {
    return { kind: 'iommufd', context: graph.context(operations.iommufd) };
  }
  if (operations instanceof FaultQueue || operations instanceof Veventq) {
    return { kind: 'queue', context: graph.context(operations.context), id: operations.id };
  }
  if (operations instanceof MemfdOperations) {
    return { kind: 'memfd', file: graph.memoryFiles.of(operations.pinnable) };
  }
  return (
    saveVfioFile(graph, operations) ?? {
      kind: 'foreign',
      index: graph.foreignIndex(operations, 'an open file'),
    }
  );
};

const saveVfioFile = (
  graph: SaveGraph,
  operations: FileOperations,
): OperationsState | undefined => {
  if (operations instanceof VfioCdev) {
    const { device, isBound } = operations;
    return { kind: 'vfioCdev', device: graph.vfioDevices.of(device), isBound };
  }
  if (operations instanceof VfioDeviceFile) {
    return { kind: 'vfioDevice', device: graph.vfioDevices.of(operations.device) };
  }
  if (!(operations instanceof VfioGroupFile)) return undefined;
  const { group, context } = operations;
  const groups = graph.machine.saveBus().groups;
  return {
    kind: 'vfioGroup',
    group: groups.findIndex(({ id }) => id === group.group.id),
    context: context && graph.context(context),
  };
};

/** A device under VFIO. */
export const saveVfioDevice = (graph: SaveGraph, device: VfioDevice): VfioDeviceState => {
  const { opens, pasids } = device.save();
  const { bound } = device;
  return {
    rid: device.device.rid,
    opens,
    isCdevBound: device.isCdevBound,
    bound: bound && { context: graph.context(bound.context), id: bound.id },
    pasids: [...pasids],
  };
};
