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

/** Bits of the low dword whose change asks for nothing: mostly those that hardware sets itself. */
const FREE_BITS: Readonly<Record<string, number>> = {
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
  // Not by hardware: software may use these four bits as it likes.
  IRTE: 0xf00,
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
    const mask = FREE_BITS[structure] ?? 0;
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
  /** Of permission entries. */
  readonly iovaPfn?: number;
  readonly level?: number | undefined;
  readonly interruptIndex?: number | undefined;
}

/** The commands that a change asks for; `undefined` = the root pointer changed. */
export function dueFor(
  change: StructureChange | undefined,
  stale: StaleEntry,
  scalable: boolean,
): string[] {
  const { kind, interruptIndex = 0 } = stale;
  if (kind === 'stale-interrupt')
    return [change === undefined ? 'iec_inv global' : `iec_inv index ${hex(interruptIndex)}`];
  return kind === 'stale-permission'
    ? [permissionDue(change, stale)]
    : translationDue(change, stale, scalable);
}

/** Changes of the tables themselves ask for a page, changes above them for the whole domain. */
function permissionDue(
  change: StructureChange | undefined,
  { did, level, iovaPfn = 0 }: StaleEntry,
): string {
  const table = change === undefined ? 'root' : TABLES_OF[change.structure];
  if (table === 'root') return 'hpt_inv global';
  if (table !== undefined) return `hpt_inv domain ${did}, all levels`;
  return `hpt_inv page ${hex(iovaPfn * 4096)} of domain ${did}, levels 1 to ${level}`;
}

function translationDue(
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
