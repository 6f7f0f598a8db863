/** The software IOTLB and the context cache in front of it. */
export { ContextCache, type ContextCacheOptions, type ContextCacheState } from './context-cache.ts';
export { Iotlb, type IotlbEntry } from './iotlb.ts';
export { ALL_KINDS, ANY_TAG, FIRST_STAGE_KINDS, IOTLB_MISS, NO_PASID } from './layout.ts';
export { ENTRY_KIND, type IotlbOptions, type IotlbState, type IotlbStatistics } from './store.ts';
