/**
 * From a changed structure to the commands that the change asks for.
 *
 * @spec AMD IOMMU 2.4 (which invalidation after which change)
 */
import { hex } from '@iommukit/bits';
import { type HardwareMemory, readDwords } from './memory.ts';
import type { SanitizerFinding, SeenStructure, StructureChange } from './sanitizer-findings.ts';

/** Entries that point to a table. */
export const TABLE_LAYOUTS = new Set(['HOST_PDE', 'GUEST_TABLE', 'GUEST_PML', 'GCR3_ENTRY']);

/** Accessed and dirty, which hardware sets by itself: bits 5 and 6 of every table's low dword. */
const ACCESSED_DIRTY = 0x60;

const hardwareBits = (structure: string): number =>
  structure === 'DTE' || structure === 'GCR3_ENTRY' ? 0 : ACCESSED_DIRTY;

/** First of `structures` that no longer reads as it did. */
export const changeOf = (
  memory: HardwareMemory,
  structures: readonly SeenStructure[],
): StructureChange | undefined => {
  for (const { structure, address, words } of structures) {
    const now = new Uint32Array(words.length);
    if (!readDwords(memory, address, now, words.length)) continue;
    const mask = hardwareBits(structure);
    const differs = words.some(
      (word, at) => ((word ^ (now[at] as number)) & ~(at === 0 ? mask : 0)) !== 0,
    );
    if (differs) return { structure, address, oldWords: words, newWords: [...now] };
  }
  return undefined;
};

/** A cache entry that is stale. */
export type StaleEntry = Pick<SanitizerFinding, 'kind' | 'rid' | 'domain' | 'pasid' | 'iovaPfn'>;

/** The commands that a change asks for. */
export const dueFor = (
  change: StructureChange | undefined,
  { kind, rid, domain, pasid, iovaPfn }: StaleEntry,
): string[] => {
  const device = `INVALIDATE_DEVTAB_ENTRY DeviceID ${hex(rid)}`;
  const guest = `INVALIDATE_IOMMU_PAGES DomainID ${domain} GN PASID ${hex(Math.max(pasid, 0))}`;
  const host = `INVALIDATE_IOMMU_PAGES DomainID ${domain}`;
  const all = `${host} all PDE`;
  if (kind === 'stale-device') return [device, all];
  if (change?.structure === 'DTE') return [device, pasid < 0 ? all : `${guest} all PDE`];
  if (kind === 'stale-guest' || change?.structure === 'GCR3_ENTRY') return [`${guest} all PDE`];
  const page = hex(iovaPfn * 4096);
  const hint = change !== undefined && TABLE_LAYOUTS.has(change.structure) ? ' PDE' : '';
  const ofHost = pasid < 0 || change?.structure.startsWith('HOST_') === true;
  if (!ofHost) return [`${guest} page ${page}${hint}`];
  return [pasid < 0 ? `${host} page ${page}${hint}` : all];
};
