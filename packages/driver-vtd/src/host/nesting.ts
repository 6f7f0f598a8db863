/**
 * Nested domains: the guest owns the first stage, the parent HWPT is the second.
 *
 * @spec VT-d 3.8
 * @linux drivers/iommu/intel/nested.c
 */

import { u64 } from '@iommukit/bits';
import {
  type IommuUnit,
  type NestedDomain,
  type PagingDomain,
  PendingRanges,
  refuse,
  type UserArray,
  type UserBlob,
} from '@iommukit/core';
import { CacheTags, TAG } from './cache-tags.ts';
import type { Capabilities } from './capabilities.ts';
import { VtdPagingDomain } from './domain.ts';
import { HWPT_ALLOC } from './hwpt-flags.ts';
import { nestedEntry } from './pasid-entry.ts';
import { TranslatingDomain } from './translating-domain.ts';
import type { UnitContext } from './unit-context.ts';
import { INVALIDATE_BYTES, readInvalidation } from './user-invalidation.ts';

/** `IOMMU_HWPT_DATA_VTD_S1`. */
const HWPT_DATA_VTD_S1 = 1;
/** `IOMMU_HWPT_INVALIDATE_DATA_VTD_S1`. */
const INVALIDATE_DATA_VTD_S1 = 0;

/** `struct iommu_hwpt_vtd_s1`. */
const S1 = { BYTES: 24, FLAGS: 0, PGTBL_ADDR: 8, ADDR_WIDTH: 16, RESERVED: 20 } as const;
/** `enum iommu_hwpt_vtd_s1_flags`. */
const S1_FLAG = { SRE: 1, EAFE: 2, WPE: 4 } as const;
const S1_FLAGS = S1_FLAG.SRE | S1_FLAG.EAFE | S1_FLAG.WPE;

const ALLOC_OP = 'IOMMU_HWPT_ALLOC';
const INVALIDATE_OP = 'IOMMU_HWPT_INVALIDATE';

/** The guest's first stage as the user described it. */
export interface NestedTables {
  /** Guest physical address of the top table. */
  readonly rootGpa: bigint;
  /** 4 or 5. */
  readonly levels: number;
  readonly supervisorRequests: boolean;
  readonly writeProtect: boolean;
  readonly extendedAccessed: boolean;
}

/** What a guest said of its tables. */
export interface UserTables extends NestedTables {
  readonly addrWidthBits: number;
}

/**
 * Make a nested domain from `struct iommu_hwpt_vtd_s1`. Width and flags are checked when it is
 * attached, as Linux does.
 *
 * @param strictReserved also refuse reserved bytes and unknown flag bits, which Linux 7.3 ignores
 * @throws {IommuError} EOPNOTSUPP without nesting, for flags other than PASID, for another data
 *   type; EINVAL for a parent that is no second-stage nest parent, or a blob of another size
 * @linux drivers/iommu/intel/nested.c (intel_iommu_domain_alloc_nested)
 */
export const allocNested = (
  unit: IommuUnit,
  context: UnitContext,
  parent: PagingDomain,
  flags: number,
  userData: UserBlob,
  strictReserved: boolean,
): NestedDomain => {
  if (!context.caps.nesting) {
    throw unsupported('nesting', `${context.name} does not nest (ECAP.NEST or scalable mode)`);
  }
  if ((flags & ~HWPT_ALLOC.PASID) !== 0) {
    throw unsupported('hwpt-flags', 'a nested HWPT takes no flag but IOMMU_HWPT_ALLOC_PASID', {
      value: flags,
      accepted: `0 or ${HWPT_ALLOC.PASID}`,
    });
  }
  if (userData.type !== HWPT_DATA_VTD_S1) {
    throw unsupported('data-type', `data type ${userData.type} is not VT-d's stage 1`, {
      value: userData.type,
      accepted: `IOMMU_HWPT_DATA_VTD_S1 (${HWPT_DATA_VTD_S1})`,
    });
  }
  if (!(parent instanceof VtdPagingDomain) || !parent.nestParent || !parent.usesSecondStage) {
    throw refuse('EINVAL', ALLOC_OP, 'nest-parent', 'the parent is no second-stage nest parent', {
      accepted: 'a HWPT made with IOMMU_HWPT_ALLOC_NEST_PARENT on a VT-d unit',
    });
  }
  const bytes = userData.copyIn(HWPT_DATA_VTD_S1, S1.BYTES, S1.BYTES);
  const tables = readUserTables(bytes, strictReserved);
  return new VtdNestedDomain(unit, context, parent, tables, (flags & HWPT_ALLOC.PASID) !== 0);
};

const unsupported = (rule: string, message: string, details = {}) =>
  refuse('EOPNOTSUPP', ALLOC_OP, rule, message, details);

const readUserTables = (bytes: Uint8Array, strictReserved: boolean): UserTables => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const flags = view.getUint32(S1.FLAGS, true);
  if (strictReserved) checkReserved(view, flags);
  const addrWidthBits = view.getUint32(S1.ADDR_WIDTH, true);
  const rootLo = (view.getUint32(S1.PGTBL_ADDR, true) & 0xffff_f000) >>> 0;
  return {
    rootGpa: u64(rootLo, view.getUint32(S1.PGTBL_ADDR + 4, true)),
    addrWidthBits,
    levels: addrWidthBits === 57 ? 5 : 4,
    supervisorRequests: (flags & S1_FLAG.SRE) !== 0,
    writeProtect: (flags & S1_FLAG.WPE) !== 0,
    extendedAccessed: (flags & S1_FLAG.EAFE) !== 0,
  };
};

