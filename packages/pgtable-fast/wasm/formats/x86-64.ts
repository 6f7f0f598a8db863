// x86-64 first stage: VT-d 9.7 first-stage entries and AMD v2 guest entries.
// The layout with the specification's names is src/formats/x86-64-layout.ts; a test compares them.
export const LEVEL_BITS: i32 = 9;
export const GRANULE_LG2: i32 = 0;
export const MAX_LEVELS: i32 = 5;
export const HAS_GROUPS: bool = false;
export const DYNAMIC_TOP: bool = false;
export const WIDTH_BY_LEVELS: bool = true; // the input range is what the levels index
export const WIDE_ROOT: bool = false;
export const SIGN_EXTENDED: bool = true; // per table, by OPTION_SIGN_EXTEND
export const HIGH_OUTPUT_SPLIT: bool = false;

const P: u64 = 1 << 0;
const RW: u64 = 1 << 1;
const US: u64 = 1 << 2;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const XD: u64 = 1 << 63;
const ADDR: u64 = 0x000f_ffff_ffff_f000;

export const OPTION_SIGN_EXTEND: u32 = 1;
const OPTION_NO_PRESET: u32 = 2; // leave A and D to the hardware

export const RUN_MASK: u64 = ADDR;
export const GROUP_MASK: u64 = 0;
export const DIRTY_MASK: u64 = D;
export const DIRTY_XOR: u64 = 0;
export const DIRTY_FLIP: u64 = D;
/** Low half of a level-1 entry that points to a table: `(lo & MASK) == BITS`, as isTable() has it. */
export const LEAF_TABLE_MASK: u32 = 0x81;
export const LEAF_TABLE_BITS: u32 = 1;
/** Bits of the low half of a leaf whose output frame the host cannot take out by masks. */
export const CODED_MASK: u32 = 0;
/** Output frame in the high half of a leaf. */
export const OUTPUT_HI_MASK: u32 = 0xfffff;
export const ACCESSED_TABLE: u64 = A;

const PROT_WRITE: u32 = 2;
const PROT_NOEXEC: u32 = 8;
const PROT_PRIV: u32 = 32;

@inline export function isLeaf(entry: u64, level: i32): bool {
  return level == 0 || (entry & PS) != 0;
}
/** For a present or absent entry above the last level. */
@inline export function isTable(entry: u64, level: i32): bool {
  return (<u32>entry & 0x81) == 1;
}
@inline export function tableLo(entry: u64): u32 {
  return <u32>entry & 0xfffff000;
}
@inline export function tableEntry(pa: u64, childLevel: i32, options: u32): u64 {
  return pa | P | RW | US | (options & OPTION_NO_PRESET ? 0 : A);
}
@inline export function template(prot: u32, options: u32): u64 {
  const write = (prot & PROT_WRITE) != 0;
  let attr = P | (prot & PROT_PRIV ? 0 : US) | (write ? RW : 0) | (prot & PROT_NOEXEC ? XD : 0);
  if (!(options & OPTION_NO_PRESET)) attr |= A | (write ? D : 0);
  return attr;
}
@inline export function leafEntry(attr: u64, frame: u64, level: i32, sizeLg2: i32, options: u32): u64 {
  return attr | (frame << 12) | (level > 0 ? PS : 0);
}
@inline export function leafAttr(entry: u64, level: i32, options: u32): u64 {
  return entry & ~(ADDR | PS);
}
@inline export function leafFrame(entry: u64, level: i32, options: u32): u64 {
  return (entry & ADDR) >> 12;
}
@inline export function outputFrame(entry: u64, level: i32, va: u64, options: u32): u64 {
  return ((entry << 12) >> 24) | (va & (((<u64>1) << (9 * level)) - 1));
}
@inline export function groupLg2(entry: u64, level: i32): i32 { return 0; }
@inline export function groupStep(level: i32): u64 { return 0; }
@inline export function accessedLeaf(entry: u64): u64 { return entry | A; }
@inline export function writable(entry: u64): bool { return (entry & RW) != 0; }
@inline export function dirtied(entry: u64): u64 { return entry | D; }
/** State that may differ between leaves that merge, and the state of the merged leaf. */
@inline export function statusMask(attr: u64): u64 { return A | D; }
@inline export function joinStatus(a: u64, b: u64): u64 { return a | (b & (A | D)); }
/** The dirty bit of two entries, at DIRTY_POS. */
export const DIRTY_POS: i32 = 6;
@inline export function dirtyBits(v: v128): v128 { return v; }
/** Two entries without their dirty bits. */
@inline export function cleaned(v: v128): v128 { return v128.and(v, i64x2.splat(~D)); }
