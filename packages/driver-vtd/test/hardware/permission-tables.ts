/** Host permission tables for tests, as words by byte address, built entry by entry. */
import { ACCESS } from '@iommukit/core';
import type { VtdHardwareOptions } from '../../src/hardware/index.ts';
import { type BenchUnit, toPfn } from './bench-unit.ts';
import { PASID, RID, SS_ENTRY, scalable, secondStage } from './tables.ts';

export type Words = Record<number, bigint>;

/** Every part of host permission tables, and PASIDs in translated requests. */
export const PERMISSION_OPTIONS: Partial<VtdHardwareOptions> = {
  capabilities: { ecap: { HPTS: 1, HPT1GPS: 1, PTRS: 1 } },
};

/** A host physical address whose index differs at every level. */
export const HPA = 0x0312_3456_7000n;
export const HPTDID = 3n;
export const ROOT = 0x4_8000n;
/** Tables of each level; level 0 is none. */
const TABLES = [0n, 0x4_3000n, 0x4_2000n, 0x4_1000n, ROOT] as const;
/** lg2 of the bytes that an entry covers, by level. */
const ENTRY_LG2 = [0, 17, 25, 33, 41] as const;
/** lg2 of the bytes that a pair stands for, by level. */
const PAIR_LG2 = [0, 12, 21, 30] as const;

/** Byte address of the entry of a level. */
export const entryAt = (level: number, address = HPA): number => {
  const index = (address >> BigInt(ENTRY_LG2[level] as number)) & (level === 4 ? 0x7ffn : 0xffn);
  return Number((TABLES[level] as bigint) + index * 16n);
};

/** The 128 bits of an entry with one pair, and the next table where it has one. */
export const entryWords = (level: number, pair: bigint, address = HPA, valid = true): bigint => {
  const pairs = level === 4 ? 0n : pair << BigInt(4 * pairIndex(level, address));
  if (level === 1) return pairs;
  return pairs | (valid ? ((TABLES[level - 1] as bigint) | 1n) << 64n : 0n);
};

const pairIndex = (level: number, address: bigint): number => {
  const bits = (ENTRY_LG2[level] as number) - (PAIR_LG2[level] as number);
  return Number((address >> BigInt(PAIR_LG2[level] as number)) & ((1n << BigInt(bits)) - 1n));
};

/** An entry as two words at its address. */
export const putEntry = (level: number, value: bigint, address = HPA): Words => ({
  [entryAt(level, address)]: value & 0xffff_ffff_ffff_ffffn,
  [entryAt(level, address) + 8]: value >> 64n,
});

/** Tables that give `pair` to an address by a page of `level` (1 = 4 KiB, 2 = 2 MiB, 3 = 1 GiB). */
export const permission = (level: number, pair: bigint, address = HPA): Words => ({
  ...putEntry(4, entryWords(4, 0n, address), address),
  ...(level <= 3 && putEntry(3, entryWords(3, level === 3 ? pair : 0n, address), address)),
  ...(level <= 2 && putEntry(2, entryWords(2, level === 2 ? pair : 0n, address), address)),
  ...(level <= 1 && putEntry(1, entryWords(1, pair, address), address)),
});

/** HPTPTR, HPTSZ and HPTDID of the PASID entry of PASID 0, or of 12345h. */
export const tableFields = (pasid = 0, pointer = ROOT, size = 0n, did = HPTDID): Words => {
  const base = pasid === 0 ? 0x7000 : 0x9140;
  return { [base + 32]: pointer | size, [base + 40]: did };
};

/** Context entry with DTE, PASIDE, PRE and HPTE. */
export const HPTE_CONTEXT = 0x2_0e3dn;
/** And EPTR. */
export const HPTE_EPTR_CONTEXT = 0x2_0e7dn;

const PWSNP = 0x80_0000n;
const entryOf = (base: number): Words => ({ [base]: SS_ENTRY, [base + 8]: PWSNP | 7n });

/** Scalable tables with HPTE=1; PASID 0 is RID_PASID, 12345h is there too. */
export const behindTables = (context = HPTE_CONTEXT): Words => ({
  ...scalable(context),
  ...entryOf(0x7000),
  ...entryOf(0x9140),
  ...secondStage(),
  ...tableFields(0),
  ...tableFields(PASID),
});

/** A translated request. */
export const translated = (
  bench: BenchUnit,
  access: number = ACCESS.READ,
  address = HPA,
  pasid = -1,
): number => bench.unit.translatedPage(RID, pasid, toPfn(address), access);
