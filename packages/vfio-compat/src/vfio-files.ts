/**
 * From descriptors to containers: `VFIO_GROUP_SET_CONTAINER` names one by number.
 * @module
 */
import type { IommufdContext, OpenFile } from '@iommukit/core';
import type { VfioContainer } from './container.ts';

const CONTAINERS = new WeakMap<OpenFile, VfioContainer>();

/** Remember which container an open file is. */
export const registerContainer = (file: OpenFile, container: VfioContainer): void => {
  CONTAINERS.set(file, container);
};

/** What SET_CONTAINER may name. */
export type GroupTarget = VfioContainer | IommufdContext;

/** The container or iommufd an open file is; undefined for any other file. */
export const groupTargetOf = (file: OpenFile): GroupTarget | undefined =>
  CONTAINERS.get(file) ?? file.operations.iommufd;
