/**
 * AMD v1 entries for the walkers, with level skipping and size-coded leaves.
 * @spec AMD IOMMU 2.2.3
 * @module
 */
import { type DecodedEntry, ENTRY, type EntryDecoder, frameOf } from '../walk/entry-decoder.ts';
import { WALK } from '../walk/walk-trace.ts';
import { AMD_V1_PDE, AMD_V1_PTE } from './amd-v1-layout.ts';

/** NextLevel of a leaf whose size is coded in its address. */
const SIZE_CODED = 7;
/** Level 6, whose entries are never leaves. */
const TOP_LEVEL = 5;

/** log2 frames of a size-coded leaf: one more than the trailing ones of its frame field. */
function codedSize(frame: number): number {
  let ones = 0;
  for (let rest = frame; rest % 2 === 1; rest = (rest - 1) / 2) ones++;
  return ones + 1;
}

/**
 * Decoder for entries whose address fields count frames of `2^frameLg2` bytes.
 * @param frameLg2 12; 11 for the mock format
 */
export function createAmdDecoder(frameLg2: number): EntryDecoder {
  const { NextLevel, PR, A, IR, IW } = AMD_V1_PTE.fields;
  const pr = PR.mask;
  const nextMask = NextLevel.mask;
  const nextShift = NextLevel.shift;
  const a = A.mask;
  const d = AMD_V1_PTE.fields.D.mask;
  const ir = IR.shift;
  const rw = (IR.mask | IW.mask) >>> ir;
  const leafRsvd = AMD_V1_PTE.reservedMasks[1] as number;
  const tableRsvd = AMD_V1_PDE.reservedMasks[1] as number;
  const frameBytes = 2 ** frameLg2;

  function leaf(lo: number, hi: number, level: number, next: number, out: DecodedEntry): number {
    if ((hi & leafRsvd) !== 0) return WALK.RESERVED;
    out.frame = frameOf(lo, hi);
    out.sizeLg2 = 9 * level;
    out.accessed = (lo & a) !== 0;
    out.dirty = (lo & d) !== 0;
    if (next !== SIZE_CODED) return level === TOP_LEVEL ? WALK.BAD_LEVEL : ENTRY.LEAF;
    const size = codedSize(out.frame);
    if (level === TOP_LEVEL || size <= out.sizeLg2 || size >= out.sizeLg2 + 9)
      return WALK.BAD_LEVEL;
    out.frame -= 2 ** (size - 1) - 1;
    out.sizeLg2 = size;
    return ENTRY.LEAF;
  }

  return {
    levelBits: 9,
    granuleLg2: 0,
    decode(lo: number, hi: number, level: number, out: DecodedEntry): number {
      if ((lo & pr) === 0) return ENTRY.NOT_PRESENT;
      const next = (lo & nextMask) >>> nextShift;
      out.prot = (hi >>> ir) & rw;
      if (level === 0 || next === 0 || next === SIZE_CODED) return leaf(lo, hi, level, next, out);
      if ((hi & tableRsvd) !== 0) return WALK.RESERVED;
      if (next > level) return WALK.BAD_LEVEL; // NextLevel counts from 1: it must be below this level
      out.tablePa = frameOf(lo, hi) * frameBytes;
      out.nextLevel = next - 1;
      return ENTRY.TABLE;
    },
  };
}
