/** Random bytes and addresses through the raw path: an errno, never a crash, and nothing leaks. */
import { exitProcess, filesOf, sysIoctl, VFIO_EXTENSION } from '@iommukit/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { openFixture, SCRATCH } from './fixture.ts';
import { createGuest, SCRATCH as GUEST_SCRATCH } from './nesting/fixture.ts';

const NUMBERS = [
  0x3b64, 0x3b65, 0x3b67, 0x3b68, 0x3b69, 0x3b6a, 0x3b6b, 0x3b70, 0x3b71, 0x3b72, 0x3b75, 0x3b76,
];
const u64 = fc.oneof(
  fc.constantFrom(0n, 0x1000n, 0x1_0000_0000n, 0x2_0000_0100n, 2n ** 47n, 2n ** 64n - 4096n),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  fc.bigInt({ min: 0n, max: 40n }).map((page) => page * 4096n),
);
const u32 = fc.oneof(
  fc.integer({ min: 0, max: 64 }),
  fc.integer({ min: 0, max: 2 ** 32 - 1 }).map((x) => x >>> 0),
);
const call = fc.record({
  file: fc.constantFrom('container', 'group', 'device'),
  request: fc.oneof(
    { weight: 9, arbitrary: fc.constantFrom(...NUMBERS) },
    { weight: 1, arbitrary: u32 },
  ),
  head: fc.tuple(u32, fc.oneof(fc.integer({ min: 0, max: 8 }), u32)),
  words: fc.array(u64, { minLength: 6, maxLength: 6 }),
  at: fc.oneof({ weight: 9, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: u64 }),
});

const bytesOf = (head: readonly number[], words: readonly bigint[]): Uint8Array => {
  const bytes = new Uint8Array(8 + 8 * words.length);
  const view = new DataView(bytes.buffer);
  head.forEach((value, index) => {
    view.setUint32(4 * index, value, true);
  });
  words.forEach((value, index) => {
    view.setBigUint64(8 + 8 * index, value, true);
  });
  return bytes;
};

describe.each([
  ['TYPE1', VFIO_EXTENSION.TYPE1_IOMMU],
  ['TYPE1v2', VFIO_EXTENSION.TYPE1v2_IOMMU],
])('%s', (_name, type) => {
  test('every call answers; afterwards no page is locked or pinned, no frame taken', () => {
    fc.assert(
      fc.property(fc.array(call, { minLength: 1, maxLength: 40 }), (calls) => {
        const { machine, process, container, group } = openFixture(type);
        const device = group.getDeviceFd('0000:00:05.0');
        const fds = { container: container.fd, group: group.fd, device: device.fd };
        for (const { file, request, head, words, at } of calls) {
          process.poke(SCRATCH, bytesOf(head, words));
          const result = sysIoctl(process, fds[file], request, at ?? SCRATCH);
          expect(Number.isInteger(result) && result > -4096).toBe(true);
          const mapped = Math.max(process.lockedPages, 0);
          expect(process.lockedPages).toBe(mapped);
          expect(process.pinnedPages).toBe(0);
        }
        exitProcess(process);
        expect([process.lockedPages, process.pinnedPages]).toEqual([0, 0]);
        const fresh = openFixture(type);
        fresh.group.close();
        exitProcess(fresh.process);
        expect(machine.memory.freePageCount).toBe(fresh.machine.memory.freePageCount);
        expect(filesOf(process).nextFd).toBe(3);
      }),
      { numRuns: 60 },
    );
  });
});

/** Mostly well-formed nesting operations: each field is right three times out of four. */
const often = (good: number) =>
  fc.oneof({ weight: 3, arbitrary: fc.constant(good) }, { weight: 1, arbitrary: u32 });
const nestingCall = fc.record({
  request: fc.constantFrom(0x3b70, 0x3b72, 0x3b76, 0x3b77),
  head: fc.tuple(often(80), fc.integer({ min: 0, max: 3 })),
  inner: fc.tuple(often(72), often(1), often(1), often(48)),
  words: fc.array(u64, { minLength: 8, maxLength: 8 }),
  pasid: fc.bigInt({ min: 0n, max: 4n }),
});

test('TYPE1_NESTING: every call answers, no PASID or page outlives the container', () => {
  fc.assert(
    fc.property(fc.array(nestingCall, { minLength: 1, maxLength: 30 }), (calls) => {
      const { container, group, vmm, device } = createGuest();
      container.nesting.pasidAlloc({ min: 1, max: 2 });
      for (const { request, head, inner, words, pasid } of calls) {
        const [flags = 0n, gpgd = 0n, ...rest] = words;
        const body = [flags & 1n, gpgd, pasid, ...rest.slice(0, 1), 0n, 0n, 0n];
        const bytes = new Uint8Array(8 + 16 + 8 * body.length);
        bytes.set(bytesOf(head, []));
        bytes.set(bytesOf(inner.slice(0, 2), []), 8);
        bytes.set(bytesOf(inner.slice(2), []), 16);
        bytes.set(bytesOf([], body).subarray(8), 24);
        vmm.poke(GUEST_SCRATCH, bytes);
        const result = container.ioctl(request, GUEST_SCRATCH);
        expect(Number.isInteger(result) && result > -4096).toBe(true);
        device.dmaRead(0x7f00_0000_1000, new Uint8Array(16), { pasid: Number(pasid) });
      }
      group.close();
      container.close();
      expect([vmm.lockedPages, vmm.pinnedPages]).toEqual([0, 0]);
      expect(device.dmaRead(0, new Uint8Array(4), { pasid: 1 })).toBe(0);
    }),
    { numRuns: 60 },
  );
});
