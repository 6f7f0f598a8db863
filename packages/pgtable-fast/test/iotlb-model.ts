/** The obvious IOTLB: a Map without sets, ways or limits. What the fast one may say, it knows. */
import { ANY_TAG, type IotlbEntry } from '../src/iotlb/index.ts';

/** What {@link IotlbModel.invalidate} compares. */
export interface Selector {
  readonly kinds: number;
  readonly tagA: number;
  readonly tagB: number;
  /** Inclusive frames, or absent for every address. */
  readonly span?: readonly [first: number, last: number];
}

/** Unlimited reference of the IOTLB. */
export class IotlbModel {
  readonly entries = new Map<string, IotlbEntry>();

  insert(entry: IotlbEntry): void {
    const { source, pasid, sizeLg2, iovaPfn } = entry;
    this.entries.set(`${source}/${pasid}/${sizeLg2}/${iovaPfn}`, entry);
  }

  /** Every answer a lookup may give besides a miss. */
  answers(source: number, pasid: number, pfn: number, need: number, writeMask: number): number[] {
    return [...this.entries.values()]
      .filter((e) => e.source === source && e.pasid === pasid && covers(e, pfn, pfn))
      .filter((e) => e.fault !== 0 || allows(e, need, writeMask))
      .map((e) => (e.fault !== 0 ? e.fault : e.outPfn + (pfn - e.iovaPfn)));
  }

  /** Drops what the selector names; returns the same decision for any entry. */
  invalidate(selector: Selector): (entry: IotlbEntry) => boolean {
    const hit = (entry: IotlbEntry) => selects(selector, entry);
    for (const [key, entry] of this.entries) if (hit(entry)) this.entries.delete(key);
    return hit;
  }
}

function covers(entry: IotlbEntry, first: number, last: number): boolean {
  const end = entry.iovaPfn + 2 ** (entry.sizeLg2 - 12);
  return entry.iovaPfn <= last && first < end;
}

function allows(entry: IotlbEntry, need: number, writeMask: number): boolean {
  if ((need & writeMask & entry.permissions) !== 0 && !entry.dirtyKnown) return false;
  return (entry.permissions & need) === need;
}

function selects({ kinds, tagA, tagB, span }: Selector, entry: IotlbEntry): boolean {
  if ((entry.kind & kinds) === 0) return false;
  if (tagA !== ANY_TAG && entry.tagA !== tagA) return false;
  if (tagB !== ANY_TAG && entry.tagB !== tagB) return false;
  return span === undefined || covers(entry, span[0], span[1]);
}
