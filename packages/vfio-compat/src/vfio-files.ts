/**
 * From descriptors to VFIO objects and back: calls name containers and iommufds by number.
 * @module
 */
import type { IommufdContext, OpenFile } from '@iommukit/core';
import type { VfioContainer } from './container.ts';

const CONTAINERS = new WeakMap<OpenFile, VfioContainer>();
const IOMMUFDS = new WeakMap<OpenFile, IommufdContext>();

/** Remember which container an open file is. */
export const registerContainer = (file: OpenFile, container: VfioContainer): void => {
  CONTAINERS.set(file, container);
};

/**
 * Let `VFIO_GROUP_SET_CONTAINER` find an iommufd by its descriptor. The typed
 * `group.setContainer(context)` does this by itself.
 */
export const registerIommufd = (context: IommufdContext): void => {
  IOMMUFDS.set(context.file, context);
};

/** What SET_CONTAINER may name. */
export type GroupTarget = VfioContainer | IommufdContext;

/** The container or iommufd an open file is; undefined for any other file. */
export const groupTargetOf = (file: OpenFile): GroupTarget | undefined =>
  CONTAINERS.get(file) ?? IOMMUFDS.get(file);
