/**
 * What a bind of a guest's first-stage table may say.
 *
 * @spec mail of 25 September 2020 (IOMMU user API v12); 13 May 2020, 1589410909-38925-5 (VT-d bind)
 * @module
 */
import type { VfioCall } from '../call.ts';
import { encode, struct, u32, u64, type ValuesOf } from '../uapi/struct.ts';
import {
  BIND_FLAG_GPASID_VAL,
  FORMAT_INTEL_VTD,
  type LIU_STRUCTS,
  VTD_BIND_FLAG,
} from './liu-layouts.ts';

/** A decoded `iommu_gpasid_bind_data`. */
export type BindData = ValuesOf<(typeof LIU_STRUCTS)['gpasid_bind_data']['fields']>;

const VERSION = 1;
const PASID_LIMIT = 2n ** 20n;
const { SRE, EAFE, PCD, PWT, EMTE, CD, WPE } = VTD_BIND_FLAG;
const VTD_FLAGS = SRE | EAFE | PCD | PWT | EMTE | CD | WPE;

/**
 * The checks that every IOMMU shares.
 *
 * @throws {IommuError} EINVAL
 */
export const checkBindData = (call: VfioCall, data: BindData): void => {
  const bad = (rule: string, value: number | bigint, accepted: string) =>
    call.refuse('EINVAL', rule, `${rule} is ${value}`, { value, accepted });
  if (data.version !== VERSION) throw bad('version', data.version, `${VERSION}`);
  if (data.format !== FORMAT_INTEL_VTD) throw bad('format', data.format, 'INTEL_VTD 1');
  if (data.flags & ~BigInt(BIND_FLAG_GPASID_VAL)) throw bad('flags', data.flags, '0 or 1');
  if (data.padding !== 0n) throw bad('padding', data.padding, '0');
  if (data.vtdFlags & ~BigInt(VTD_FLAGS)) throw bad('vtd.flags', data.vtdFlags, 'bits of 0x7f');
};

/**
 * What a VT-d unit checks besides.
 *
 * @throws {IommuError} EINVAL
 */
export const checkVtdBind = (call: VfioCall, data: BindData): void => {
  if (data.hpasid === 0n || data.hpasid >= PASID_LIMIT) {
    throw call.refuse('EINVAL', 'hpasid', `PASID ${data.hpasid} is none of a device`, {
      value: data.hpasid,
      accepted: '1 to 2^20 - 1, from PASID_REQUEST',
    });
  }
  if (data.vtdFlags & BigInt(EMTE | CD)) {
    throw call.refuse('EINVAL', 'memory-type', 'the unit has no memory types in its tables', {
      value: data.vtdFlags,
      accepted: 'neither EMTE 0x10 nor CD 0x20',
    });
  }
};

/** `struct iommu_hwpt_vtd_s1`, and its flags. */
const HWPT_VTD_S1 = struct(24, { flags: u64(0), pgtbl_addr: u64(8), addr_width: u32(16) });
const S1_FLAG = { SRE: 1n, EAFE: 2n, WPE: 4n } as const;

/** The same table as iommufd takes it. PCD and PWT have no counterpart and change no translation. */
export const toHwptData = ({ vtdFlags, gpgd, addrWidth }: BindData): Uint8Array => {
  const has = (flag: number): boolean => (vtdFlags & BigInt(flag)) !== 0n;
  const flags =
    (has(SRE) ? S1_FLAG.SRE : 0n) | (has(EAFE) ? S1_FLAG.EAFE : 0n) | (has(WPE) ? S1_FLAG.WPE : 0n);
  return encode(HWPT_VTD_S1, { flags, pgtblAddr: gpgd, addrWidth });
};
