/** Every format variant that the differential tests run over, with an encoder written from the layouts. */
import { encode } from '@iommukit/bits';
import {
  AMD_V1_PTE,
  ARM_S1_LEAF,
  ARM_S2_LEAF,
  amdV1,
  armStage1,
  armStage2,
  FS_PDE_2M,
  FS_PDPE_1G,
  FS_PTE,
  mockFormat,
  type PageTableFormat,
  PROT,
  SS_PDE_2M,
  SS_PDPE_1G,
  SS_PTE,
  vtdSecondStage,
  x86FirstStage,
} from '../src/index.ts';
import type { Leaf, ReferenceOptions } from './reference.ts';

export interface Variant {
  readonly title: string;
  readonly format: PageTableFormat;
  /** Width that the test expects, in frames. */
  readonly reference: ReferenceOptions;
  /** Permission words to draw from. */
  readonly prots: readonly number[];
  /** Words of slot `slot` of a leaf, as u32 halves. */
  words(leaf: Leaf, slot: number): Uint32Array;
  /** Frames that one slot covers. */
  slotFrames(leaf: Leaf): bigint;
  /** Attribute part of prot that the format tells apart. */
  normalise(prot: number): number;
}

const bytes = (frame: bigint) => Number(frame) * 4096;

function vtd(
  levels: number,
  options: { snoop?: boolean; oaBits?: number; pageSizesLg2?: number[] } = {},
): Variant {
  const sizes = (options.pageSizesLg2 ?? [12, 21, 30]).map((lg2) => lg2 - 12);
  return {
    title: `vtd-ss ${levels} levels ${JSON.stringify(options)} (VT-d 9.8)`,
    format: vtdSecondStage({ levels, ...options }),
    reference: {
      vaLimit: 1n << BigInt(9 * levels),
      oaLimit: 1n << BigInt((options.oaBits ?? 52) - 12),
      sizes,
      fresh: () => ({ accessed: false, dirty: false }),
    },
    prots: [1, 2, 3],
    words: (leaf) => {
      const common = {
        R: leaf.prot & 1,
        W: (leaf.prot >> 1) & 1,
        SNP: options.snoop ? 1 : 0,
        A: leaf.accessed ? 1 : 0,
        D: leaf.dirty ? 1 : 0,
        ADDR: bytes(leaf.oa),
      };
      if (leaf.size === 0) return encode(SS_PTE, common);
      return encode(leaf.size === 9 ? SS_PDE_2M : SS_PDPE_1G, { ...common, PS: 1 });
    },
    slotFrames: (leaf) => 1n << BigInt(leaf.size),
    normalise: (prot) => prot & 3,
  };
}

function x86(
  levels: number,
  options: { signExtend?: boolean; presetAccessedDirty?: boolean } = {},
): Variant {
  const signExtended = options.signExtend ?? true;
  const preset = options.presetAccessedDirty ?? true;
  return {
    title: `x86-64 ${levels} levels ${JSON.stringify(options)} (VT-d 9.7)`,
    format: x86FirstStage({ levels, ...options }),
    reference: {
      vaLimit: 1n << BigInt(9 * levels),
      oaLimit: 1n << 40n,
      sizes: [0, 9, 18],
      signExtended,
      fresh: (prot) => ({ accessed: preset, dirty: preset && (prot & PROT.WRITE) !== 0 }),
    },
    prots: [1, 3, 3 | PROT.NOEXEC, 1 | PROT.PRIV],
    words: (leaf) => {
      const common = {
        P: 1,
        RW: leaf.prot & PROT.WRITE ? 1 : 0,
        US: leaf.prot & PROT.PRIV ? 0 : 1,
        XD: leaf.prot & PROT.NOEXEC ? 1 : 0,
        A: leaf.accessed ? 1 : 0,
        D: leaf.dirty ? 1 : 0,
        ADDR: bytes(leaf.oa),
      };
      if (leaf.size === 0) return encode(FS_PTE, common);
      return encode(leaf.size === 9 ? FS_PDE_2M : FS_PDPE_1G, { ...common, PS: 1 });
    },
    slotFrames: (leaf) => 1n << BigInt(leaf.size),
    normalise: (prot) => prot,
  };
}

