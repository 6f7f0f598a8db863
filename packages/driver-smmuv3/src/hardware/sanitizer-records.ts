/**
 * Where cache entries came from, and what devices were given.
 */
import type { IotlbEntry } from '@iommukit/pgtable-fast';
import type { Stage1Config, StreamConfig } from './configuration.ts';
import type { Provenance } from './sanitizer-findings.ts';
import type { DeviceTranslation } from './sanitizer-fresh.ts';

const WRITE = 2;
/** Translations of one device that are remembered: as many as it holds pages unless told otherwise. */
const GIVEN_LIMIT = 4096;

/** A cached STE or CD. */
export interface CachedConfiguration {
  readonly sid: number;
  readonly index: number;
  readonly value: StreamConfig | Stage1Config;
  readonly provenance: Provenance;
}

/** A cached translation. */
export interface CachedPage {
  readonly stream: StreamConfig;
  readonly context: Stage1Config | undefined;
  readonly provenance: Provenance;
}

/** Key of a cached page. */
export const pageKey = ({ source, pasid, sizeLg2, iovaPfn }: IotlbEntry): string =>
  `${source}/${pasid}/${sizeLg2}/${iovaPfn}`;

/** Key of a cached STE or CD. */
export const configurationKey = (sid: number, index: number): string =>
  `configuration/${sid}/${index}`;

/** Provenance of everything cached. */
export class SanitizerRecords {
  readonly configurations = new Map<string, CachedConfiguration>();
  readonly pages = new Map<string, CachedPage>();
}

/** A translation that a device was given, and how it came about. */
export type GivenTranslation = DeviceTranslation & { readonly provenance: Provenance };

/** What devices may hold. */
export class DeviceRecords {
  readonly #given = new Map<number, GivenTranslation[]>();

  /** One more; the same page again replaces it. */
  add(sid: number, given: GivenTranslation): void {
    const others = (this.#given.get(sid) ?? []).filter(
      ({ ssid, iovaPfn }) => ssid !== given.ssid || iovaPfn !== given.iovaPfn,
    );
    others.push(given);
    if (others.length > GIVEN_LIMIT) others.shift();
    this.#given.set(sid, others);
  }

  /** Those through which a device can have got at a frame. */
  thatLeadTo(sid: number, frame: number, access: number): GivenTranslation[] {
    const list = this.#given.get(sid) ?? [];
    return list.filter(({ pfn, sizeLg2, access: granted }) => {
      const inside = frame >= pfn && frame < pfn + 2 ** (sizeLg2 - 12);
      return inside && ((access & WRITE) === 0 || (granted & WRITE) !== 0);
    });
  }

  /** @returns what was dropped. @param ssid -1 = every substream. */
  remove(sid: number, ssid: number, first: number, sizeLg2: number): GivenTranslation[] {
    const pages = 2 ** (sizeLg2 - 12);
    const isHit = (given: GivenTranslation) =>
      (ssid < 0 || given.ssid === ssid) && given.iovaPfn >= first && given.iovaPfn < first + pages;
    const list = this.#given.get(sid) ?? [];
    this.#given.set(
      sid,
      list.filter((given) => !isHit(given)),
    );
    return list.filter(isHit);
  }

  /** Whether the device may still hold this. */
  holds(sid: number, given: GivenTranslation): boolean {
    return this.#given.get(sid)?.includes(given) ?? false;
  }

  /** Forget everything. */
  clear(): void {
    this.#given.clear();
  }

  /** Everything, with its stream. */
  *all(): Generator<readonly [sid: number, given: GivenTranslation]> {
    for (const [sid, list] of this.#given) for (const given of list) yield [sid, given];
  }
}
