/**
 * A whole iommufd context, as a snapshot holds it.
 * @module
 */
import type { IommufdContext } from '../iommufd/context.ts';
import type { IommufdGroup } from '../iommufd/group.ts';
import type { IoptPages } from '../iopt/index.ts';
import { Numbering } from './numbering.ts';
import { cannotSave, type SaveGraph } from './save-graph.ts';
import { savePages } from './save-iopt.ts';
import { saveObject } from './save-objects.ts';
import type { ContextState, GroupState, MmapRegionState } from './scenario-state.ts';

/** @throws {IommuError} EBUSY in the middle of a call, or when it holds what nobody can save */
export const saveContext = (graph: SaveGraph, context: IommufdContext): ContextState => {
  const { objects, machine } = context;
  if (objects.isBusy) {
    throw cannotSave('call-at-work', 'a call is making an object right now', 'between two calls');
  }
  const pages = new Numbering<IoptPages>();
  const groups = machine.saveBus().groups;
  return {
    process: graph.processes.of(context.process),
    fd: context.fd,
    file: graph.openFiles.of(context.file),
    extensions: context.extensions.map(({ name }) => name),
    noiommu: context.noiommu,
    accountPerProcess: context.accountPerProcess,
    vfioIoas: context.vfioIoas?.id,
    boundHere: context.boundHere.map(({ id }) => id),
    tombstones: objects.tombstones,
    objects: objects.all().map((object) => saveObject(object, { graph, pages })),
    pages: pages.all.map((each) => savePages(graph, each)),
    groups: [...context.groups.values()].map((group) =>
      saveGroup(
        group,
        groups.findIndex(({ id }) => id === group.group.id),
      ),
    ),
    mmapRegions: saveRegions(context),
  };
};

const saveGroup = ({ attachments }: IommufdGroup, index: number): GroupState => ({
  group: index,
  attachments: [...attachments].map(([pasid, { handle, devices }]) => ({
    pasid,
    hwpt: handle.hwpt.id,
    devices: [...devices.keys()],
  })),
});

const saveRegions = ({ mmapRegions }: IommufdContext): MmapRegionState[] =>
  mmapRegions.all.map(({ offset, length, owner, file }) => ({
    offset,
    length,
    viommu: owner.id,
    writableMappings: file.writableMappings,
    file: file.inner.save(),
  }));
