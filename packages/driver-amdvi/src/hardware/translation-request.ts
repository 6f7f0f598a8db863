/**
 * A request on its way through the tables, and how it can be refused.
 */
import { ACCESS, NO_PASID } from '@iommukit/core';
import { RIGHT } from './host-table-walker.ts';

/** What a translation works on; reused from request to request. */
export interface TranslationRequest {
  rid: number;
  /** 20 bits, or -1. */
  pasid: number;
  /** 4 KiB frame of the address, 52 bits. */
  pfn: number;
  /** Byte offset in the page, for event records. */
  offset: number;
  /** Rights it needs, a sum of R, W, X and USER of `RIGHT`. */
  need: number;
  /** It writes, or may (translation requests): dirty bits are owed. */
  write: boolean;
}

/** An empty request. */
export const createTranslationRequest = (): TranslationRequest => ({
  rid: 0,
  pasid: NO_PASID,
  pfn: 0,
  offset: 0,
  need: 0,
  write: false,
});

/** Why a request is refused: an event before it is recorded. One object, reused. */
export interface Refusal {
  /** One of `EVENT`; 0 = not refused. */
  code: number;
  /** Flags of the event, in place. */
  flags: number;
  /** Type of INVALID_DEVICE_REQUEST. */
  type: number;
  /** 4 KiB frame and byte offset that the event tells, for events about an address. */
  pfn: number;
  offset: number;
  /** Byte address of the structure that nothing answered at. */
  address: number;
}

/** A refusal that refuses nothing. */
export const createRefusal = (): Refusal => ({
  code: 0,
  flags: 0,
  type: 0,
  pfn: 0,
  offset: 0,
  address: 0,
});

const { READ, WRITE, EXEC, PRIV, ATOMIC } = ACCESS;

/** An atomic reads and writes; a request that names neither reads. */
const readWriteOf = (access: number): number => {
  if ((access & ATOMIC) !== 0) return RIGHT.R | RIGHT.W;
  const need = ((access & READ) !== 0 ? RIGHT.R : 0) | ((access & WRITE) !== 0 ? RIGHT.W : 0);
  return need === 0 ? RIGHT.R : need;
};

const ACCESS_SUMS = 128;

/** Rights that a request without PASID needs, by its access bits: it is a user's, and no execute. */
const PLAIN_NEED = Int32Array.from(
  { length: ACCESS_SUMS },
  (_, access) => readWriteOf(access) | RIGHT.USER,
);

/** Rights that a request with PASID needs, by its access bits. */
const PASID_NEED = Int32Array.from(
  { length: ACCESS_SUMS },
  (_, access) =>
    readWriteOf(access) |
    ((access & EXEC) !== 0 ? RIGHT.X : 0) |
    ((access & PRIV) !== 0 ? 0 : RIGHT.USER),
);

/** Rights that a request needs. @hot */
export const needOf = (pasid: number, access: number): number =>
  (pasid === NO_PASID ? PLAIN_NEED : PASID_NEED)[access & (ACCESS_SUMS - 1)] as number;
