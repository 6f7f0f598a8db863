/** A page fault of a mock device, read from a fault queue and answered. */
import { sysPoll, sysRead, sysWrite } from '@iommukit/core';
import { expect } from 'vitest';
import { type RawKit, SCRATCH } from './raw-kit.ts';

const RECORD_BYTES = 40;
const RESPONSE_BYTES = 8;
const POLL_IN = 1;
const EINVAL = -22;
const ESPIPE = -29;
/** Word of the cookie in the record. */
const COOKIE = 9;

/** One fault with PASID `pasid` (all ones for none), from device to answer. */
export const roundTripFault = (kit: RawKit, dev: bigint, fd: number, pasid: number): void => {
  const { process } = kit;
  const fields = { dev_id: dev, pasid, grpid: 0x2, perm: 1 | 2, addr: 0xdead_beaf };
  expect(sysPoll(process, fd, POLL_IN)).toBe(0);
  expect(kit.rc('TEST_TRIGGER_IOPF', fields)).toBe('ok');
  expect(sysPoll(process, fd, POLL_IN)).toBe(POLL_IN);
  kit.data(new Uint8Array(RECORD_BYTES));
  expect(sysRead(process, fd, SCRATCH, RECORD_BYTES - 1)).toBe(ESPIPE);
  expect(sysRead(process, fd, SCRATCH, RECORD_BYTES)).toBe(RECORD_BYTES);
  const cookie = kit.read32(SCRATCH, 10)[COOKIE] ?? 0;
  const SUCCESS = 0;
  kit.words([cookie, SUCCESS]);
  expect(sysWrite(process, fd, SCRATCH, RESPONSE_BYTES - 1)).toBe(ESPIPE);
  expect(sysWrite(process, fd, SCRATCH, RESPONSE_BYTES)).toBe(RESPONSE_BYTES);
  // An answer counts once.
  expect(sysWrite(process, fd, SCRATCH, RESPONSE_BYTES)).toBe(EINVAL);
  expect(sysPoll(process, fd, POLL_IN)).toBe(0);
};