function amd(
  format: PageTableFormat,
  sizes: readonly number[],
  options: { fc?: boolean; oaBits?: number; vaBits: number },
): Variant {
  const { frameLg2 } = format;
  const level = (leaf: Leaf) => Math.floor(leaf.size / 9);
  return {
    title: `${format.name} ${format.levels}-${format.maxLevels} levels, sizes ${sizes.length} (AMD IOMMU 2.2.3)`,
    format,
    reference: {
      vaLimit: 1n << BigInt(options.vaBits - frameLg2),
      oaLimit: 1n << BigInt(40 - (52 - (options.oaBits ?? 52))),
      sizes: sizes.map((lg2) => lg2 - frameLg2),
      fresh: () => ({ accessed: false, dirty: false }),
    },
    prots: [1, 2, 3],
    words: (leaf) => {
      const coded = leaf.size % 9 !== 0;
      const ones = coded ? (1n << BigInt(leaf.size - 1)) - 1n : 0n;
      return encode(AMD_V1_PTE, {
        PR: 1,
        A: leaf.accessed ? 1 : 0,
        D: leaf.dirty ? 1 : 0,
        NextLevel: coded ? 7 : 0,
        ADDR: bytes(leaf.oa | ones),
        FC: options.fc ? 1 : 0,
        IR: leaf.prot & 1,
        IW: (leaf.prot >> 1) & 1,
      });
    },
    slotFrames: (leaf) => 1n << BigInt(9 * level(leaf)),
    normalise: (prot) => prot & 3,
  };
}

const range = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);
const amdSizes = range(12, 51).filter((lg2) => lg2 !== 39);

interface ArmVariant {
  stage: 1 | 2;
  granule: 4096 | 16384 | 65536;
  iovaBits: number;
  oaBits: number;
  /** Sizes expected. */
  sizes: number[];
  contiguous?: boolean;
  dirtyTracking?: boolean;
  startLevel?: number;
}

function arm(v: ArmVariant): Variant {
  const {
    stage,
    granule,
    iovaBits,
    oaBits,
    contiguous = false,
    dirtyTracking = false,
    startLevel,
  } = v;
  const g = Math.log2(granule) - 12;
  const stride = g + 9;
  const ds = granule < 65536 && (iovaBits > 48 || oaBits > 48);
  const common = { granule, iovaBits, oaBits, contiguous, dirtyTracking };
  const level = (leaf: Leaf) => Math.floor((leaf.size - g) / stride);
  const slotFrames = (leaf: Leaf) => 1n << BigInt(g + stride * level(leaf));
  const tracked = (prot: number) =>
    (dirtyTracking || (prot & PROT.DIRTY_TRACKED) !== 0) && (prot & 2) !== 0;
  const address = (pa: bigint) => {
    if (granule === 65536) return { ADDR: Number((pa & 0xffff_ffff_ffffn) | ((pa >> 48n) << 12n)) };
    if (ds) return { ADDR: Number(pa & ((1n << 50n) - 1n)), SH: Number(pa >> 50n) };
    return { ADDR: Number(pa) };
  };
  const type = (leaf: Leaf) => ({
    Type: level(leaf) === 0 ? ('TABLE_OR_PAGE' as const) : ('BLOCK' as const),
    Contiguous: slotFrames(leaf) < 1n << BigInt(leaf.size) ? 1 : 0,
  });
  const attributes = (leaf: Leaf) => ({
    ...(!ds && { SH: leaf.prot & PROT.CACHE ? 3 : 2 }),
    AF: leaf.accessed ? 1 : 0,
    DBM: tracked(leaf.prot) ? 1 : 0,
  });
  const stage1 = (leaf: Leaf) => ({
    nG: 1,
    AP1: leaf.prot & PROT.PRIV ? 0 : 1,
    AP2: (leaf.prot & 2) === 0 || (tracked(leaf.prot) && !leaf.dirty) ? 1 : 0,
    AttrIndx: leaf.prot & PROT.MMIO ? 2 : leaf.prot & PROT.CACHE ? 1 : 0,
    PXN: leaf.prot & PROT.NOEXEC ? 1 : 0,
    UXN: leaf.prot & PROT.NOEXEC ? 1 : 0,
  });
  const stage2 = (leaf: Leaf) => ({
    S2AP0: leaf.prot & 1,
    S2AP1: (leaf.prot & 2) !== 0 && (!tracked(leaf.prot) || leaf.dirty) ? 1 : 0,
    MemAttr: leaf.prot & PROT.MMIO ? 1 : leaf.prot & PROT.CACHE ? 15 : 5,
    XN: leaf.prot & PROT.NOEXEC ? 3 : 0,
  });
  return {
    title: `arm-s${stage} ${JSON.stringify(v)} (Arm ARM D8.3)`,
    format:
      stage === 1
        ? armStage1(common)
        : armStage2({ ...common, ...(startLevel !== undefined && { startLevel }) }),
    reference: {
      vaLimit: 1n << BigInt(iovaBits - 12),
      oaLimit: 1n << BigInt(oaBits - 12),
      sizes: v.sizes.map((lg2) => lg2 - 12),
      fresh: (prot) => ({ accessed: true, dirty: tracked(prot) }),
      tracksDirty: tracked,
    },
    prots: [
      1,
      2,
      3,
      3 | PROT.CACHE,
      1 | PROT.NOEXEC,
      3 | PROT.PRIV | PROT.MMIO,
      3 | PROT.DIRTY_TRACKED,
    ],
    words: (leaf, slot) => {
      const pa = (leaf.oa + BigInt(slot) * slotFrames(leaf)) << 12n;
      const shared = { ...attributes(leaf), ...type(leaf), ...address(pa) };
      return stage === 1
        ? encode(ARM_S1_LEAF, { ...shared, ...stage1(leaf) })
        : encode(ARM_S2_LEAF, { ...shared, ...stage2(leaf) });
    },
    slotFrames,
    normalise: (prot) => (stage === 1 && prot & 2 ? prot | 1 : prot),
  };
}

