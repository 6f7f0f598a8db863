/**
 * What the registers mean at the moment, as plain fields that every part of the hardware reads.
 * Only the register file writes them.
 */
export class UnitState {
  /** Control.IommuEn. */
  enabled = false;
  /** Control.GTEn: guest tables and PASIDs. */
  guestTables = false;
  /** Control.GCR3TRPMode: GCR3 tables lie at guest physical addresses. */
  guestGcr3 = false;
  /** Control.GAUpdateDis and GDUpdateDis clear: bits that guest tables are given. */
  guestAccessed = true;
  guestDirty = true;
  /** The HyperTransport region is no memory (EFR2.HtRangeIgnore clear). */
  htRange = false;
  /** Page requests: Control.PPREn, PPRLogEn, BlkStopMrkEn, PprAutoRspEn, PprAutoRspAon. */
  pageRequests = false;
  pprLogEnabled = false;
  blockStopMarkers = false;
  autoResponse = false;
  autoResponseAlways = false;
  pprInterrupt = false;
  /** Control.InvTimeOut is a time: an unanswered invalidation ends with an event, not never. */
  invalidationTimesOut = false;
  /** Nothing but caches decides about a hit: enabled, and no exclusion range. */
  fast = false;
  /** lg2 of the device table segments in use. */
  segmentsLg2 = 0;
  /** Byte address of each segment. */
  readonly segmentBase = new Float64Array(8);
  /** Bytes of each segment. */
  readonly segmentBytes = new Float64Array(8);
  /** Exclusion range, 4 KiB frames, `last` inclusive. */
  exclusion = false;
  exclusionForAll = false;
  exclusionFirstPfn = 0;
  exclusionLastPfn = -1;
  /** Interrupts on events, and on COMPLETION_WAIT. */
  eventInterrupt = false;
  waitInterrupt = false;

  /**
   * Address of a device table entry.
   *
   * @param rid 16-bit DeviceID
   * @returns byte address, or -1 when the table is too short
   * @spec AMD IOMMU 2.2.2 (device table segmentation)
   */
  dteAddress(rid: number): number {
    const indexBits = 16 - this.segmentsLg2;
    const segment = rid >>> indexBits;
    const offset = (rid & ((1 << indexBits) - 1)) * 32;
    if (offset + 32 > (this.segmentBytes[segment] as number)) return -1;
    return (this.segmentBase[segment] as number) + offset;
  }
}
