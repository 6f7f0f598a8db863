import { addr, defineLayout, enumeration, flag, uint } from '@iommukit/bits';

/**
 * The part of NVM Express that the block device speaks: one queue pair, the Read command, PRPs.
 *
 * @spec NVM Express Base 2.0, 3.1.3 (registers), 3.3.3 (queue entries), 4.1.1 (PRP)
 */

/** Register offsets. `PASID` stands in the vendor area: it tags every request of the device. */
export const NVME_REGISTER = {
  CC: 0x14,
  CSTS: 0x1c,
  AQA: 0x24,
  ASQ: 0x28,
  ACQ: 0x30,
  SQ0TDBL: 0x1000,
  CQ0HDBL: 0x1004,
  PASID: 0x1e00,
} as const;

/** Submission queue entry of a Read command, 64 bytes. */
export const READ_COMMAND = defineLayout({
  name: 'READ_COMMAND',
  bits: 512,
  spec: 'NVM Command Set 1.0, 3.2.4',
  doc: 'submission queue entry',
  fields: {
    OPC: enumeration(7, 0, { READ: 2 }, 'opcode'),
    CID: uint(31, 16, 'command identifier'),
    NSID: uint(63, 32, 'namespace'),
    PRP1: addr(255, 192, 'first page of the data buffer'),
    PRP2: addr(319, 256, 'second page, or the list of all further pages'),
    SLBA: uint(383, 320, 'starting block'),
    NLB: uint(399, 384, 'number of blocks minus one'),
  },
});

/** Completion queue entry, 16 bytes. */
export const COMPLETION = defineLayout({
  name: 'COMPLETION',
  bits: 128,
  spec: 'NVM Express Base 2.0, 3.3.3.2',
  doc: 'completion queue entry',
  fields: {
    SQHD: uint(79, 64, 'submission queue head'),
    SQID: uint(95, 80, 'submission queue'),
    CID: uint(111, 96, 'command identifier'),
    P: flag(112, 'phase tag'),
    SC: enumeration(
      120,
      113,
      {
        SUCCESS: 0,
        INVALID_OPCODE: 1,
        INVALID_FIELD: 2,
        DATA_TRANSFER_ERROR: 4,
        LBA_OUT_OF_RANGE: 0x80,
      },
      'status code',
    ),
  },
});

/** Status codes, by the specification's names. */
export const STATUS = {
  SUCCESS: 0,
  INVALID_OPCODE: 1,
  INVALID_FIELD: 2,
  DATA_TRANSFER_ERROR: 4,
  LBA_OUT_OF_RANGE: 0x80,
} as const;

export const SQE_BYTES = 64;
export const CQE_BYTES = 16;
/** Logical block size, bytes. */
export const BLOCK_BYTES = 512;
/** Largest transfer of one command, bytes: one PRP list page describes it. */
export const MAX_TRANSFER_BYTES = 1 << 20;
