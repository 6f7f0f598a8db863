/**
 * What the registers mean at the moment, as plain fields that every part of the hardware reads.
 * Only the register file writes them.
 */
export class UnitState {
  /** CR0.SMMUEN. */
  enabled = false;
  /** CR2.RECINVSID. */
  recordInvalidStreams = false;
  /** CR0.ATSCHK: translated requests are looked at. */
  checkTranslated = false;
  /** CR2.REC_CFG_ATS: configuration errors of ATS requests are recorded. */
  recordAtsErrors = false;
  /** CR2.E2H. */
  e2h = false;
  /** CR0.VMW: low VMID bits that invalidations ignore. */
  vmidWildcardBits = 0;
  /** GBPA.ABORT. */
  bypassAborts = false;
  /** Byte address of the stream table, aligned as its shape asks. */
  streamTable = 0;
  /** StreamIDs below this are in the table. */
  streamCount = 0;
  streamTwoLevel = false;
  /** StreamID bits of the second level. */
  streamSplit = 6;
}
