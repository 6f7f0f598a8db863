import { createHash } from 'node:crypto';
import type { VtdStats } from '@iommukit/driver-vtd';
import type { Guest } from './guest.ts';
import { type Arrived, NvmeDriver } from './nvme-driver.ts';
import { PASID, type Vmm } from './vmm.ts';

const PAGE_BYTES = 4096;

/** What came of streaming a file. */
export interface StreamResult {
  readonly bytes: number;
  /** From the first doorbell until the last byte was hashed. */
  readonly seconds: number;
  /** SHA-256 of what is in guest memory, hexadecimal. */
  readonly sha256: string;
  readonly pageRequests: number;
  readonly bufferBytes: number;
  /** The unit's counters when the last byte was hashed. */
  readonly hardware: VtdStats;
}

/**
 * Read the whole file through the device into the guest's buffers and hash the buffers, in the
 * file's order, as they fill. The file itself is never looked at.
 *
 * @param onProgress called with the bytes hashed so far
 * @throws {Error} when the device reports a failed command or nothing moves any more
 */
export const streamFile = (
  vmm: Vmm,
  lengthBytes: number,
  onProgress: (bytes: number) => void,
): StreamResult => {
  const driver = new NvmeDriver(vmm.guest, vmm.device, PASID);
  const hash = createHash('sha256');
  const arrived = new Map<number, Arrived>();
  const startedAt = performance.now();
  let submitted = 0;
  let hashed = 0;
  let pageRequests = 0;
  while (hashed < lengthBytes) {
    submitted = driver.submit(submitted, lengthBytes);
    pageRequests += vmm.servePageRequests((gva) => driver.handlePageFault(gva));
    for (const read of driver.reap()) arrived.set(read.offset, checked(read));
    const before = hashed;
    for (let read = arrived.get(hashed); read; read = arrived.get(hashed)) {
      hashBuffer(vmm.guest, read, hash);
      arrived.delete(read.offset);
      driver.release(read);
      hashed += read.length;
    }
    if (hashed === before) throw new Error(`nothing moves any more after ${hashed} bytes`);
    onProgress(hashed);
  }
  return {
    bytes: hashed,
    seconds: (performance.now() - startedAt) / 1000,
    sha256: hash.digest('hex'),
    pageRequests,
    bufferBytes: driver.bufferBytes,
    hardware: vmm.hardware.stats(),
  };
};

const checked = (read: Arrived): Arrived => {
  if (read.status === 0) return read;
  throw new Error(
    `the device failed to read ${read.length} bytes at ${read.offset}: NVMe status 0x${read.status.toString(16)}`,
  );
};

const hashBuffer = (
  guest: Guest,
  read: Arrived,
  hash: { update(bytes: Uint8Array): unknown },
): void => {
  for (let at = 0; at < read.length; at += PAGE_BYTES) {
    hash.update(guest.bytes(read.gva + at, Math.min(PAGE_BYTES, read.length - at)));
  }
};
