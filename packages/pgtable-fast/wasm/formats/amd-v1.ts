// AMD v1 host tables, AMD IOMMU 2.2.3. AMD_FRAME_LG2 is 12, or 11 for the mock format, whose address
// fields count 2 KiB. The layout is src/formats/amd-v1-layout.ts; a test compares them.
export const LEVEL_BITS: i32 = 9;
export const GRANULE_LG2: i32 = 0;
export const MAX_LEVELS: i32 = AMD_MAX_LEVELS;
export const HAS_GROUPS: bool = true;
export const DYNAMIC_TOP: bool = true;
export const WIDTH_BY_LEVELS: bool = true; // what a narrower table leaves out is never mapped
export const WIDE_ROOT: bool = false;
export const SIGN_EXTENDED: bool = false;
export const HIGH_OUTPUT_SPLIT: bool = false;

const PR: u64 = 1 << 0;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const NEXT_LEVEL: u64 = 0xe00;
const SIZE_CODED: u64 = 0xe00; // NextLevel 7
const ADDR: u64 = 0x000f_ffff_ffff_f000;
const FC: u64 = 1 << 60;
const IR: u64 = 1 << 61;
const IW: u64 = 1 << 62;

const OPTION_FORCE_COHERENT: u32 = 1;

export const RUN_MASK: u64 = ADDR | NEXT_LEVEL;
export const GROUP_MASK: u64 = NEXT_LEVEL; // in a level-0 entry: belongs to a leaf of several slots
export const DIRTY_MASK: u64 = D;
export const DIRTY_XOR: u64 = 0;
export const DIRTY_FLIP: u64 = D;
/** Low half of a level-1 entry that points to a table: `(lo & MASK) == BITS`, as isTable() has it. */
export const LEAF_TABLE_MASK: u32 = 0xe01;
export const LEAF_TABLE_BITS: u32 = 0x201;
/** Bits of the low half of a leaf whose output frame the host cannot take out by masks. */
export const CODED_MASK: u32 = 0xe00;
/** Output frame in the high half of a leaf. */
export const OUTPUT_HI_MASK: u32 = 0xfffff;
export const ACCESSED_TABLE: u64 = A;

@inline export function isLeaf(entry: u64, level: i32): bool {
  const next = entry & NEXT_LEVEL;
  return level == 0 || next == 0 || next == SIZE_CODED;
}
/** NextLevel of an entry at level index L is L when it points to a table: the engine skips no level. */
@inline export function isTable(entry: u64, level: i32): bool {
  return (<u32>entry & <u32>(NEXT_LEVEL | PR)) == (<u32>level << 9 | 1);
}
@inline export function tableLo(entry: u64): u32 {
  return AMD_FRAME_LG2 == 12 ? <u32>entry & 0xfffff000 : <u32>(((entry & ADDR) >> 12) << AMD_FRAME_LG2);
}
@inline export function tableEntry(pa: u64, childLevel: i32, options: u32): u64 {
  return PR | IR | IW | ((pa >> AMD_FRAME_LG2) << 12) | ((<u64>childLevel + 1) << 9);
}
@inline export function template(prot: u32, options: u32): u64 {
  return PR | ((<u64>(prot & 3)) << 61) | (options & OPTION_FORCE_COHERENT ? FC : 0);
}
@inline export function leafEntry(attr: u64, frame: u64, level: i32, sizeLg2: i32, options: u32): u64 {
  const entry = attr | (frame << 12);
  if (sizeLg2 == GRANULE_LG2 + LEVEL_BITS * level) return entry;
  return entry | SIZE_CODED | ((((<u64>1) << (sizeLg2 - 1)) - 1) << 12); // size in trailing ones
}
@inline export function leafAttr(entry: u64, level: i32, options: u32): u64 {
  return entry & ~(ADDR | NEXT_LEVEL);
}
@inline export function leafFrame(entry: u64, level: i32, options: u32): u64 {
  const frame = (entry & ADDR) >> 12;
  return (entry & NEXT_LEVEL) == SIZE_CODED ? frame & (frame + 1) : frame;
}
/** Output frame of a leaf of several slots, whose size the trailing ones of its address code. */
function codedFrame(entry: u64, va: u64): u64 {
  const frame = (entry & ADDR) >> 12;
  return (frame & (frame + 1)) | (va & (frame ^ (frame + 1)));
}
@inline export function outputFrame(entry: u64, level: i32, va: u64, options: u32): u64 {
  if ((entry & NEXT_LEVEL) == SIZE_CODED) return codedFrame(entry, va);
  return ((entry << 12) >> 24) | (va & (((<u64>1) << (9 * level)) - 1)); // ADDR
}
@inline export function groupLg2(entry: u64, level: i32): i32 {
  if ((entry & NEXT_LEVEL) != SIZE_CODED) return 0;
  return <i32>ctz<u64>(~(entry >> 12)) + 1 - (GRANULE_LG2 + LEVEL_BITS * level);
}
@inline export function groupStep(level: i32): u64 { return 0; }
@inline export function accessedLeaf(entry: u64): u64 { return entry | A; }
@inline export function writable(entry: u64): bool { return (entry & IW) != 0; }
@inline export function dirtied(entry: u64): u64 { return entry | D; }
/** State that may differ between leaves that merge, and the state of the merged leaf. */
@inline export function statusMask(attr: u64): u64 { return A | D; }
@inline export function joinStatus(a: u64, b: u64): u64 { return a | (b & (A | D)); }
/** The dirty bit of two entries, at DIRTY_POS. */
export const DIRTY_POS: i32 = 6;
@inline export function dirtyBits(v: v128): v128 { return v; }
/** Two entries without their dirty bits. */
@inline export function cleaned(v: v128): v128 { return v128.and(v, i64x2.splat(~D)); }
