/**
 * What a command with IH=1 promised wrongly.
 */
import { hex } from '@iommukit/bits';
import type { IotlbEntry } from './iotlb.ts';
import type { SanitizerFinding, StructureChange } from './sanitizer-findings.ts';
import { unpackSource } from './sanitizer-walk.ts';

/** A table entry above a cached page changed, and the command `text` says that none did. */
export function wrongHint(
  { source, iovaPfn, did, pfn }: IotlbEntry,
  change: StructureChange,
  text: string,
): SanitizerFinding {
  const { rid, pasid } = unpackSource(source);
  const due = `${text} with IH=0`;
  return {
    kind: 'wrong-hint',
    verdict: 'partial',
    found: 'command',
    rid,
    pasid,
    iovaPfn,
    did,
    cached: hex(pfn * 4096),
    fresh: 'a table entry that changed',
    change,
    due: [due],
    seen: [text],
    text: `wrong-hint for requester ${hex(rid)}: ${change.structure} at ${hex(change.address)} changed; partial: ${due}`,
  };
}
