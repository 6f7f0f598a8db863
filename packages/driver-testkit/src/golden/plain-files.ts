/**
 * Open files of a recording program that do nothing.
 * @module
 */
import { type FileOperations, type SnapshotExtension, UNPINNABLE_FILE } from '@iommukit/core';

/** A file that the recording program had open itself. */
export const RECORDER_FILE: FileOperations = { name: 'recorder' };

/** A file that iommufd has nothing to do with. */
export const OTHER_FILE: FileOperations = { name: 'file', pinnable: UNPINNABLE_FILE };

const FILES = [RECORDER_FILE, OTHER_FILE];

/** Carries both through a snapshot. */
export const PLAIN_FILES: SnapshotExtension = {
  name: 'plain-files',
  save: (thing) => {
    const index = FILES.indexOf(thing as FileOperations);
    return index < 0 ? undefined : Uint8Array.of(index);
  },
  load: ([index = 0]) => FILES[index] ?? OTHER_FILE,
};
