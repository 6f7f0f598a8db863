/**
 * VMSAv8-64 descriptors for the walkers.
 * @spec Arm ARM D8.3
 * @module
 */
import { type DecodedEntry, ENTRY, type EntryDecoder } from '../walk/entry-decoder.ts';
import type { ArmGeometry } from './arm-geometry.ts';
import { ARM_S1_LEAF, ARM_S2_LEAF, ARM_TABLE } from './arm-layout.ts';

const READ = 1;
const WRITE = 2;
const NOEXEC = 8;
const PRIV = 32;
const BLOCK = ARM_S1_LEAF.fields.Type.symbols?.BLOCK as number;
const TABLE_OR_PAGE = ARM_S1_LEAF.fields.Type.symbols?.TABLE_OR_PAGE as number;

/** log2 entries of a contiguous group by level, 0 = last; 0 where the hint does not exist. */
const GROUP_LG2: Readonly<Record<number, readonly number[]>> = {
  12: [4, 4, 4, 0, 0],
  14: [7, 5, 0, 0],
  16: [5, 5, 0],
};

/** Levels that may hold blocks, counted from the last: 1 and, by granule and format, 2 and 3. */
function highestBlockLevel({ granuleLg2, ds, oaBits }: ArmGeometry): number {
  if (granuleLg2 === 12) return ds ? 3 : 2;
  if (granuleLg2 === 14) return ds ? 2 : 1;
  return oaBits === 52 ? 2 : 1;
}

/** Reads the frame in an address field of this geometry. */
function createAddressReader({ granuleLg2, ds }: ArmGeometry): (lo: number, hi: number) => number {
  const lowMask = -(2 ** granuleLg2);
  const hiMask = ds ? 0x3ffff : 0xffff;
  if (granuleLg2 === 16) {
    return (lo, hi) =>
      ((lo & 0xf000) >>> 12) * 2 ** 36 + (hi & hiMask) * 0x100000 + ((lo & lowMask) >>> 12);
  }
  if (!ds) return (lo, hi) => (hi & hiMask) * 0x100000 + ((lo & lowMask) >>> 12);
  return (lo, hi) =>
    ((lo & 0x300) >>> 8) * 2 ** 38 + (hi & hiMask) * 0x100000 + ((lo & lowMask) >>> 12);
}

/** Permissions of a stage 1 leaf; the DBM bit plays no part in them. */
function createStage1Permissions(): (lo: number, hi: number) => number {
  const ap1 = ARM_S1_LEAF.fields.AP1.mask;
  const ap2 = ARM_S1_LEAF.fields.AP2.mask;
  const uxn = ARM_S1_LEAF.fields.UXN.mask;
  return (lo, hi) =>
    READ | (lo & ap2 ? 0 : WRITE) | (lo & ap1 ? 0 : PRIV) | (hi & uxn ? NOEXEC : 0);
}

function createStage2Permissions(): (lo: number, hi: number) => number {
  const s2ap0 = ARM_S2_LEAF.fields.S2AP0.mask;
  const s2ap1 = ARM_S2_LEAF.fields.S2AP1.mask;
  const xn1 = 1 << (54 - 32); // XN[1]: the whole rule without XNX
  return (lo, hi) => (lo & s2ap0 ? READ : 0) | (lo & s2ap1 ? WRITE : 0) | (hi & xn1 ? NOEXEC : 0);
}

/** APTable and UXNTable of stage 1; stage 2 ignores them. */
function createTablePermissions(stage: 1 | 2): (hi: number) => number {
  if (stage === 2) return () => READ | WRITE;
  const { APTable, UXNTable } = ARM_TABLE.fields;
  const noEl0 = 1 << APTable.shift;
  const readOnly = 2 << APTable.shift;
  const uxn = UXNTable.mask;
  return (hi) =>
    READ | (hi & readOnly ? 0 : WRITE) | (hi & noEl0 ? PRIV : 0) | (hi & uxn ? NOEXEC : 0);
}

/** Decoder of one stage with a geometry. */
export function createArmDecoder(stage: 1 | 2, geometry: ArmGeometry): EntryDecoder {
  const { granuleLg2 } = geometry;
  const levelBits = granuleLg2 - 3;
  const frameAt = createAddressReader(geometry);
  const leafProt = stage === 1 ? createStage1Permissions() : createStage2Permissions();
  const tableProt = createTablePermissions(stage);
  const highest = highestBlockLevel(geometry);
  const groups = GROUP_LG2[granuleLg2] as readonly number[];
  const af = ARM_S1_LEAF.fields.AF.mask;
  const dbm = ARM_S1_LEAF.fields.DBM.mask;
  const contiguous = ARM_S1_LEAF.fields.Contiguous.mask;
  const writeBit = ARM_S2_LEAF.fields.S2AP1.mask; // stage 1 has the opposite sense: read-only
  const writable = stage === 1 ? 0 : writeBit;
  return {
    levelBits,
    granuleLg2: granuleLg2 - 12,
    decode(lo: number, hi: number, level: number, out: DecodedEntry): number {
      const type = lo & 3;
      if (level > 0 && type === TABLE_OR_PAGE) {
        out.tablePa = frameAt(lo, hi) * 4096;
        out.nextLevel = level - 1;
        out.prot = tableProt(hi);
        return ENTRY.TABLE;
      }
      const leaf = level === 0 ? type === TABLE_OR_PAGE : type === BLOCK && level <= highest;
      if (!leaf) return ENTRY.NOT_PRESENT;
      const group = hi & contiguous ? (groups[level] as number) : 0;
      out.sizeLg2 = granuleLg2 - 12 + levelBits * level + group;
      const frame = frameAt(lo, hi); // address bits below the leaf are RES0: ignored
      out.frame = frame - (frame % 2 ** out.sizeLg2);
      out.prot = leafProt(lo, hi);
      out.accessed = (lo & af) !== 0;
      out.dirty = (hi & dbm) !== 0 && (lo & writeBit) === writable;
      return ENTRY.LEAF;
    },
  };
}
