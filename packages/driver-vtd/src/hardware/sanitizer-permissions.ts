/**
 * Whether HPT cache entries say what the host permission tables say now.
 *
 * @spec VT-d 6.5.3.4 (invalidation with HPT enabled)
 */
import { hex } from '@iommukit/bits';
import { TTM } from '../spec/registers.ts';
import { CONTEXT } from './context-cache.ts';
import { HPT_COVERED_LG2, type HptCacheEntry } from './host-permission-cache.ts';
import type { StaleFacts } from './sanitizer-audit.ts';
import { type FreshWalk, unpackSource } from './sanitizer-walk.ts';
import type { Translator } from './translate.ts';
import { ADDRESS_TYPE } from './translation-request.ts';

const AV = 1;
/** Bits of the highest dword that hardware looks at. */
const ADDRESS_HIGH = 0xf_ffff;

/** Key of a cached entry. */
export const permissionKey = ({ source, level, tag }: HptCacheEntry): string =>
  `permission/${source}/${level}/${tag}`;

/** First 4 KiB frame that an entry covers. */
const permissionPfn = ({ level, tag }: HptCacheEntry): number =>
  tag * 2 ** (HPT_COVERED_LG2[level] as number);

/** What hardware looks at: the address only where AV says so. */
function meaning({ level, words }: Pick<HptCacheEntry, 'level' | 'words'>): string {
  const [w0 = 0, w1 = 0, w2 = 0, w3 = 0] = words;
  const valid = level === 1 || (w2 & AV) !== 0;
  return [w0, w1, valid ? w2 : 0, valid ? (level === 1 ? w3 : w3 & ADDRESS_HIGH) : 0].join(' ');
}

/** The dwords that stand where the entry came from; undefined when no walk gets there. */
function wordsNow(entry: HptCacheEntry, unit: Translator, { translator }: FreshWalk) {
  const { rid, pasid } = unpackSource(entry.source);
  translator.follow(unit);
  if (unit.ttm !== TTM.SCALABLE) return undefined;
  if (translator.contextForScalable(rid, pasid, ADDRESS_TYPE.TRANSLATED) !== 0) return undefined;
  if ((translator.context.info & CONTEXT.HPTE) === 0) return undefined;
  const tag = pasid >= 0 ? pasid : translator.context.ridPasid;
  if (translator.pasidEntry(rid, tag) !== 0) return undefined;
  const table = translator.permissionTable;
  if (table.did !== entry.did) return undefined;
  return translator.hostPermission.entryNow(entry.level, permissionPfn(entry), table);
}

/** What a cached entry should not say any more; undefined = it is right. */
export function stalePermission(
  entry: HptCacheEntry,
  unit: Translator,
  fresh: FreshWalk,
  found: 'use' | 'audit',
): StaleFacts | undefined {
  const words = wordsNow(entry, unit, fresh);
  const { level, did } = entry;
  if (words !== undefined && meaning({ level, words }) === meaning(entry)) return undefined;
  const { rid, pasid } = unpackSource(entry.source);
  const text = (dwords: readonly number[]) => dwords.map((word) => hex(word)).join(' ');
  return {
    kind: 'stale-permission',
    found,
    rid,
    pasid,
    iovaPfn: permissionPfn(entry),
    level,
    did,
    cached: `level ${level} entry ${text(entry.words)}`,
    fresh: words === undefined ? 'no such entry' : text(words),
  };
}
