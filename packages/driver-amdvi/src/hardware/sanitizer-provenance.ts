/**
 * Where cache entries came from: the structures that led to each, as they were then.
 */
import type { Provenance, SanitizerSnapshot } from './sanitizer-findings.ts';

/** Provenance of pages and guest CR3s by their key, of device table entries by DeviceID. */
export class ProvenanceStore {
  readonly pages = new Map<string, Provenance>();
  readonly devices = new Map<number, Provenance>();
  readonly guests = new Map<string, Provenance>();

  /** Everything, as lists. */
  save(): Pick<SanitizerSnapshot, 'pages' | 'devices' | 'guests'> {
    return { pages: [...this.pages], devices: [...this.devices], guests: [...this.guests] };
  }

  /** Put lists back; without them nothing is known of any entry. */
  load(state: Pick<SanitizerSnapshot, 'pages' | 'devices' | 'guests'> | undefined): void {
    refill(this.pages, state?.pages);
    refill(this.devices, state?.devices);
    refill(this.guests, state?.guests);
  }
}

const refill = <K>(
  map: Map<K, Provenance>,
  entries: readonly (readonly [K, Provenance])[] = [],
): void => {
  map.clear();
  for (const [key, provenance] of entries) map.set(key, provenance);
};

/** Key of a cached page. @param first its first 4 KiB frame */
export const pageKey = (domain: number, pasid: number, sizeLg2: number, first: number): string =>
  `page/${domain}/${pasid}/${sizeLg2}/${first}`;

/** Key of a cached guest CR3. */
export const guestKey = (domain: number, pasid: number): string => `guest/${domain}/${pasid}`;

/** Key of a cached device table entry. */
export const deviceKey = (rid: number): string => `device/${rid}`;
