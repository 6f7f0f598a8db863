/** Every format variant that the differential tests run over, with an encoder written from the layouts. */
import { encode } from '@iommukit/bits';
import {
  FS_PDE_2M,
  FS_PDPE_1G,
  FS_PTE,
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

function vtd(levels: number, options: { snoop?: boolean; oaBits?: number; pageSizesLg2?: number[] } = {}): Variant {
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

function x86(levels: number, options: { signExtend?: boolean; presetAccessedDirty?: boolean } = {}): Variant {
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
];