const checkReserved = (view: DataView, flags: number): void => {
  if ((flags & ~S1_FLAGS) !== 0 || view.getUint32(S1.FLAGS + 4, true) !== 0) {
    throw unsupported('s1-flags', 'iommu_hwpt_vtd_s1.flags has unknown bits', {
      value: flags,
      accepted: 'SRE (1), EAFE (2), WPE (4)',
    });
  }
  if (view.getUint32(S1.RESERVED, true) !== 0) {
    throw unsupported('s1-reserved', 'iommu_hwpt_vtd_s1.__reserved must be zero', {
      value: view.getUint32(S1.RESERVED, true),
    });
  }
};

/** A guest's first stage over a nest parent. */
export class VtdNestedDomain extends TranslatingDomain implements NestedDomain {
  readonly kind = 'nested';
  readonly parent: VtdPagingDomain;
  readonly pasidCompatible: boolean;
  readonly ownsPasidTable = false;
  readonly usesSecondStage = true;
  readonly tables: UserTables;
  /** What the guest's own invalidations must reach. */
  readonly #tags = new CacheTags();
  readonly #ranges = new PendingRanges();

  constructor(
    unit: IommuUnit,
    context: UnitContext,
    parent: VtdPagingDomain,
    tables: UserTables,
    pasidCompatible: boolean,
  ) {
    super(unit, context);
    this.parent = parent;
    this.tables = tables;
    this.pasidCompatible = pasidCompatible;
    parent.children.add(this);
  }

  free(): void {
    this.context.domains.remove(this);
    this.parent.children.delete(this);
  }

  checkFits(unit: UnitContext): void {
    if (!unit.caps.nesting) {
      throw misfit('nesting', `${unit.name} does not nest (ECAP.NEST or scalable mode)`);
    }
    this.parent.checkFits(unit);
    checkTables(unit.caps, this.tables);
  }

  pasidEntry(unit: UnitContext, did: number): Uint32Array {
    return nestedEntry(unit.caps, this.parent, this.tables, did);
  }

  contextEntry(): Uint32Array {
    throw misfit('nesting', 'legacy mode does not nest');
  }

  addTags(unit: UnitContext, did: number, pasid: number): void {
    this.#tags.addTranslation(unit, did, pasid, TAG.FIRST_STAGE);
    this.parent.tags.addTranslation(unit, did, pasid, TAG.BELOW_NESTED);
  }

  removeTags(unit: UnitContext, did: number, pasid: number): void {
    this.#tags.removeTranslation(unit, did, pasid, TAG.FIRST_STAGE);
    this.parent.tags.removeTranslation(unit, did, pasid, TAG.BELOW_NESTED);
  }

  addDeviceTags(unit: UnitContext, rid: number, pasid: number): void {
    this.#tags.addDevice(unit, rid, pasid, false);
    this.parent.tags.addDevice(unit, rid, pasid, true);
  }

  removeDeviceTags(unit: UnitContext, rid: number, pasid: number): void {
    this.#tags.removeDevice(unit, rid, pasid, false);
    this.parent.tags.removeDevice(unit, rid, pasid, true);
  }

  protected clearTags(): void {
    this.#tags.clear();
  }

  /**
   * `IOMMU_HWPT_INVALIDATE`: the guest changed its table. Entries are taken one by one up to the
   * first bad one; those before it are done and counted.
   *
   * @throws {IommuError} EINVAL for another data type, a misaligned address, "all pages" from a
   *   nonzero address; EOPNOTSUPP for unknown flags or reserved bytes
   * @linux drivers/iommu/intel/nested.c (intel_nested_cache_invalidate_user)
   */
  invalidate(array: UserArray): void {
    array.done = 0;
    if (array.type !== INVALIDATE_DATA_VTD_S1) {
      throw refuse(
        'EINVAL',
        INVALIDATE_OP,
        'data-type',
        `invalidation type ${array.type} is not VT-d's stage 1`,
        { value: array.type, accepted: `IOMMU_HWPT_INVALIDATE_DATA_VTD_S1 (0)` },
      );
    }
    try {
      for (let index = 0; index < array.entryCount; index++) {
        const size = INVALIDATE_BYTES;
        this.#addEntry(array.copyEntry(index, INVALIDATE_DATA_VTD_S1, size, size));
        array.done++;
      }
    } finally {
      this.#tags.submit();
    }
  }

  #addEntry(bytes: Uint8Array): void {
    const { startPfn, lastPfn, leavesOnly } = readInvalidation(bytes);
    this.#ranges.clear();
    this.#ranges.add(startPfn, lastPfn);
    this.#tags.add(this.#ranges, leavesOnly);
  }
}

const misfit = (rule: string, message: string, details = {}) =>
  refuse('EINVAL', 'attach', rule, message, details);

/** @linux drivers/iommu/intel/pasid.c (intel_pasid_setup_nested) */
const checkTables = (caps: Capabilities, tables: UserTables): void => {
  const fiveLevels = tables.addrWidthBits === 57 && caps.cap.FS5LP === 1;
  if (tables.addrWidthBits !== 48 && !fiveLevels) {
    throw misfit('addr-width', `a guest table of ${tables.addrWidthBits} bits cannot be walked`, {
      value: tables.addrWidthBits,
      accepted: caps.cap.FS5LP === 1 ? '48 or 57' : '48 (the unit has no 5-level first stage)',
    });
  }
  if (tables.supervisorRequests && caps.ecap.SRS === 0) {
    throw misfit('s1-sre', 'IOMMU_VTD_S1_SRE needs supervisor request support (ECAP.SRS=0)');
  }
  if (tables.extendedAccessed && caps.ecap.EAFS === 0) {
    throw misfit('s1-eafe', 'IOMMU_VTD_S1_EAFE needs the extended accessed flag (ECAP.EAFS=0)');
  }
};
