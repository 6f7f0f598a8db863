/**
 * Commands of a guest's command queue: which may reach the hardware, with which bits.
 *
 * @spec SMMUv3 4.3 to 4.5
 * @linux drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3-iommufd.c (arm_vsmmu_convert_user_cmd)
 */
import { hex, maskOf, u64 } from '@iommukit/bits';
import { refuse } from '@iommukit/core';
import { CFGI, COMMAND, TLBI } from '../spec/commands.ts';
import type { GuestFeatures } from './guest-features.ts';

const OP = 'IOMMU_HWPT_INVALIDATE';
const { NUM, SCALE, TTL, TG } = TLBI.fields;
const OPCODE_MASK = CFGI.fields.OPCODE.mask;
const VMID = maskOf(TLBI, 'VMID');
const VMID_MASK = TLBI.fields.VMID.mask;
const ASID_8_BITS = (0xff << 16) >>> 0;
const ASID_16_BITS = (0xffff << 16) >>> 0;
/** Bit 5 of SCALE, which only 52-bit addresses need. */
const SCALE_BIT_5 = (1 << (SCALE.shift + 5)) >>> 0;
const LEAF = TLBI.fields.LEAF.mask;
const ADDRESS = maskOf(TLBI, 'ADDR');
/** ATC_INV: G in dword 0, Size in dword 2. */
const ATC_GLOBAL = 1 << 9;
const ATC_SIZE = 0x3f;
const ATC_SIZE_ALL = 52;
const SUBSTREAM = maskOf(CFGI, 'SSID')[0] as number;
const SUBSTREAM_VALID = CFGI.fields.SSV.mask;
const U32_ALL = 0xffff_ffff;
const TG_16K = 2;

/** What a command names: translations of a VMID, or the configuration or ATC of a stream. */
export type CommandScope = 'translations' | 'stream';

/** The four u32 words that a command may have bits in, besides its opcode. */
type Masks = readonly [number, number, number, number];

/**
 * Check one command of a guest.
 *
 * @param words u32 words; the command is the four from `at` on
 * @returns what it names; the caller puts the host's VMID or StreamID in
 * @throws {IommuError} EIO for another opcode, a bit that is not the guest's, or a range that the
 *   unit does not take
 */
export const checkCommand = (
  words: Uint32Array,
  at: number,
  features: GuestFeatures,
): CommandScope => {
  const opcode = (words[at] as number) & OPCODE_MASK;
  const masks = allowedBits(opcode, features);
  if (!masks) {
    throw bad('guest-opcode', `command ${hex(opcode)} is not executed for a guest`, {
      value: opcode,
      accepted: 'TLBI_NSNH_ALL, TLBI_NH_ALL/ASID/VA/VAA, CFGI_CD, CFGI_CD_ALL, ATC_INV with ATS',
    });
  }
  checkBits(words, at, opcode, masks);
  if (opcode === COMMAND.ATC_INV) checkSpan(words[at + 2] as number);
  if (opcode === COMMAND.TLBI_NH_VA || opcode === COMMAND.TLBI_NH_VAA) {
    checkRange(words[at] as number, words[at + 2] as number, features);
  }
  const isStream = opcode === COMMAND.ATC_INV || opcode < COMMAND.TLBI_NH_ALL;
  return isStream ? 'stream' : 'translations';
};

/** Put the host's VMID into a TLBI; "all of the guest" becomes all of its VMID. */
export const withVmid = (words: Uint32Array, at: number, vmid: number): void => {
  if (words[at] === COMMAND.TLBI_NSNH_ALL) words[at] = COMMAND.TLBI_NH_ALL;
  words[at + 1] = (((words[at + 1] as number) & ~VMID_MASK) | vmid) >>> 0;
};

