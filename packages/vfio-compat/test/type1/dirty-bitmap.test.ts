import { createMachine, createProcess } from '@iommukit/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VfioCall } from '../../src/call.ts';
import { checkBitmap, writeDirtyRun } from '../../src/type1/dirty-bitmap.ts';
import { refusalOf } from '../fixture.ts';

const call = new VfioCall(createProcess(createMachine()), 'VFIO_IOMMU_DIRTY_PAGES');
const bits = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(2).padStart(8, '0').split('').reverse().join('')).join(
    '',
  );

describe('writeDirtyRun (update_user_bitmap)', () => {
  test('against bit strings: OR in the first word of a run inside it, overwrite behind', () => {
    const run = fc.record({
      before: fc.uint8Array({ minLength: 64, maxLength: 64 }),
      firstBit: fc.integer({ min: 0, max: 300 }),
      pages: fc.integer({ min: 1, max: 200 }),
    });
    fc.assert(
      fc.property(run, ({ before, firstBit, pages }) => {
        const old = bits(before);
        const word = firstBit - (firstBit % 64);
        const end = firstBit + pages;
        const wanted = Array.from(old, (bit, at) => {
          if (at >= firstBit && at < end) return '1';
          const isFirstWord = firstBit % 64 !== 0 && at >= word && at < word + 64;
          const isBehind = at >= end && at < Math.ceil(end / 64) * 64;
          return isBehind && !isFirstWord ? '0' : bit;
        }).join('');
        const bitmap = before.slice();
        writeDirtyRun(call, bitmap, firstBit, pages);
        expect(bits(bitmap)).toBe(wanted);
      }),
    );
  });

  test('a run longer than one write', () => {
    const bitmap = new Uint8Array(200_000);
    writeDirtyRun(call, bitmap, 64, 1_400_001);
    expect(bitmap.indexOf(0xff)).toBe(8);
    expect(bitmap.lastIndexOf(0xff)).toBe(8 + 175_000 - 1);
    expect(bitmap[8 + 175_000]).toBe(1);
    expect(bitmap[8 + 175_001]).toBe(0);
  });
});

describe('checkBitmap (verify_bitmap_size, access_ok)', () => {
  const one = { pgsize: 4096n, size: 8n, data: 0x1000n };
  test.each([
    ['64 pages in 8 bytes', one, 64n * 4096n, 'ok'],
    ['65 pages need 16 bytes', one, 65n * 4096n, 'EINVAL bitmap-size'],
    ['no page at all', one, 4095n, 'EINVAL bitmap-size'],
    ['no bytes', { ...one, size: 0n }, 4096n, 'EINVAL bitmap-size'],
    ['2^28 bytes', { ...one, size: 2n ** 28n }, 4096n, 'ok'],
    ['above 2^28 bytes', { ...one, size: 2n ** 28n + 1n }, 4096n, 'EINVAL bitmap-size'],
    ['page size 0 counts as bytes', { ...one, pgsize: 0n }, 64n, 'ok'],
    ['ends at the end of user memory', { ...one, data: 2n ** 47n - 4104n }, 4096n, 'ok'],
    ['ends above user memory', { ...one, data: 2n ** 47n - 4103n }, 4096n, 'EINVAL bitmap-address'],
    ['wraps', { ...one, data: 2n ** 64n - 1n }, 4096n, 'EINVAL bitmap-address'],
  ])('%s', (_title, bitmap, size, wanted) => {
    expect(refusalOf(() => checkBitmap(call, bitmap, size))).toBe(wanted);
  });
});
