// VMSAv8-64 stage 1 and stage 2, Arm ARM D8.3. ARM_GRANULE is log2 bytes (12, 14, 16), ARM_STAGE 1 or 2.
// The layout is src/formats/arm-layout.ts; a test compares them.
export const LEVEL_BITS: i32 = ARM_GRANULE - 3;
export const GRANULE_LG2: i32 = ARM_GRANULE - 12;
export const MAX_LEVELS: i32 = ARM_GRANULE == 12 ? 5 : ARM_GRANULE == 14 ? 4 : 3;
export const HAS_GROUPS: bool = true;
export const DYNAMIC_TOP: bool = false;
export const WIDTH_BY_LEVELS: bool = false; // width and levels are chosen apart
export const WIDE_ROOT: bool = true;
export const SIGN_EXTENDED: bool = false;
export const HIGH_OUTPUT_SPLIT: bool = true;

const AP1: u64 = 1 << 6; // stage 1: EL0 access
const AP2: u64 = 1 << 7; // stage 1: read-only
const S2AP0: u64 = 1 << 6; // stage 2: read
const S2AP1: u64 = 1 << 7; // stage 2: write
const AF: u64 = 1 << 10;
const NG: u64 = 1 << 11;
const DBM: u64 = 1 << 51;
const CONTIGUOUS: u64 = 1 << 52;
const XN: u64 = 3 << 53;
const LOW_ADDR: u64 = 0x0000_ffff_ffff_ffff & ~((1 << ARM_GRANULE) - 1);
const DS_ADDR: u64 = 0x0003_ffff_ffff_ffff & ~((1 << ARM_GRANULE) - 1);
const HIGH_64K: u64 = 0xf000; // address 51:48
const HIGH_DS: u64 = 0x300; // address 51:50

const OPTION_DS: u32 = 1; // 52-bit descriptors with a 4K or 16K granule
const OPTION_DIRTY: u32 = 2; // DBM in writable leaves
const OPTION_FWB: u32 = 4; // stage 2 forced write-back attributes

const PROT_READ: u32 = 1;
const PROT_WRITE: u32 = 2;
const PROT_CACHE: u32 = 4;
const PROT_NOEXEC: u32 = 8;
const PROT_MMIO: u32 = 16;
const PROT_PRIV: u32 = 32;
const PROT_DIRTY_TRACKED: u32 = 256;

export const RUN_MASK: u64 = LOW_ADDR | HIGH_64K | HIGH_DS | CONTIGUOUS;
export const GROUP_MASK: u64 = CONTIGUOUS;
export const DIRTY_MASK: u64 = DBM | AP2; // AP2 and S2AP1 are the same bit with opposite meanings
export const DIRTY_XOR: u64 = ARM_STAGE == 1 ? AP2 : 0;
export const DIRTY_FLIP: u64 = AP2;
/** Low half of a level-1 entry that points to a table: `(lo & MASK) == BITS`, as isTable() has it. */
export const LEAF_TABLE_MASK: u32 = 3;
export const LEAF_TABLE_BITS: u32 = 3;
/** Bits of the low half of a leaf whose output frame the host cannot take out by masks. */
export const CODED_MASK: u32 = 0;
/** Output frame in the high half of a leaf. */
export const OUTPUT_HI_MASK: u32 = 0xffff;
export const ACCESSED_TABLE: u64 = 0;

@inline function encodeAddress(pa: u64, options: u32): u64 {
  if (ARM_GRANULE == 16) return (pa & LOW_ADDR) | ((pa >> 36) & HIGH_64K);
  if (options & OPTION_DS) return (pa & DS_ADDR) | ((pa >> 42) & HIGH_DS);
  return pa & LOW_ADDR;
}
/** A frame of a 52-bit descriptor. */
function wideFrame(entry: u64): u64 {
  return ((entry & DS_ADDR) | ((entry & HIGH_DS) << 42)) >> 12;
}
@inline function decodeFrame(entry: u64, options: u32): u64 {
  if (ARM_GRANULE == 16) return ((entry & LOW_ADDR) | ((entry & HIGH_64K) << 36)) >> 12;
  if (options & OPTION_DS) return wideFrame(entry);
  return (entry & LOW_ADDR) >> 12;
}
/** log2 entries of a contiguous group at `level`; 0 where the hint does not exist. */
@inline function contiguousLg2(level: i32): i32 {
  if (ARM_GRANULE == 12) return level <= 2 ? 4 : 0;
  if (ARM_GRANULE == 14) return level == 0 ? 7 : level == 1 ? 5 : 0;
  return level <= 1 ? 5 : 0;
}

