/**
 * The TYPE1_NESTING backends. Three incompatible interfaces were posted under the same ioctl numbers
 * and none was merged, so a container has to be told which one its program speaks.
 * @module
 */
import { VFIO_EXTENSION } from '@iommukit/core';
import type { VfioIommuDriver } from '../backend.ts';
import { LiuBackend } from './liu-backend.ts';
import { NESTING_FEATURE } from './liu-layouts.ts';
import { DEFAULT_PASID_QUOTA } from './pasids.ts';

/** Dialects by author and version of the series. `liu-v7` is also what v4 to v6 say. */
export type NestingDialect = 'liu-v7';

/** What {@link type1Nesting} takes. */
export interface Type1NestingOptions {
  readonly dialect: NestingDialect;
  /** Report driver errors of CACHE_INVLD and UNBIND_PGTBL, which the posted code swallowed. */
  readonly strictErrors?: boolean;
  /** Sum of `NESTING_FEATURE` bits that are offered; default all three. */
  readonly features?: number;
  /** PASIDs that one process may have; default 1000, as posted. */
  readonly pasidQuota?: number;
  /** Mappings a container may have; default 65535. */
  readonly dmaEntryLimit?: number;
}

const { SYSWIDE_PASID, BIND_PGTBL, CACHE_INVLD } = NESTING_FEATURE;

/**
 * Serve `VFIO_SET_IOMMU` with TYPE1_NESTING (6): the container's mappings become the second stage of
 * one group, and its guest may own first stages.
 */
export const type1Nesting = (options: Type1NestingOptions): VfioIommuDriver => ({
  name: `type1-nesting ${options.dialect}`,
  checkExtension: (extension) => (extension === BigInt(VFIO_EXTENSION.TYPE1_NESTING_IOMMU) ? 1 : 0),
  open: (call, _type, context) =>
    new LiuBackend(context, call.process, {
      strictErrors: options.strictErrors ?? false,
      features: options.features ?? SYSWIDE_PASID | BIND_PGTBL | CACHE_INVLD,
      pasidQuota: options.pasidQuota ?? DEFAULT_PASID_QUOTA,
      dmaEntryLimit: options.dmaEntryLimit,
    }),
});
