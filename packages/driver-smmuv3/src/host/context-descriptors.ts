/**
 * The context descriptors that the driver writes, 16 u32 words each.
 *
 * @spec SMMUv3 5.4
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c (arm_smmu_make_s1_cd)
 */
import { encode } from '@iommukit/bits';
import type { PageTable } from '@iommukit/pgtable-fast';
import { CD } from '../spec/context-descriptor.ts';
import type { Capabilities } from './capabilities.ts';

/** Walk attributes: inner and outer write-back, inner shareable. */
const WRITE_BACK = 1;
const INNER_SHAREABLE = 3;
/** Memory types by attribute index: non-cacheable, write-back, device, write-back without allocation. */
const MEMORY_TYPES = 0xf404_ff44;

/** No substream: requests with it abort. */
export const NO_CONTEXT = encode(CD, {});

/**
 * The lower half of the address space through a table of the host, under a private ASID.
 *
 * @param stall faults of the device wait for an answer
 * @param dirtyTracking hardware sets access and dirty state in the leaves
 */
export const contextDescriptor = (
  caps: Capabilities,
  table: PageTable,
  asid: number,
  { dirtyTracking, stall }: { readonly dirtyTracking: boolean; readonly stall: boolean },
): Uint32Array =>
  encode(CD, {
    T0SZ: 64 - table.iovaBits,
    TG0: 0,
    IR0: WRITE_BACK,
    OR0: WRITE_BACK,
    SH0: INNER_SHAREABLE,
    EPD1: 1,
    V: 1,
    IPS: caps.oaCode,
    AA64: 1,
    HD: dirtyTracking ? 1 : 0,
    HA: dirtyTracking ? 1 : 0,
    S: stall ? 1 : 0,
    R: 1,
    A: 1,
    ASET: 1,
    ASID: asid,
    TTB0: table.rootPa,
    MAIR0: MEMORY_TYPES,
  });
