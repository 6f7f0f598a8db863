/**
 * From a changed structure to the commands that the change asks for.
 *
 * @spec VT-d 6.5.3 (which invalidation after which change)
 */
import { hex } from '@iommukit/bits';
import { PGTT } from '../spec/pasid-entry.ts';
import { type IotlbEntry, TLB } from './iotlb.ts';
import { type HardwareMemory, readDwords } from './memory.ts';
import type { SanitizerFinding, SeenStructure, StructureChange } from './sanitizer-findings.ts';

/** Which configuration structure a layout is; undefined for entries of page tables. */
export const TABLES_OF: Readonly<Record<string, 'root' | 'context' | 'directory' | 'pasid'>> = {
  ROOT_ENTRY: 'root',
  SM_ROOT_ENTRY: 'root',
  CONTEXT_ENTRY: 'context',
  SM_CONTEXT_ENTRY: 'context',
  PASID_DIR_ENTRY: 'directory',
  PASID_ENTRY: 'pasid',
};

/** Entries that point to a table. */
export const TABLE_LAYOUTS = new Set([
  'SS_PML_ENTRY',
  'SS_TABLE_ENTRY',
  'FS_PML_ENTRY',
  'FS_TABLE_ENTRY',
]);

/** Bits of the low dword that hardware sets by itself. */
const ACCESSED_BITS: Readonly<Record<string, number>> = {
  SS_PML_ENTRY: 0x100,
  SS_TABLE_ENTRY: 0x100,
  SS_PDE_2M: 0x100,
  SS_PDPE_1G: 0x100,
  SS_PTE: 0x100,
  FS_PML_ENTRY: 0x420,
  FS_TABLE_ENTRY: 0x420,
  FS_PDE_2M: 0x420,
  FS_PDPE_1G: 0x420,
  FS_PTE: 0x420,
};

/** First of `structures` that no longer reads as it did. */
export function changeOf(
  memory: HardwareMemory,
  structures: readonly SeenStructure[],
): StructureChange | undefined {
  for (const { structure, address, words } of structures) {
    const now = new Uint32Array(words.length);
    if (!readDwords(memory, address, now, words.length)) continue;
    const newWords = [...now];
    const mask = ACCESSED_BITS[structure] ?? 0;
    const differs = newWords.some(
      (word, i) => ((word ^ (words[i] as number)) & ~(i === 0 ? mask : 0)) !== 0,
    );
    if (differs) return { structure, address, oldWords: words, newWords };
  }
  return undefined;
}

/** A cache entry that is stale. */
export interface StaleEntry {
  readonly kind: SanitizerFinding['kind'];
  readonly rid: number;
  readonly did: number;
  /** -1 = none. */
  readonly pasid: number;
  /** Absent for context and PASID entries. */
  readonly entry?: IotlbEntry | undefined;
}

/** The commands that a change asks for; `undefined` = the root pointer changed. */
export function dueFor(
  change: StructureChange | undefined,
  { kind, rid, did, pasid, entry }: StaleEntry,
  scalable: boolean,
): string[] {
  const table = change === undefined ? 'root' : TABLES_OF[change.structure];
  const context = `cc_inv device ${hex(rid)}`;
  const flush = `iotlb_inv domain ${did}`;
  const tag = entry?.pasid ?? Math.max(pasid, 0);
  if (table === 'root')
    return scalable
      ? ['cc_inv global', 'pc_inv global', 'iotlb_inv global']
      : ['cc_inv global', 'iotlb_inv global'];
  if (table === 'context')
    return scalable ? [context, `pc_inv domain ${did}`, flush] : [context, flush];
  if (table === 'directory' || table === 'pasid' || kind === 'stale-pasid')
    return [`pc_inv PASID ${hex(tag)} of domain ${did}`, flush];
  if (entry === undefined) return [flush];
  const pgtt = (entry.meta & TLB.PGTT_MASK) >>> TLB.PGTT_SHIFT;
  const page = `page ${hex(entry.iovaPfn * 4096)}`;
  const secondStage = change?.structure.startsWith('SS_') === true;
  if (pgtt === PGTT.FIRST_STAGE || (pgtt === PGTT.NESTED && !secondStage))
    return [`p_iotlb_inv ${page} PASID ${hex(tag)} of domain ${did}`];
  return [pgtt === PGTT.NESTED ? flush : `iotlb_inv ${page} of domain ${did}`];
}
