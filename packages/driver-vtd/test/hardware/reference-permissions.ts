/**
 * Host permission tables, slow and obvious: bigint, one read at a time, no cache, no code shared with
 * the model.
 */
import { ACCESS } from '@iommukit/core';
import type { Features } from '../../src/hardware/index.ts';

const bits = (value: bigint, hi: number, lo: number) =>
  (value >> BigInt(lo)) & ((1n << BigInt(hi - lo + 1)) - 1n);

/** Level 4 down to 1: address bits that choose the entry, and the pair in it. */
const LEVELS = [
  { name: 4, entry: [51, 41], pair: undefined },
  { name: 3, entry: [40, 33], pair: [32, 30] },
  { name: 2, entry: [32, 25], pair: [24, 21] },
  { name: 1, entry: [24, 17], pair: [16, 12] },
] as const;

const isReserved = (entry: bigint, level: number, f: Features): boolean => {
  if (level > 1 && (bits(entry, 75, 65) !== 0n || bits(entry, 115, 64 + f.hawBits) !== 0n))
    return true;
  if (level === 4) return bits(entry, 63, 0) !== 0n;
  const top = { 3: 31, 2: 63, 1: 127 }[level] as number;
  if (
    level === 3 &&
    (bits(entry, 63, 32) !== 0n || (!f.hostPermission1G && bits(entry, 31, 0) !== 0n))
  )
    return true;
  for (let lo = 0; lo < top; lo += 4) if (bits(entry, lo + 3, lo + 2) !== 0n) return true;
  return false;
};

/** What stands in the tables for an address: a pair, or a reason as a negative number. */
const pairFor = (
  read: (pa: bigint) => bigint | undefined,
  f: Features,
  root: bigint,
  address: bigint,
): number => {
  let table = root;
  for (const { name, entry, pair } of LEVELS) {
    const at = table + bits(address, entry[0], entry[1]) * 16n;
    const [lo, hi] = [read(at), read(at + 8n)];
    if (lo === undefined || hi === undefined) return name === 4 ? -0xa2 : -0xa0;
    const value = (hi << 64n) | lo;
    if (isReserved(value, name, f)) return -0xa1;
    const index = pair ? Number(bits(address, pair[0], pair[1])) : 0;
    const found = pair ? Number(bits(value, 4 * index + 1, 4 * index)) : 0;
    if (found !== 0 || name === 1) return found;
    if (bits(value, 64, 64) === 0n) return 0;
    table = bits(value, 115, 76) << 12n;
  }
  return 0;
};

/** 0 = may pass, or the fault reason. @param entry fields of the PASID entry */
export const referencePermission = (
  read: (pa: bigint) => bigint | undefined,
  f: Features,
  entry: Readonly<Record<string, number>>,
  pfn: bigint,
  access: number,
): number => {
  if (pfn >> BigInt(37 + (entry['HPTSZ'] as number)) !== 0n) return 0x60;
  const pair = pairFor(read, f, BigInt(entry['HPTPTR'] as number), pfn << 12n);
  if (pair < 0) return -pair;
  const atomic = (access & ACCESS.ATOMIC) !== 0;
  const write = atomic || (access & ACCESS.WRITE) !== 0;
  const plain = (access & ACCESS.READ) !== 0 || !write;
  if (!write && (access & ACCESS.ZERO_LENGTH) !== 0 && f.zeroLengthRead)
    return pair === 0 ? 0xa3 : 0;
  if (write && (pair & 2) === 0) return 0xa4;
  return (plain || atomic) && (pair & 1) === 0 ? 0xa5 : 0;
};
