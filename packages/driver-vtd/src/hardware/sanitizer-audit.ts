/**
 * Whether context and PASID cache entries say what the tables say now.
 */
import { hex } from '@iommukit/bits';
import { TTM } from '../spec/registers.ts';
import { CONTEXT, type ContextCache } from './context-cache.ts';
import { PASID_INFO, type PasidCache } from './pasid-cache.ts';
import type { SanitizerFinding } from './sanitizer-findings.ts';
import type { FreshWalk } from './sanitizer-walk.ts';
import type { Translator } from './translate.ts';

/** A finding before its cause is known. */
export type StaleFacts = Omit<SanitizerFinding, 'verdict' | 'change' | 'due' | 'seen' | 'text'>;

/** What a requester's cached context entry should not say any more; undefined = it is right. */
export function staleContext(
  cache: ContextCache,
  unit: Translator,
  fresh: FreshWalk,
  rid: number,
): StaleFacts | undefined {
  const place = cache.find(rid);
  const info = cache.info[place] as number;
  const { context } = fresh.translator;
  fresh.translator.follow(unit);
  const reason = context.find(rid, unit.rootTable, unit.ttm === TTM.SCALABLE);
  const same =
    info >>> CONTEXT.REASON_SHIFT === reason &&
    (reason !== 0 ||
      (context.info === info &&
        context.did === cache.did[place] &&
        context.ridPasid === cache.ridPasid[place] &&
        context.pointer === cache.pointer[place]));
  if (same) return undefined;
  return {
    kind: 'stale-context',
    found: 'audit',
    rid,
    pasid: -1,
    iovaPfn: -1,
    did: cache.did[place] as number,
    cached: `context entry with table ${hex((cache.pointer[place] as number) * 4096)}`,
    fresh: reason === 0 ? `table ${hex(context.pointer * 4096)}` : `fault ${hex(reason)}`,
  };
}

/** The same for the cached entry of a PASID. */
export function stalePasid(
  cache: PasidCache,
  unit: Translator,
  { translator }: FreshWalk,
  rid: number,
  pasid: number,
  place: number,
): StaleFacts | undefined {
  const info = cache.info[place] as number;
  translator.follow(unit);
  const missing = translator.context.find(rid, unit.rootTable, true);
  const reason = missing !== 0 ? missing : translator.pasidEntry(rid, pasid);
  const entry = translator.pasid;
  const same =
    info >>> PASID_INFO.REASON_SHIFT === reason &&
    (reason !== 0 ||
      (entry.info === info &&
        entry.did === cache.did[place] &&
        entry.ssRoot === cache.ssRoot[place] &&
        entry.fsRoot === cache.fsRoot[place]));
  if (same) return undefined;
  return {
    kind: 'stale-pasid',
    found: 'audit',
    rid,
    pasid,
    iovaPfn: -1,
    did: cache.did[place] as number,
    cached: `PASID entry ${hex(pasid)} of domain ${cache.did[place]}`,
    fresh: reason === 0 ? `domain ${entry.did}` : `fault ${hex(reason)}`,
  };
}
