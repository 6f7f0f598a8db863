/**
 * A dma-buf behind a pages object: when its exporter takes the memory back, what was mapped of it
 * leaves every domain. The areas stay, empty, until they are unmapped; the pages never come back to
 * life, even when the exporter gives its memory again: only a new mapping reaches that.
 * @linux drivers/iommu/iommufd/pages.c iopt_revoke_notify, iopt_dmabuf_track_domain
 * @module
 */
import type { DmabufImporter, PinnableFile } from '../memory/index.ts';
import { unmapSpan } from './domain-fill.ts';
import type { IoPagetable } from './io-pagetable.ts';

/** The attachment of one pages object to its dma-buf. */
export class DmabufAttachment implements DmabufImporter {
  /** The memory was taken back: nothing is mapped of it any more. */
  revoked: boolean;
  readonly #file: PinnableFile;
  /** Tables that have, or had, areas of these pages. */
  readonly #tables = new Set<IoPagetable>();

  /** @param revoked true for an attachment restored after a revocation */
  constructor(file: PinnableFile, revoked = false) {
    this.#file = file;
    this.revoked = revoked;
    file.attach?.(this);
  }

  /** Its pages are gone. */
  detach(): void {
    this.#file.detach?.(this);
    this.#tables.clear();
  }

  /** A table gets an area of these pages. */
  track(iopt: IoPagetable): void {
    if (!this.revoked) this.#tables.add(iopt);
  }

  invalidateMappings(): void {
    if (this.revoked) return;
    this.revoked = true;
    for (const iopt of this.#tables) withdraw(iopt, this);
    this.#tables.clear();
  }
}

/** Unmap the areas of an attachment from every domain of a table. */
const withdraw = (iopt: IoPagetable, attachment: DmabufAttachment): void => {
  const { areas, domains, filler } = iopt;
  if (domains.length === 0) return;
  const { tree } = areas;
  for (let more = tree.seek(0, 0); more; more = tree.advance()) {
    if (areas.pages(tree.id).dmabuf !== attachment) continue;
    filler.aimAtCursor();
    for (const { domain } of domains) unmapSpan(domain, filler.span);
  }
  for (const { domain } of domains) domain.sync();
};
