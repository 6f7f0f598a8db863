/**
 * Forced snooping: the SNP bit in second-stage leaves, PGSNP in first-stage PASID entries.
 *
 * @linux drivers/iommu/intel/iommu.c (intel_iommu_enforce_cache_coherency_fs, _ss)
 */
import { update } from '@iommukit/bits';
import { PASID_ENTRY } from '../spec/pasid-entry.ts';
import type { Attachment } from './attachment.ts';
import type { VtdPagingDomain } from './domain.ts';
import { addEntryFlush, rewriteEntry, rewriteTableHalf } from './scalable-entries.ts';

const { PGSNP } = PASID_ENTRY.fields;
const PGSNP_QWORD = PGSNP.word >>> 1;

/**
 * Force snooping from now on.
 *
 * @returns false, with nothing changed, when a unit has no snoop control (ECAP.SC), when a
 *   second-stage table has leaves without the bit, or when devices walk it in legacy mode
 */
export const forceSnooping = (domain: VtdPagingDomain): boolean => {
  if (domain.forcesSnooping) return true;
  if (domain.context.caps.ecap.SC === 0) return false;
  for (const { unit } of domain.attachments) if (unit.caps.ecap.SC === 0) return false;
  if (domain.options.firstStage) return forceInEntries(domain);
  return forceInLeaves(domain);
};

const forceInEntries = (domain: VtdPagingDomain): boolean => {
  domain.forcesSnooping = true;
  for (const attachment of domain.attachments) setPageSnoop(attachment);
  return true;
};

const setPageSnoop = (attachment: Attachment): void => {
  const { words, unit } = attachment;
  words[PGSNP.word] = ((words[PGSNP.word] as number) | PGSNP.mask) >>> 0;
  rewriteEntry(attachment, PGSNP_QWORD);
  addEntryFlush(attachment);
  unit.invalidate.queue.submit();
};

/**
 * The bit belongs to the table's format, so an empty table is replaced by one that sets it. Entries
 * that point to it move over in one store each.
 */
const forceInLeaves = (domain: VtdPagingDomain): boolean => {
  const leaf = { iovaPfn: 0, oaPfn: 0, pages: 0, level: 0, wordLo: 0, wordHi: 0 };
  if (!domain.context.caps.scalable && domain.attachments.size > 0) return false;
  if (domain.table.nextLeaf(0, domain.apertureLastFrame + 1, leaf)) return false;
  const plain = domain.table;
  domain.sync();
  domain.table = domain.createTable(true);
  domain.forcesSnooping = true;
  for (const attachment of domain.attachments) moveOver(attachment, domain.rootPa, false);
  for (const child of domain.children) {
    for (const attachment of child.attachments) moveOver(attachment, domain.rootPa, true);
  }
  plain.destroy();
  domain.context.domains.changes++;
  return true;
};

const moveOver = (attachment: Attachment, rootPa: number, nested: boolean): void => {
  update(PASID_ENTRY, attachment.words, { SSPTPTR: rootPa, PGSNP: nested ? 1 : 0 });
  rewriteTableHalf(attachment);
  addEntryFlush(attachment);
  attachment.unit.invalidate.queue.submit();
};
