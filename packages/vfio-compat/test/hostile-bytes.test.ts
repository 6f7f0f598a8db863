/** Random bytes and addresses through the raw path: an errno, never a crash, and nothing leaks. */
import { exitProcess, filesOf, sysIoctl, VFIO_EXTENSION } from '@iommukit/core';
import fc, { type Arbitrary } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MEMORY, openFixture, PAGE, SCRATCH } from './fixture.ts';
import { createGuest, GUEST, SCRATCH as GUEST_SCRATCH } from './nesting/fixture.ts';

const wild = fc.oneof(
  fc.constantFrom(0n, 1n, 0x800n, 2n ** 47n, 2n ** 64n - 4096n, 2n ** 64n - 1n),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
);
/** A field that is good nineteen times out of twenty. */
const field = (good: Arbitrary<number> | number): Arbitrary<bigint> => {
  const arbitrary = typeof good === 'number' ? fc.constant(good) : good;
  return fc.oneof({ weight: 19, arbitrary: arbitrary.map(BigInt) }, { weight: 1, arbitrary: wild });
};
const among = (...values: readonly number[]) => fc.constantFrom(...values);
const pages = (max: number, base = 0) =>
  fc.integer({ min: 0, max }).map((page) => base + page * PAGE);

/** A call: its number, and its fields as (width in bytes, value). */
interface HostileCall {
  readonly file: 'container' | 'group' | 'device';
  readonly request: bigint;
  readonly fields: readonly (readonly [width: number, value: bigint])[];
  /** Where the struct is said to be. */
  readonly at: bigint;
}

const call = (
  file: HostileCall['file'],
  request: number,
  at: number,
  ...fields: readonly (readonly [width: number, value: Arbitrary<bigint>])[]
): Arbitrary<HostileCall> =>
  fc.record({
    file: fc.oneof(
      { weight: 19, arbitrary: fc.constant(file) },
      { weight: 1, arbitrary: fc.constantFrom('group' as const, 'device' as const) },
    ),
    request: field(request),
    fields: fc.tuple(...fields.map(([width, value]) => value.map((v) => [width, v] as const))),
    at: field(at),
  });

const bytesOf = ({ fields }: HostileCall): Uint8Array => {
  const bytes = new Uint8Array(fields.reduce((sum, [width]) => sum + width, 0));
  let at = 0;
  for (const [width, value] of fields) {
    for (let i = 0; i < width; i++) bytes[at + i] = Number((value >> BigInt(8 * i)) & 0xffn);
    at += width;
  }
  return bytes;
};

const size = field(pages(6));
const bitmap = [
  [8, field(PAGE)],
  [8, field(among(8, 16))],
  [8, field(SCRATCH + 2048)],
] as const;
const iova = field(pages(40));
const type1Calls = fc.oneof(
  call(
    'container',
    0x3b71,
    SCRATCH,
    [4, field(32)],
    [4, field(among(1, 2, 3, 3, 3, 4))],
    [8, field(pages(60, MEMORY))],
    [8, iova],
    [8, size],
  ),
  call(
    'container',
    0x3b72,
    SCRATCH,
    [4, field(48)],
    [4, field(among(0, 0, 0, 1, 2, 4))],
    [8, iova],
    [8, size],
    ...bitmap,
  ),
  call(
    'container',
    0x3b75,
    SCRATCH,
    [4, field(48)],
    [4, field(among(1, 2, 4))],
    [8, iova],
    [8, size],
    ...bitmap,
  ),
  call('container', 0x3b70, SCRATCH, [4, field(among(16, 24, 120))]),
  call('container', 0x3b66, 3),
  call('group', 0x3b67, SCRATCH, [4, field(8)], [4, field(0)]),
  call('group', 0x3b68, SCRATCH, [4, field(among(3, 4, 5))]),
  call('group', 0x3b69, 0),
  call('group', 0x3b6a, SCRATCH, [8, wild], [8, wild]),
  call('device', 0x3b6b, SCRATCH, [4, field(24)]),
);

