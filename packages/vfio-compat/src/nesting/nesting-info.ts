/**
 * What the nesting capability says of a VT-d unit.
 *
 * @spec mail of 10 September 2020, 1599734733-6431-1 (nested translation for VMs, v7)
 * @module
 */
import { HW_INFO_TYPE, type IommufdContext } from '@iommukit/core';
import type { Capability } from '../uapi/cap-chain.ts';
import { encode } from '../uapi/struct.ts';
import { CAP_NESTING, FORMAT_INTEL_VTD, LIU_STRUCTS } from './liu-layouts.ts';
import type { NestingInfo } from './nesting-calls.ts';

const CAP_REG_AT = 8;
const ECAP_REG_AT = 16;
/** FL1GP and FL5LP. */
const CAP_MASK = (1n << 56n) | (1n << 60n);
/** PRS, ERS, SRS, EAFS, PASID. */
const ECAP_MASK = (1n << 29n) | (1n << 30n) | (1n << 31n) | (1n << 34n) | (1n << 40n);
const FL5LP = 1n << 60n;
const INFO_BYTES = 56;

/** The info of the unit behind a device; undefined when it is no VT-d. */
export const vtdNestingInfo = (
  context: IommufdContext,
  devId: number,
  features: number,
): NestingInfo | undefined => {
  const { dataType, data, maxPasidLog2 } = context.getHwInfo({ devId });
  if (dataType !== HW_INFO_TYPE.INTEL_VTD) return undefined;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const cap = view.getBigUint64(CAP_REG_AT, true);
  const ecap = view.getBigUint64(ECAP_REG_AT, true);
  return {
    format: FORMAT_INTEL_VTD,
    features,
    addrWidth: cap & FL5LP ? 57 : 48,
    pasidBits: maxPasidLog2,
    vtdCapReg: cap & CAP_MASK,
    vtdEcapReg: ecap & ECAP_MASK,
  };
};

/** The capability: header and 56 bytes. */
export const nestingCapability = (info: NestingInfo): Capability => ({
  id: CAP_NESTING,
  version: 1,
  body: encode(LIU_STRUCTS.cap_nesting, { argsz: INFO_BYTES, ...info }),
});
