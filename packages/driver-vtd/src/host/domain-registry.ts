import type { TranslatingDomain } from './translating-domain.ts';

/** The domains a unit made, by number. */
export class DomainRegistry {
  readonly living = new Map<number, TranslatingDomain>();
  /** Domains made or freed so far, and tables exchanged: a change means other table memory. */
  changes = 0;
  #next = 0;

  /** @returns the domain's number */
  add(domain: TranslatingDomain): number {
    this.changes++;
    this.living.set(this.#next, domain);
    return this.#next++;
  }

  remove(domain: TranslatingDomain): void {
    if (this.living.delete(domain.id)) this.changes++;
  }
}
