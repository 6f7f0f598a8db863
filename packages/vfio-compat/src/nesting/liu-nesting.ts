/**
 * What the calls of the posted series v4 to v7 do, typed and raw alike.
 *
 * @spec mail of 10 September 2020, 1599734733-6431-1-git-send-email-yi.l.liu@intel.com
 * @module
 */
import { isIommuError, type Machine, type Process } from '@iommukit/core';
import type { AttachedGroup } from '../backend.ts';
import { toU64, VfioCall } from '../call.ts';
import { decode } from '../uapi/struct.ts';
import { type BindData, checkBindData, checkVtdBind, toHwptData } from './bind-rules.ts';
import type { FirstStages } from './first-stages.ts';
import { checkInfo, type InvalidateInfo, vtdInvalidations } from './invalidate-rules.ts';
import {
  FORMAT_INTEL_VTD,
  INV_FLAG,
  LIU_STRUCTS,
  NESTING_FEATURE,
  PASID_FLAG,
} from './liu-layouts.ts';
import type {
  BindInput,
  CacheInvalidateInput,
  NestingCalls,
  NestingInfo,
} from './nesting-calls.ts';
import { PasidSpace } from './pasids.ts';

/** What differs between containers of this dialect. */
export interface LiuOptions {
  /** Report driver errors that the posted code swallowed. */
  readonly strictErrors: boolean;
  /** Sum of `NESTING_FEATURE` bits that are offered. */
  readonly features: number;
  /** PASIDs that one process may have. */
  readonly pasidQuota: number;
  readonly dmaEntryLimit?: number | undefined;
}

const MAX_PASID_REQUEST = 2 ** 31;
const PASID_BITS = 20;

/** The group of a container, and what hangs on it. */
export interface NestedGroup {
  readonly group: AttachedGroup;
  /** The HWPT that holds the container's mappings. */
  readonly parentId: number;
  readonly stages: FirstStages;
  readonly info: NestingInfo | undefined;
}

/** The nesting side of one container. */
export class LiuNesting implements NestingCalls {
  /** Set while the group is in the container. */
  nested: NestedGroup | undefined;
  readonly #options: LiuOptions;
  /** Whose PASIDs are used: the process that set the IOMMU. */
  readonly #owner: Process;
  readonly #pasids: PasidSpace;

  constructor(machine: Machine, owner: Process, options: LiuOptions) {
    this.#options = options;
    this.#owner = owner;
    this.#pasids = PasidSpace.of(machine);
    this.#pasids.join(owner);
  }

  get info(): NestingInfo | undefined {
    return this.nested?.info;
  }

  /** The container goes: so do the PASIDs, when it was the last one of the process. */
  release(): void {
    this.#pasids.leave(this.#owner);
  }

  pasidAlloc({ min, max }: { readonly min: number; readonly max: number }): number {
    return this.request(this.#call('PASID_REQUEST'), PASID_FLAG.ALLOC, min, max);
  }

  pasidFree({ min, max }: { readonly min: number; readonly max: number }): void {
    this.request(this.#call('PASID_REQUEST'), PASID_FLAG.FREE, min, max);
  }

  bindPgtbl(input: BindInput): void {
    this.bind(this.#call('NESTING_OP'), {
      ...BIND_DEFAULTS,
      addrWidth: input.addrWidth ?? BIND_DEFAULTS.addrWidth,
      gpgd: toU64('gpgd', input.gpgd),
      hpasid: toU64('hpasid', input.hpasid),
      gpasid: toU64('gpasid', input.gpasid ?? 0),
      vtdFlags: toU64('vtdFlags', input.vtdFlags ?? 0),
    });
  }

  unbindPgtbl({ hpasid }: { readonly hpasid: number }): void {
    this.unbind(this.#call('NESTING_OP'), toU64('hpasid', hpasid));
  }

  cacheInvalidate(input: CacheInvalidateInput): void {
    const flags =
      (input.pasid === undefined ? 0 : INV_FLAG.PASID) | (input.leaf ? INV_FLAG.LEAF : 0);
    this.invalidate(this.#call('NESTING_OP'), {
      ...INVALIDATE_DEFAULTS,
      cache: input.cache,
      granularity: input.granularity,
      flags,
      pasid: toU64('pasid', input.pasid ?? 0),
      addr: toU64('addr', input.addr ?? 0),
      granuleSize: toU64('granuleSize', input.granuleSize ?? 4096),
      nbGranules: toU64('nbGranules', input.nbGranules ?? 1),
    });
  }

  #call(name: string): VfioCall {
    return new VfioCall(this.#owner, `VFIO_IOMMU_${name}`);
  }

  /** `VFIO_IOMMU_PASID_REQUEST`: a PASID, or 0. EINVAL, EOPNOTSUPP, ENOSPC. */
  request(call: VfioCall, flags: number, min: number, max: number): number {
    if (flags !== PASID_FLAG.ALLOC && flags !== PASID_FLAG.FREE) {
      throw call.refuse('EINVAL', 'pasid-flags', `flags ${flags} name no one operation`, {
        value: flags,
        accepted: 'ALLOC_PASID 1 or FREE_PASID 2',
      });
    }
    if (!(min >= 0 && min <= max && max <= MAX_PASID_REQUEST)) {
      throw call.refuse('EINVAL', 'pasid-range', `the range ${min} to ${max} is none`, {
        range: { start: min, last: max },
        accepted: `min up to max, max up to ${MAX_PASID_REQUEST}`,
      });
    }
    this.#needFeature(call, NESTING_FEATURE.SYSWIDE_PASID, 'SYSWIDE_PASID');
    if (flags === PASID_FLAG.FREE) return this.#free(min, max);
    const quota = this.#options.pasidQuota;
    const pasid = this.#pasids.alloc(this.#owner, min, max, quota);
    if (pasid >= 0) return pasid;
    throw call.refuse('ENOSPC', 'pasid-quota', 'no PASID is left in the range or the quota', {
      value: quota,
      accepted: `at most ${quota} PASIDs per process`,
    });
  }

  #free(min: number, max: number): number {
    for (const pasid of this.#pasids.ownedIn(this.#owner, min, max)) {
      this.nested?.stages.unbind(pasid);
      this.#pasids.free(this.#owner, pasid);
    }
    return 0;
  }

