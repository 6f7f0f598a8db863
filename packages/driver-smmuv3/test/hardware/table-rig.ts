/**
 * A rig with tables that one line maps: stage 1, stage 2 or both, any granule.
 */
import { decode, encode } from '@iommukit/bits';
import { isStalled, RAZ_WI } from '@iommukit/core';
import { entryLg2, stage1StartLevel } from '../../src/hardware/geometry.ts';
import { CD, EVENT, EVENT_RECORD, STE } from '../../src/spec/index.ts';
import { AT, createRig, type RigOptions } from './rig.ts';

export const SID = 0x10;
export const READ = 1;
export const WRITE = 2;
export const EXEC = 4;
export const PRIV = 8;
/** Where structures are. */
export const CD_AT = 0x6_0000;
export const S1_ROOT = 0x20_0000;
export const S2_ROOT = 0x100_0000;
/** A page leaf: AF, both rights of either stage, Normal memory, not global. */
export const LEAF = 0xcfcn;
export const DBM = 1n << 51n;
export const AF = 1n << 10n;
/** AP[2] of stage 1: read only; S2AP[1] of stage 2: write. */
export const BIT7 = 1n << 7n;
/** {@link LEAF} as stage 1 reads it: bit 7 would make it read-only. */
export const S1_PAGE = LEAF & ~BIT7;

const NAMES = Object.fromEntries(Object.entries(EVENT).map(([name, code]) => [code, name]));

/** Make one. */
export const createTableRig = (options: RigOptions = {}) => {
  const rig = createRig(options);
  let nextTable = 0x400_0000;
  const stream = (fields: object = {}) =>
    rig.put(
      AT.STREAMS + SID * 64,
      encode(STE, { V: 1, CONFIG: 5, S1CONTEXTPTR: CD_AT, ...fields } as never),
    );
  const stage2 = (fields: object = {}) => ({
    S2T0SZ: 25,
    S2SL0: 1,
    S2PS: 5,
    S2AA64: 1,
    S2R: 1,
    S2TTB: S2_ROOT,
    S2VMID: 3,
    ...fields,
  });
  const context = (fields: object = {}) =>
    rig.put(
      CD_AT,
      encode(CD, {
        V: 1,
        T0SZ: 25,
        EPD1: 1,
        IPS: 5,
        AA64: 1,
        R: 1,
        A: 1,
        ASID: 1,
        TTB0: S1_ROOT,
        ...fields,
      } as never),
    );
  /**
   * Write the descriptors from a root to the leaf of an address.
   *
   * @param bits attributes of the leaf, without type and address
   * @returns address of the leaf descriptor
   */
  const map = (
    root: number,
    input: bigint,
    output: bigint,
    bits: bigint,
    {
      granuleLg2 = 12,
      inputBits = 39,
      level = 3,
      start = stage1StartLevel(granuleLg2, inputBits),
      tableBits = 0n,
      ds = false,
    } = {},
  ): number => {
    let table = root;
    for (let at = start; ; at++) {
      const shift = BigInt(entryLg2(granuleLg2, at));
      const mask = at === start ? (1n << 52n) - 1n : (1n << BigInt(granuleLg2 - 3)) - 1n;
      const place = table + Number((input >> shift) & mask) * 8;
      if (at === level) {
        const type = level === 3 ? 3n : 1n;
        rig.memory.store(place, addressBits(output, granuleLg2, ds) | bits | type);
        return place;
      }
      const known = rig.memory.load(place);
      if (known === 0n) {
        rig.memory.store(place, BigInt(nextTable) | tableBits | 3n);
        table = nextTable;
        nextTable += 0x1_0000;
      } else table = Number(known & 0xffff_ffff_f000n);
    }
  };
  /** PA, or the name of the event with its stage and class. */
  const ask = (va: bigint, access = READ, ssid = -1): string => {
    const frame = rig.unit.translatePage(SID, ssid, Number(va >> 12n), access, Number(va & 0xfffn));
    if (frame >= 0) return `0x${((BigInt(frame) << 12n) | (va & 0xfffn)).toString(16)}`;
    const end = isStalled(frame) ? 'stall ' : frame === RAZ_WI ? 'raz ' : '';
    const records = rig.events();
    rig.unit.writeReg32(0x100ac, rig.unit.readReg32(0x100a8));
    const last = records.at(-1);
    if (last === undefined) return `${end}silent`;
    const words = last.flatMap((word) => [Number(word & 0xffff_ffffn), Number(word >> 32n)]);
    const event = decode(EVENT_RECORD, words);
    const where = event.S2 === 1 ? ` S2 ${['CD', 'TT', 'IN'][event.CLASS]}` : '';
    return `${end}${NAMES[event.CODE]}${where}`;
  };
  const forget = () => rig.unit.caches.invalidateAll();
  return { ...rig, stream, stage2, context, map, ask, forget };
};

/** Output address as a descriptor holds it. */
const addressBits = (output: bigint, granuleLg2: number, ds: boolean): bigint => {
  if (granuleLg2 === 16) return (output & 0xffff_ffff_ffffn) | ((output >> 48n) << 12n);
  return ds ? (output & ((1n << 50n) - 1n)) | ((output >> 50n) << 8n) : output;
};

/** A rig as {@link createTableRig} makes it. */
export type TableRig = ReturnType<typeof createTableRig>;
