/**
 * Where cache entries came from: the structures that led to each, as they were then.
 */
import type { Provenance, SanitizerSnapshot } from './sanitizer-findings.ts';

/** Provenance of pages by their key, of context entries by RID, of PASID entries by their key. */
export class ProvenanceStore {
  readonly pages = new Map<string, Provenance>();
  readonly contexts = new Map<number, Provenance>();
  readonly pasids = new Map<string, Provenance>();

  /** Everything, as lists. */
  save(): Pick<SanitizerSnapshot, 'pages' | 'contexts' | 'pasids'> {
    return { pages: [...this.pages], contexts: [...this.contexts], pasids: [...this.pasids] };
  }

  /** Put lists back; without them nothing is known of any entry. */
  load(state: Pick<SanitizerSnapshot, 'pages' | 'contexts' | 'pasids'> | undefined): void {
    refill(this.pages, state?.pages);
    refill(this.contexts, state?.contexts);
    refill(this.pasids, state?.pasids);
  }
}

function refill<K>(
  map: Map<K, Provenance>,
  entries: readonly (readonly [K, Provenance])[] = [],
): void {
  map.clear();
  for (const [key, provenance] of entries) map.set(key, provenance);
}

/** Key of a cached page. @param page in units of its size */
export const pageKey = (source: number, sizeLg2: number, page: number): string =>
  `${source}/${sizeLg2}/${page}`;

/** Key of a cached PASID entry. */
export const pasidKey = (rid: number, pasid: number): string => `${rid}/${pasid}`;
