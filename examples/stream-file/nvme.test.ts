import { createHash } from 'node:crypto';
import {
  ATS_STATUS,
  type AtsCompletion,
  createMachine,
  createProcess,
  type PageRequest,
  type TranslationAgent,
} from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import { Guest } from './guest.ts';
import { createGuestRam } from './guest-ram.ts';
import { NvmeDevice } from './nvme-device.ts';
import { NvmeDriver } from './nvme-driver.ts';
import { BLOCK_BYTES, NVME_REGISTER } from './nvme-layout.ts';

const PASID = 7;
const GUEST_BYTES = 16 << 20;

/** An IOMMU that knows the guest's own table and nothing else. */
const setup = (file: Uint8Array) => {
  const machine = createMachine({ ramBytes: 32 << 20 });
  const process = createProcess(machine);
  const va = process.mmap({ length: GUEST_BYTES });
  for (let page = 0; page < GUEST_BYTES; page += 4096) process.write(va + page, Uint8Array.of(0));
  const ram = createGuestRam(machine, process, va, GUEST_BYTES);
  const guest = new Guest(ram);
  const frameOf = (pfn: number, pasid: number): number => {
    const gpa = pasid === PASID ? guest.translate(pfn * 4096) : -1;
    return gpa < 0 ? -1 : process.frameAt(va + gpa);
  };
  const requests: PageRequest[] = [];
  const agent: TranslationAgent = {
    translatePage: (_rid, pasid, pfn) => frameOf(pfn, pasid),
    translatedPage: (_rid, _pasid, pfn) => pfn,
    translationRequest: (_rid, pasid, pfn, _access, completion: AtsCompletion) => {
      const frame = frameOf(pfn, pasid);
      completion.status = ATS_STATUS.SUCCESS;
      completion.sizeLg2 = 12;
      completion.pfn = Math.max(frame, 0);
      completion.read = completion.write = frame < 0 ? 0 : 1;
    },
    pageRequest: (request) => requests.push(request),
  };
  const endpoint = machine.addEndpoint({ rid: '00:04.0', pasidBits: 20, ats: true, pri: true });
  endpoint.agent = agent;
  const device = new NvmeDevice(endpoint, {
    blocks: Math.ceil(file.length / BLOCK_BYTES),
    read: (lba, target) => {
      target.fill(0);
      target.set(file.subarray(lba * BLOCK_BYTES, lba * BLOCK_BYTES + target.length));
    },
  });
  const driver = new NvmeDriver(guest, device, PASID);
  /** Serve page requests as the guest would, or turn all down. */
  const serve = (accept: boolean) => {
    for (const request of requests.splice(0)) {
      const good = accept && driver.handlePageFault(request.addressPfn * 4096);
      if (request.last) {
        machine.deliverPageResponse({ ...request, code: good ? 0 : 1 });
      }
    }
  };
  return { guest, device, driver, serve, requests };
};

const fileOf = (length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, index) => (index * 31 + (index >> 12)) & 0xff);

describe('NVMe-like device and driver', () => {
  test.each([1, 511, 4096, 8192, 8193, 300_000, 5_000_000])(
    'a file of %i bytes arrives whole in guest memory',
    (length) => {
      const file = fileOf(length);
      const { guest, driver, serve } = setup(file);
      const hash = createHash('sha256');
      let next = 0;
      let hashed = 0;
      for (let turn = 0; hashed < length && turn < 10_000; turn++) {
        next = driver.submit(next, length);
        serve(true);
        for (const arrived of driver.reap().sort((a, b) => a.offset - b.offset)) {
          expect(arrived.status).toBe(0);
          expect(arrived.offset).toBe(hashed);
          for (let at = 0; at < arrived.length; at += 4096) {
            hash.update(guest.bytes(arrived.gva + at, Math.min(4096, arrived.length - at)));
          }
          hashed += arrived.length;
          driver.release(arrived);
        }
      }
      expect(hash.digest('hex')).toBe(createHash('sha256').update(file).digest('hex'));
      expect(driver.inFlight).toBe(0);
    },
  );

  test('a page request that is turned down fails the command with Data Transfer Error', () => {
    const length = 64 * 1024;
    const { driver, serve, requests } = setup(fileOf(length));
    driver.submit(0, length);
    expect(requests.length).toBeGreaterThan(0);
    serve(false);
    expect(driver.reap()).toMatchObject([{ status: 4 }]);
  });

  test('a read beyond the last block fails with LBA Out of Range', () => {
    const { driver } = setup(fileOf(4096));
    driver.submit(4096, 8192);
    expect(driver.reap()).toMatchObject([{ status: 0x80 }]);
  });

  test('registers refuse what does not exist', () => {
    const { device } = setup(fileOf(1));
    expect(() => device.writeRegister(0x44, 0)).toThrow(/no register at offset 0x44/);
    expect(() => device.writeRegister(NVME_REGISTER.SQ0TDBL, 64)).toThrow(/64 entries/);
  });
});