const allowedBits = (opcode: number, features: GuestFeatures): Masks | undefined => {
  const asid = features.asid16 ? ASID_16_BITS : ASID_8_BITS;
  const substream = features.ssidBits > 0 ? SUBSTREAM : 0;
  const withSsv = features.ssidBits > 0 ? (substream | SUBSTREAM_VALID | ATC_GLOBAL) >>> 0 : 0;
  const sizes = features.ranges ? rangeBits(features) : NO_RANGE;
  const address = ADDRESS[3] as number;
  const addressLo = ((ADDRESS[2] as number) | LEAF | sizes[1]) >>> 0;
  const vmid = VMID[1] as number;
  switch (opcode) {
    case COMMAND.TLBI_NSNH_ALL:
      return [0, 0, 0, 0];
    case COMMAND.TLBI_NH_ALL:
      return [0, vmid, 0, 0];
    case COMMAND.TLBI_NH_ASID:
      return [0, (vmid | asid) >>> 0, 0, 0];
    case COMMAND.TLBI_NH_VA:
      return [sizes[0], (vmid | asid) >>> 0, addressLo, address];
    case COMMAND.TLBI_NH_VAA:
      return [sizes[0], vmid, addressLo, address];
    case COMMAND.CFGI_CD:
      return [substream, U32_ALL, CFGI.fields.LEAF.mask, 0];
    case COMMAND.CFGI_CD_ALL:
      return [0, U32_ALL, 0, 0];
    case COMMAND.ATC_INV:
      return features.ats
        ? [withSsv, U32_ALL, ((ADDRESS[2] as number) | ATC_SIZE) >>> 0, address]
        : undefined;
    default:
      return undefined;
  }
};

const NO_RANGE = [0, 0] as const;

/** Bits of a range in dwords 0 and 2. */
const rangeBits = ({ wide }: GuestFeatures): readonly [number, number] => {
  const scale = wide ? SCALE.mask : SCALE.mask & ~SCALE_BIT_5;
  return [(NUM.mask | scale) >>> 0, (TTL.mask | TG.mask) >>> 0];
};

const checkBits = (words: Uint32Array, at: number, opcode: number, masks: Masks): void => {
  for (let index = 0; index < masks.length; index++) {
    const allowed = (masks[index] as number) | (index === 0 ? OPCODE_MASK : 0);
    const extra = ((words[at + index] as number) & ~allowed) >>> 0;
    if (extra === 0) continue;
    const message = `command ${hex(opcode)} cannot have bits ${hex(extra)} in dword ${index}`;
    throw bad('guest-command-bits', message, {
      value: u64(words[at + (index & 2)] as number, words[at + (index & 2) + 1] as number),
      accepted: `bits of ${hex(allowed >>> 0)} in that dword`,
    });
  }
};

const checkSpan = (word: number): void => {
  const size = word & ATC_SIZE;
  if (size <= ATC_SIZE_ALL) return;
  throw bad('guest-atc-size', `ATC_INV of 2^${size} pages`, {
    value: size,
    accepted: `0 to ${ATC_SIZE_ALL} (everything)`,
  });
};

/** @spec SMMUv3 4.4.1.1 */
const checkRange = (w0: number, w2: number, { wide }: GuestFeatures): void => {
  const granule = (w2 & TG.mask) >>> TG.shift;
  const level = (w2 & TTL.mask) >>> TTL.shift;
  const sized = (w0 & (NUM.mask | SCALE.mask)) !== 0 || level !== 0;
  if (granule === 0 ? sized : !sized) {
    throw bad('guest-range', 'TG and the size of the range (NUM, SCALE, TTL) contradict', {
      value: granule,
      accepted: 'TG 0 with NUM, SCALE and TTL 0, or TG 1 to 3 with one of them not 0',
    });
  }
  if (granule === TG_16K && level === 1 && !wide) {
    throw bad('guest-range', 'there are no 16K leaves at level 1 (IDR5.DS is 0)', {
      value: level,
      accepted: 'TTL 0, 2 or 3 with TG 2',
    });
  }
};

const bad = (
  rule: string,
  message: string,
  details: { value: number | bigint; accepted: string },
) => refuse('EIO', OP, rule, message, details);
