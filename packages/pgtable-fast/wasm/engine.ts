// One engine module: the operations of one format on the shared pool memory.
export { mapRange } from './map';
export { beginRuns, planRuns, writeRuns } from './map-runs';
export { unmapRange, unmapInRegion } from './unmap';
export { mapOne, unmapOne, describeLeaf } from './one';
export { translate, translateBatch, regionTable, describeLookUp } from './translate';
export { readRuns } from './read-runs';
export { readAndClearDirty, checkDirtyRange } from './dirty';
export { setAccessedDirty } from './accessed-dirty';
export { allocate, release, releaseList, reserve } from './pool';
export { freeAll, mappedFrames } from './whole';
export { nextLeaf, splitLeaf, mergeLeaves } from './leaves';