export const VARIANTS: readonly Variant[] = [
  vtd(3),
  vtd(4, { snoop: true }),
  vtd(5, { oaBits: 46 }),
  vtd(4, { pageSizesLg2: [12] }),
  vtd(4, { pageSizesLg2: [12, 21] }),
  x86(4),
  x86(5),
  x86(4, { signExtend: false }),
  x86(5, { presetAccessedDirty: false }),
  amd(amdV1(), amdSizes, { fc: true, vaBits: 64 }),
  amd(amdV1({ levels: 1, maxLevels: 4, forceCoherent: false, oaBits: 48 }), amdSizes, {
    vaBits: 48,
    oaBits: 48,
  }),
  amd(amdV1({ levels: 6 }), amdSizes, { fc: true, vaBits: 64 }),
  amd(amdV1({ pageSizesLg2: [12, 21, 30] }), [12, 21, 30], { fc: true, vaBits: 64 }),
  amd(
    mockFormat(),
    range(11, 50).filter((lg2) => lg2 !== 39),
    { vaBits: 56 },
  ),
  arm({ stage: 1, granule: 4096, iovaBits: 48, oaBits: 48, sizes: [12, 21, 30] }),
  arm({
    stage: 1,
    granule: 4096,
    iovaBits: 48,
    oaBits: 44,
    sizes: [12, 16, 21, 25, 30, 34],
    contiguous: true,
    dirtyTracking: true,
  }),
  arm({ stage: 1, granule: 4096, iovaBits: 52, oaBits: 52, sizes: [12, 21, 30, 39] }),
  arm({ stage: 1, granule: 4096, iovaBits: 25, oaBits: 36, sizes: [12, 21] }),
  arm({
    stage: 1,
    granule: 16384,
    iovaBits: 48,
    oaBits: 48,
    sizes: [14, 21, 25, 30],
    contiguous: true,
  }),
  arm({
    stage: 1,
    granule: 65536,
    iovaBits: 52,
    oaBits: 52,
    sizes: [16, 21, 29, 34, 42],
    contiguous: true,
    dirtyTracking: true,
  }),
  arm({ stage: 2, granule: 4096, iovaBits: 40, oaBits: 44, sizes: [12, 21, 30] }),
  arm({
    stage: 2,
    granule: 4096,
    iovaBits: 43,
    oaBits: 48,
    sizes: [12, 16, 21, 25, 30, 34],
    contiguous: true,
    dirtyTracking: true,
  }),
  arm({ stage: 2, granule: 4096, iovaBits: 48, oaBits: 48, sizes: [12, 21, 30], startLevel: 0 }),
  arm({ stage: 2, granule: 4096, iovaBits: 34, oaBits: 44, sizes: [12, 21], startLevel: 2 }),
  arm({
    stage: 2,
    granule: 4096,
    iovaBits: 25,
    oaBits: 40,
    sizes: [12, 16],
    contiguous: true,
    startLevel: 3,
  }),
  arm({
    stage: 2,
    granule: 16384,
    iovaBits: 40,
    oaBits: 44,
    sizes: [14, 21, 25, 30],
    contiguous: true,
  }),
  arm({ stage: 2, granule: 16384, iovaBits: 52, oaBits: 52, sizes: [14, 25, 36] }),
  arm({ stage: 2, granule: 65536, iovaBits: 46, oaBits: 48, sizes: [16, 29] }),
  arm({ stage: 2, granule: 65536, iovaBits: 52, oaBits: 52, sizes: [16, 29, 42] }),
];
