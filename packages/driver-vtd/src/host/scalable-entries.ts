/**
 * PASID entries of live devices: written, replaced and removed with the invalidations that each
 * change needs.
 *
 * @spec VT-d 6.5.3.3 (software invalidation of scalable-mode structures), 9.6
 */
import { PASID_ENTRY, PGTT } from '../spec/pasid-entry.ts';
import type { Attachment } from './attachment.ts';
import { type DeviceState, RID_PASID } from './device-state.ts';
import type { EntryStore } from './entry-store.ts';
import { WHOLE_SPACE_AM } from './page-cover.ts';
import type { PageRequests } from './page-requests.ts';
import {
  clearPasidPresent,
  PASID_ENTRY_WORDS,
  pasidEntryPa,
  storePasidEntry,
  wipePasidEntry,
} from './pasid-table.ts';
import type { UnitContext } from './unit-context.ts';

/** Words of 128 bits: table pointer, type, width and DID, then what the first stage needs. */
const HALF_WORDS = 4;
const { PGTT: TYPE } = PASID_ENTRY.fields;

/** PASID of an attachment as messages to the device carry it: -1 for requests without. */
export const messagePasid = (pasid: number): number => (pasid === RID_PASID ? -1 : pasid);

const entryPa = ({ unit, device, pasid }: Attachment): number =>
  pasidEntryPa(unit.memory, device, pasid);

/**
 * Store 64 bits of a present entry again after a change of its words (SSADE, PGSNP). The caches
 * hold the old ones until the commands of {@link addEntryFlush} are done.
 *
 * @param qword index of the 64 bits in the entry
 */
export const rewriteEntry = (attachment: Attachment, qword: number): void => {
  const { unit, words } = attachment;
  const pa = entryPa(attachment) + qword * 8;
  unit.memory.store64(pa, words[qword * 2] as number, words[qword * 2 + 1] as number);
};

/** Store table pointer, type, width and DID of a present entry again: the first 128 bits, at once. */
export const rewriteTableHalf = (attachment: Attachment): void =>
  attachment.unit.memory.store128(entryPa(attachment), attachment.words);

/**
 * Add the commands for a changed or absent entry: PASID cache, IOTLB, device TLB, in the order
 * that the queue needs.
 *
 * @spec VT-d 6.5.3.3, table of guidance to software
 */
export const addEntryFlush = ({ unit, device, pasid, did, domain }: Attachment): void => {
  const { invalidate } = unit;
  invalidate.pasidEntry(did, pasid);
  if (domain.usesSecondStage) invalidate.iotlbDomain(did);
  else invalidate.pasidIotlb(did, pasid);
  if (device.ats) invalidate.deviceTlb(device.rid, messagePasid(pasid), 0, WHOLE_SPACE_AM);
};

const sameSecondHalf = (old: Attachment, next: Attachment): boolean => {
  for (let i = HALF_WORDS; i < PASID_ENTRY_WORDS; i++) {
    if (old.words[i] !== next.words[i]) return false;
  }
  return true;
};

/** Second-stage and pass-through entries: nothing beyond the first 128 bits is looked at. */
const ignoresSecondHalf = ({ words }: Attachment): boolean => {
  const type = ((words[0] as number) & TYPE.mask) >>> TYPE.shift;
  return type === PGTT.SECOND_STAGE || type === PGTT.PASS_THROUGH;
};

/** Scalable mode. */
export class ScalableEntries implements EntryStore {
  readonly #unit: UnitContext;
  readonly #pageRequests: PageRequests | undefined;

  constructor(unit: UnitContext, pageRequests: PageRequests | undefined) {
    this.#unit = unit;
    this.#pageRequests = pageRequests;
  }

  reserve(device: DeviceState, pasid: number): void {
    const { memory, caps, invalidate } = this.#unit;
    const tables = device.pasidTables.size;
    pasidEntryPa(memory, device, pasid);
    if (caps.cap.CM === 0 || device.pasidTables.size === tables) return;
    // Caching mode may hold all 64 PASIDs of the new directory entry as absent. The command goes
    // with those for the entry that is about to appear there.
    invalidate.pasidGlobal();
  }

  install(next: Attachment): void {
    const { memory, caps, commands } = this.#unit;
    storePasidEntry(memory, entryPa(next), next.words);
    if (caps.cap.CM === 1) this.#flushNewlyPresent(next);
    else if (caps.cap.RWBF === 1) commands.flushWriteBuffer();
  }

  remove(old: Attachment): void {
    const pa = entryPa(old);
    clearPasidPresent(this.#unit.memory, pa, old.words);
    this.#flush(old);
    wipePasidEntry(this.#unit.memory, pa);
  }

  /**
   * The two halves of an entry that differ between domains are 128 bits each, and one store changes
   * one of them. Where the old or the new type of translation ignores the second half, it changes
   * at a time when it does not matter, with a flush between the stores: hardware may hold the first
   * half of an entry while it reads the second.
   */
  replace(old: Attachment, next: Attachment): boolean {
    const { memory } = this.#unit;
    const pa = entryPa(next);
    const storeFirst = () => memory.store128(pa, next.words);
    const storeSecond = () => memory.store128(pa + HALF_WORDS * 4, next.words, HALF_WORDS);
    if (sameSecondHalf(old, next)) {
      storeFirst();
      this.#flush(old);
    } else if (ignoresSecondHalf(next)) {
      storeFirst();
      this.#flush(old);
      storeSecond();
      this.#flush(next);
    } else if (ignoresSecondHalf(old)) {
      storeSecond();
      this.#flush(old);
      storeFirst();
      this.#flush(old);
    } else return false;
    return true;
  }

  /** Flush an entry that changed, together with the page requests that were made through it. */
  #flush(old: Attachment): void {
    addEntryFlush(old);
    const drains = old.device.pri && this.#pageRequests !== undefined;
    this.#unit.invalidate.queue.submit(drains && this.#unit.caps.ecap.PDS === 1);
    if (drains) this.#pageRequests?.drained(old.device, messagePasid(old.pasid));
  }

  /**
   * Caching mode keeps absent entries, tagged with DID 0; hypervisors that emulate such a unit
   * shadow the table when they see the new DID.
   *
   * @spec VT-d 6.1 (CM)
   */
  #flushNewlyPresent({ did, pasid }: Attachment): void {
    const { invalidate } = this.#unit;
    invalidate.pasidEntry(0, pasid);
    invalidate.pasidEntry(did, pasid);
    invalidate.pasidIotlb(did, pasid);
    invalidate.queue.submit();
  }
}