  #needFeature(call: VfioCall, feature: number, name: string): NestedGroup {
    const nested = this.nested;
    if (nested?.info && nested.info.features & feature) return nested;
    throw call.refuse('EOPNOTSUPP', 'nesting-feature', `${name} is not offered`, {
      value: feature,
      accepted: 'features that the nesting capability of VFIO_IOMMU_GET_INFO lists',
    });
  }

  /**
   * BIND_PGTBL.
   *
   * @throws {IommuError} EOPNOTSUPP, EINVAL, ENOENT, EACCES, EBUSY, or what the driver says
   */
  bind(call: VfioCall, data: BindData): void {
    const nested = this.#needFeature(call, NESTING_FEATURE.BIND_PGTBL, 'BIND_PGTBL');
    checkBindData(call, data);
    if (nested.info?.pasidBits !== PASID_BITS) {
      throw call.refuse('EINVAL', 'pasid-width', 'the device does not have all PASIDs', {
        value: nested.info?.pasidBits ?? 0,
        accepted: `a device and a unit with ${PASID_BITS} bits of PASID`,
      });
    }
    checkVtdBind(call, data);
    const pasid = Number(data.hpasid);
    this.#checkOwner(call, pasid);
    if (nested.stages.has(pasid)) {
      throw call.refuse('EBUSY', 'pasid-bound', `PASID ${pasid} has a table`, {
        value: pasid,
        accepted: 'UNBIND_PGTBL first',
      });
    }
    nested.stages.bind(pasid, toHwptData(data));
  }

  #checkOwner(call: VfioCall, pasid: number): void {
    const owner = this.#pasids.ownerOf(pasid);
    if (owner === this.#owner) return;
    const what = owner ? 'belongs to another process' : 'was never allocated';
    throw call.refuse(owner ? 'EACCES' : 'ENOENT', 'pasid-owner', `PASID ${pasid} ${what}`, {
      value: pasid,
      accepted: 'a PASID from PASID_REQUEST of this process',
    });
  }

  /** UNBIND_PGTBL. As posted, an unknown PASID is no error. */
  unbind(call: VfioCall, hpasid: bigint): void {
    const nested = this.#needFeature(call, NESTING_FEATURE.BIND_PGTBL, 'BIND_PGTBL');
    if (nested.stages.unbind(Number(hpasid)) || !this.#options.strictErrors) return;
    throw call.refuse('EINVAL', 'pasid-unbound', `PASID ${hpasid} has no table`, {
      value: hpasid,
      accepted: 'a PASID that BIND_PGTBL was called for',
    });
  }

  /** CACHE_INVLD. As posted, malformed requests are refused, driver errors not reported. */
  invalidate(call: VfioCall, info: InvalidateInfo): void {
    const nested = this.#needFeature(call, NESTING_FEATURE.CACHE_INVLD, 'CACHE_INVLD');
    checkInfo(call, info);
    try {
      this.#invalidateByDriver(call, info, nested.stages);
    } catch (error) {
      if (this.#options.strictErrors || !isIommuError(error)) throw error;
    }
  }

  #invalidateByDriver(call: VfioCall, info: InvalidateInfo, stages: FirstStages): void {
    const { list, unsupported } = vtdInvalidations(call, info);
    for (const invalidation of list) {
      if (stages.invalidate(invalidation)) continue;
      throw call.refuse('EINVAL', 'pasid-unbound', `PASID ${invalidation.pasid} has no table`, {
        value: invalidation.pasid,
        accepted: 'a PASID that BIND_PGTBL was called for',
      });
    }
    if (!unsupported) return;
    throw call.refuse('EINVAL', 'cache-command', `a VT-d unit has no such ${unsupported} command`, {
      value: info.granularity,
      accepted: 'IOTLB with PASID or ADDR, DEV_IOTLB with ADDR',
    });
  }
}

const BIND_DEFAULTS: BindData = {
  ...decode(LIU_STRUCTS.gpasid_bind_data, new Uint8Array(0)),
  argsz: LIU_STRUCTS.gpasid_bind_data.size,
  version: 1,
  format: FORMAT_INTEL_VTD,
  addrWidth: 48,
};

const INVALIDATE_DEFAULTS: InvalidateInfo = {
  ...decode(LIU_STRUCTS.cache_invalidate_info, new Uint8Array(0)),
  argsz: LIU_STRUCTS.cache_invalidate_info.size,
  version: 1,
};