describe.each([
  ['TYPE1', VFIO_EXTENSION.TYPE1_IOMMU],
  ['TYPE1v2', VFIO_EXTENSION.TYPE1v2_IOMMU],
])('%s', (_name, type) => {
  test('every call answers; afterwards no page is locked or pinned, no frame taken', () => {
    const fresh = openFixture(type);
    exitProcess(fresh.process);
    const free = fresh.machine.memory.freePageCount;
    let mapped = 0;
    fc.assert(
      fc.property(fc.array(type1Calls, { minLength: 1, maxLength: 60 }), (calls) => {
        const { machine, process, container, group } = openFixture(type);
        const device = group.getDeviceFd('0000:00:05.0');
        const fds = { container: container.fd, group: group.fd, device: device.fd };
        for (const hostile of calls) {
          process.poke(SCRATCH, bytesOf(hostile));
          const result = sysIoctl(process, fds[hostile.file], Number(hostile.request), hostile.at);
          expect(Number.isInteger(result) && result > -4096).toBe(true);
          expect([process.lockedPages >= 0, process.pinnedPages]).toEqual([true, 0]);
          mapped = Math.max(mapped, process.lockedPages);
        }
        exitProcess(process);
        expect([process.lockedPages, process.pinnedPages]).toEqual([0, 0]);
        expect(machine.memory.freePageCount).toBe(free);
        expect(filesOf(process).nextFd).toBe(3);
      }),
      { numRuns: 60 },
    );
    expect(mapped).toBeGreaterThan(0);
  });
});

const pasid = among(1, 2, 3);
const pasidRequest = [
  [4, field(16)],
  [4, field(among(1, 2))],
  [4, field(1)],
  [4, field(pasid)],
] as const;
const bindOrUnbind = [
  [4, field(80)],
  [4, field(among(0, 0, 0, 1))],
  [4, field(72)],
  [4, field(1)],
  [4, field(1)],
  [4, field(48)],
  [8, field(1)],
  [8, field(among(0x20000, 0x20000, 0x10000, 0x7000))],
  [8, field(pasid)],
  [8, field(5)],
  [8, field(0)],
  [8, field(0)],
  [8, field(0)],
] as const;
const invalidate = [
  [4, field(64)],
  [4, field(2)],
  [4, field(56)],
  [4, field(1)],
  [1, field(among(1, 2, 3, 4))],
  [1, field(among(0, 1, 2))],
  [6, field(0)],
  [4, field(1)],
  [4, field(0)],
  [8, field(pasid)],
  [8, field(among(0x2000, 0x7f00_0000_1000))],
  [8, field(PAGE)],
  [8, field(among(1, 8))],
] as const;
const unmapAll = [
  [4, field(24)],
  [4, field(2)],
  [8, field(0)],
  [8, field(0)],
] as const;
const mapGuest = [
  [4, field(32)],
  [4, field(3)],
  [8, field(GUEST)],
  [8, field(0)],
  [8, field(2 ** 20)],
] as const;
const nestingCalls = fc.oneof(
  { weight: 3, arbitrary: call('container', 0x3b76, GUEST_SCRATCH, ...pasidRequest) },
  { weight: 6, arbitrary: call('container', 0x3b77, GUEST_SCRATCH, ...bindOrUnbind) },
  { weight: 3, arbitrary: call('container', 0x3b77, GUEST_SCRATCH, ...invalidate) },
  { weight: 1, arbitrary: call('container', 0x3b70, GUEST_SCRATCH, [4, field(among(16, 512))]) },
  { weight: 1, arbitrary: call('container', 0x3b72, GUEST_SCRATCH, ...unmapAll) },
  { weight: 3, arbitrary: call('container', 0x3b71, GUEST_SCRATCH, ...mapGuest) },
);

test('TYPE1_NESTING: every call answers; no binding or page outlives the container', () => {
  let reached = 0;
  fc.assert(
    fc.property(fc.array(nestingCalls, { minLength: 1, maxLength: 40 }), (calls) => {
      const { container, group, vmm, device } = createGuest();
      container.nesting.pasidAlloc({ min: 1, max: 2 });
      const dma = (number: number) =>
        device.dmaRead(0x7f00_0000_1000, new Uint8Array(16), { pasid: number });
      for (const hostile of calls) {
        vmm.poke(GUEST_SCRATCH, bytesOf(hostile));
        const result = container.ioctl(Number(hostile.request & 0xffff_ffffn), hostile.at);
        expect(Number.isInteger(result) && result > -4096).toBe(true);
        reached += dma(1) + dma(2) + dma(3);
      }
      group.close();
      container.close();
      expect([vmm.lockedPages, vmm.pinnedPages]).toEqual([0, 0]);
      expect([dma(1), dma(2), dma(3)]).toEqual([0, 0, 0]);
    }),
    { numRuns: 60 },
  );
  expect(reached).toBeGreaterThan(0);
});
