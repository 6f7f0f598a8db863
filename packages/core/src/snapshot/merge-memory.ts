/**
 * Saved memory for a machine some of whose units are rebuilt: their structures stay where the new
 * host halves put them, and those of the old ones go.
 * @module
 */
import { refuse } from '../errors.ts';
import { RESTORE_OP } from './envelope.ts';
import type { MemoryState, RegionState } from './memory-state.ts';
import type { PageContent } from './page-contents.ts';

const PAGE_BYTES = 4096;

/** Frames at a physical byte address. */
export interface HostPages {
  readonly base: number;
  readonly count: number;
}

/** Which frames belong to units. */
export interface UnitFrames {
  /** Of the rebuilt units, on this machine. */
  readonly kept: readonly HostPages[];
  /** Of the same units, on the saved machine. */
  readonly dropped: readonly HostPages[];
  /** Of units that bring their own state, on this machine. */
  readonly replaced: readonly HostPages[];
}

const eachFrame = (pages: readonly HostPages[], visit: (frame: number) => void): void => {
  for (const { base, count } of pages) {
    for (let i = 0; i < count; i++) visit(base / PAGE_BYTES + i);
  }
};

const bit = (words: Uint32Array, at: number): number =>
  ((words[at >>> 5] as number) >>> (at % 32)) & 1;

const setBit = (words: Uint32Array, at: number, value: boolean): void => {
  const mask = (1 << (at % 32)) >>> 0;
  const old = words[at >>> 5] as number;
  words[at >>> 5] = value ? old | mask : old & ~mask;
};

/**
 * What memory is to hold.
 *
 * @param now memory of this machine
 * @throws {IommuError} EBUSY when somebody here uses frames that are not to be used, or a rebuilt
 *   unit has its structures where the saved scenario has memory
 */
export const mergeMemory = (
  saved: MemoryState,
  now: MemoryState,
  frames: UnitFrames,
): MemoryState => ({
  ...saved,
  regions: saved.regions.map((region, index) =>
    mergeRegion(region, now.regions[index] as RegionState, frames),
  ),
});

const mergeRegion = (saved: RegionState, now: RegionState, units: UnitFrames): RegionState => {
  if (!saved.frames || !now.frames) return saved;
  const first = saved.base / PAGE_BYTES;
  const count = saved.size / PAGE_BYTES;
  const inside = (visit: (frame: number) => void) => (pfn: number) => {
    if (pfn >= first && pfn < first + count) visit(pfn - first);
  };
  const used = saved.frames.used.slice();
  eachFrame(
    units.dropped,
    inside((frame) => setBit(used, frame, false)),
  );
  const others = now.frames.used.slice();
  eachFrame(
    [...units.kept, ...units.replaced],
    inside((frame) => setBit(others, frame, false)),
  );
  for (let frame = 0; frame < count; frame++) {
    if (bit(others, frame) && !bit(used, frame)) throw inUse(first + frame, 'somebody');
  }
  const kept = new Set<number>();
  eachFrame(
    units.kept,
    inside((frame) => {
      if (bit(used, frame)) throw inUse(first + frame, 'the new host half of a rebuilt IOMMU');
      kept.add(frame);
    }),
  );
  const dropped = new Set<number>();
  eachFrame(
    units.dropped,
    inside((frame) => dropped.add(frame)),
  );
  if (kept.size + dropped.size === 0) return saved;
  for (const frame of kept) setBit(used, frame, true);
  const stale = saved.frames.stale.slice();
  for (const frame of [...kept, ...dropped]) setBit(stale, frame, true);
  const content = [
    ...pagesOf(saved.content, (frame) => !dropped.has(frame) && !kept.has(frame)),
    ...pagesOf(now.content, (frame) => kept.has(frame)),
  ].sort((a, b) => a.frame - b.frame);
  return { ...saved, frames: { used, stale }, content };
};

/** Single pages of contents. */
const pagesOf = (
  contents: readonly PageContent[],
  wanted: (frame: number) => boolean,
): PageContent[] =>
  contents.flatMap(({ frame, bytes }) =>
    Array.from({ length: bytes.length / PAGE_BYTES }, (_unused, i) => ({
      frame: frame + i,
      bytes: bytes.subarray(i * PAGE_BYTES, (i + 1) * PAGE_BYTES),
    })).filter((page) => wanted(page.frame)),
  );

const inUse = (pfn: number, owner: string) =>
  refuse('EBUSY', RESTORE_OP, 'frames-in-use', `${owner} has frame 0x${pfn.toString(16)} here`, {
    value: pfn,
    owner,
    accepted: 'a machine made like the saved one: endpoints, then IOMMUs, nothing else',
  });
