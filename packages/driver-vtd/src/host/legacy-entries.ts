/**
 * Context entries of legacy mode: one per device, no PASIDs.
 *
 * @spec VT-d 6.5.3.1, 9.3
 * @linux drivers/iommu/intel/iommu.c (domain_context_mapping_one)
 */
import { encode } from '@iommukit/bits';
import { CONTEXT_ENTRY, CONTEXT_TT } from '../spec/context-entry.ts';
import type { Attachment } from './attachment.ts';
import type { Capabilities } from './capabilities.ts';
import type { DeviceState } from './device-state.ts';
import { IDENTITY_DID } from './did-allocator.ts';
import type { PagingTables } from './domain.ts';
import type { EntryStore } from './entry-store.ts';
import { addressWidthCode, widestAddressWidthCode } from './geometry.ts';
import { WHOLE_SPACE_AM } from './page-cover.ts';
import type { UnitContext } from './unit-context.ts';

/** Context entry of a second-stage domain. */
export const pagingContextEntry = (device: DeviceState, table: PagingTables, did: number) =>
  encode(CONTEXT_ENTRY, {
    P: 1,
    TT: device.ats ? CONTEXT_TT.ATS : CONTEXT_TT.UNTRANSLATED_ONLY,
    SSPTPTR: table.rootPa,
    AW: addressWidthCode(table.levels),
    DID: did,
  });

/** Pass-through context entry; AW must be the widest that the unit has. */
export const identityContextEntry = (caps: Capabilities) =>
  encode(CONTEXT_ENTRY, {
    P: 1,
    TT: CONTEXT_TT.PASS_THROUGH,
    AW: widestAddressWidthCode(caps.cap.SAGAW),
    DID: IDENTITY_DID,
  });

/** Legacy mode. */
export class LegacyEntries implements EntryStore {
  readonly #unit: UnitContext;

  constructor(unit: UnitContext) {
    this.#unit = unit;
  }

  /** Context tables stand since the device was probed. */
  reserve(): void {}

  install({ device, words, did }: Attachment): void {
    const { memory, caps, commands, invalidate } = this.#unit;
    const pa = device.contextPa;
    memory.store64(pa + 8, words[2] as number, words[3] as number);
    memory.store64(pa, words[0] as number, words[1] as number);
    if (caps.cap.CM === 1) {
      invalidate.contextDevice(0, device.rid);
      invalidate.iotlbDomain(did);
      invalidate.queue.submit();
    } else if (caps.cap.RWBF === 1) commands.flushWriteBuffer();
  }

  remove(old: Attachment): void {
    const pa = old.device.contextPa;
    const { memory } = this.#unit;
    memory.store64(pa, ((old.words[0] as number) & ~1) >>> 0, old.words[1] as number);
    this.#flush(old);
    memory.store64(pa, 0, 0);
    memory.store64(pa + 8, 0, 0);
  }

  replace(old: Attachment, next: Attachment): boolean {
    this.#unit.memory.store128(old.device.contextPa, next.words);
    this.#flush(old);
    return true;
  }

  #flush({ device, did }: Attachment): void {
    const { invalidate } = this.#unit;
    invalidate.contextDevice(did, device.rid);
    invalidate.iotlbDomain(did);
    if (device.ats) invalidate.deviceTlb(device.rid, -1, 0, WHOLE_SPACE_AM);
    invalidate.queue.submit();
  }
}