@inline export function isLeaf(entry: u64, level: i32): bool {
  return level == 0 || (entry & 3) == 1;
}
/** For a present or absent entry above the last level. */
@inline export function isTable(entry: u64, level: i32): bool {
  return (<u32>entry & 3) == 3;
}
@inline export function tableLo(entry: u64): u32 {
  return <u32>entry & ~((1 << ARM_GRANULE) - 1);
}
@inline export function tableEntry(pa: u64, childLevel: i32, options: u32): u64 {
  return encodeAddress(pa, options) | 3;
}
@inline export function template(prot: u32, options: u32): u64 {
  const dbm = (options & OPTION_DIRTY) != 0 || (prot & PROT_DIRTY_TRACKED) != 0;
  const write = (prot & PROT_WRITE) != 0;
  let attr: u64 = AF | (write && dbm ? DBM : 0) | (prot & PROT_NOEXEC ? XN : 0);
  if (!(options & OPTION_DS)) attr |= prot & PROT_CACHE ? 0x300 : 0x200; // inner or outer shareable
  if (ARM_STAGE == 1) {
    attr |= NG | (write ? 0 : AP2) | (prot & PROT_PRIV ? 0 : AP1);
    attr |= prot & PROT_MMIO ? 2 << 2 : prot & PROT_CACHE ? 1 << 2 : 0; // AttrIndx
  } else {
    attr |= (prot & PROT_READ ? S2AP0 : 0) | (write ? S2AP1 : 0);
    const cached: u64 = options & OPTION_FWB ? 6 : 15;
    attr |= (prot & PROT_MMIO ? 1 : prot & PROT_CACHE ? cached : 5) << 2; // MemAttr
  }
  return attr;
}
@inline export function leafEntry(attr: u64, frame: u64, level: i32, sizeLg2: i32, options: u32): u64 {
  const contiguous = sizeLg2 > GRANULE_LG2 + LEVEL_BITS * level ? CONTIGUOUS : 0;
  return attr | encodeAddress(frame << 12, options) | contiguous | (level == 0 ? 3 : 1);
}
@inline export function leafAttr(entry: u64, level: i32, options: u32): u64 {
  const address = ARM_GRANULE == 16 ? LOW_ADDR | HIGH_64K : options & OPTION_DS ? DS_ADDR | HIGH_DS : LOW_ADDR;
  return entry & ~(address | CONTIGUOUS | 3);
}
@inline export function leafFrame(entry: u64, level: i32, options: u32): u64 {
  const frame = decodeFrame(entry, options);
  if (!(entry & CONTIGUOUS)) return frame;
  return frame & ~(((<u64>1) << (GRANULE_LG2 + LEVEL_BITS * level + contiguousLg2(level))) - 1);
}
/** Every entry of a contiguous group has its own address. */
@inline export function outputFrame(entry: u64, level: i32, va: u64, options: u32): u64 {
  return decodeFrame(entry, options) | (va & (((<u64>1) << (GRANULE_LG2 + LEVEL_BITS * level)) - 1));
}
@inline export function groupLg2(entry: u64, level: i32): i32 {
  return entry & CONTIGUOUS ? contiguousLg2(level) : 0;
}
@inline export function groupStep(level: i32): u64 {
  return (<u64>4096) << (GRANULE_LG2 + LEVEL_BITS * level);
}
@inline export function accessedLeaf(entry: u64): u64 { return entry | AF; }
@inline export function writable(entry: u64): bool {
  return (entry & DBM) != 0 || ((entry & AP2) != 0) == (ARM_STAGE == 2);
}
@inline export function dirtied(entry: u64): u64 {
  if (!(entry & DBM)) return entry;
  return ARM_STAGE == 1 ? entry & ~AP2 : entry | S2AP1;
}
/** State that may differ between leaves that merge, and the state of the merged leaf. */
@inline export function statusMask(attr: u64): u64 {
  return AF | (attr & DBM ? AP2 : 0);
}
@inline export function joinStatus(a: u64, b: u64): u64 {
  const joint = a | (b & AF);
  if (!(a & DBM)) return joint;
  return ARM_STAGE == 1 ? joint & (b | ~AP2) : joint | (b & S2AP1);
}
/** The dirty bit of two entries, at DIRTY_POS: DBM with the write bit as its stage reads it. */
export const DIRTY_POS: i32 = 51;
@inline export function dirtyBits(v: v128): v128 {
  const write = i64x2.shl(v, 44); // bit 7 to bit 51
  return ARM_STAGE == 1 ? v128.andnot(v, write) : v128.and(v, write);
}
/** Two entries without their dirty state: not written yet, where DBM says that it is one. */
@inline export function cleaned(v: v128): v128 {
  const tracked = v128.and(i64x2.shr_u(v, 44), i64x2.splat(AP2)); // bit 51 to bit 7
  return ARM_STAGE == 1 ? v128.or(v, tracked) : v128.andnot(v, tracked);
}
