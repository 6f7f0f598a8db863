/**
 * Forced snooping: the SNP bit in second-stage leaves, PGSNP in first-stage PASID entries.
 *
 * @linux drivers/iommu/intel/iommu.c (intel_iommu_enforce_cache_coherency_fs, _ss)
 */
import { PASID_ENTRY } from '../spec/pasid-entry.ts';
import type { Attachment } from './attachment.ts';
import type { VtdPagingDomain } from './domain.ts';
import { addEntryFlush, rewriteEntry } from './scalable-entries.ts';

const { PGSNP } = PASID_ENTRY.fields;
const PGSNP_QWORD = PGSNP.word >>> 1;

/**
 * Force snooping from now on.
 *
 * @returns false, with nothing changed, when a unit has no snoop control (ECAP.SC), or when a
 *   second-stage table has leaves without the bit or devices that already walk it
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

/** The bit belongs to the table's format, so an empty table is replaced by one that sets it. */
const forceInLeaves = (domain: VtdPagingDomain): boolean => {
  const leaf = { iovaPfn: 0, oaPfn: 0, pages: 0, level: 0, wordLo: 0, wordHi: 0 };
  if (domain.attachments.size > 0 || domain.children.size > 0) return false;
  if (domain.table.nextLeaf(0, domain.apertureLastFrame + 1, leaf)) return false;
  const plain = domain.table;
  domain.table = domain.createTable(true);
  domain.forcesSnooping = true;
  plain.destroy();
  domain.context.domains.changes++;
  return true;
};
