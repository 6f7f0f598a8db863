/**
 * What Linux's sources answer where no recording says so: bitmaps of dirty pages in memory that is
 * there only in part.
 *
 * @linux drivers/iommu/iommufd/iova_bitmap.c, selftest.c
 */
import { HWPT_ALLOC, OPTION, VM_PROT } from '@iommukit/core';
import { MOCK_PAGE_TABLE, MOCK_TYPE } from '@iommukit/driver-testkit';
import { vtd } from '@iommukit/driver-vtd';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { APERTURE, HUGE, PAGE, RawKit } from './raw-kit.ts';

const MIB = 2 ** 20;
const ENABLE = 1;
interface Table {
  readonly name: string;
  /** Bytes of a leaf. */
  readonly leaf: number;
  /** Bytes mapped. */
  readonly bytes: number;
  /** Bytes per bit. */
  readonly pageSize: number;
}
const TABLES: readonly Table[] = [
  { name: 'mock, 1 MiB leaves', leaf: MIB, bytes: 2 * MIB, pageSize: 16 },
  { name: 'VT-d, 4 KiB leaves joined to a run', leaf: PAGE, bytes: 32 * PAGE, pageSize: 1 },
];

/** A page table with everything dirty: a function that reads its bitmap to an address. */
const dirtyTable = (kit: RawKit, { name, leaf, bytes, pageSize }: Table) => {
  const isMock = name.startsWith('mock');
  const ioas = kit.ioas();
  const endpoint = isMock ? undefined : kit.machine.addEndpoint({ rid: '00:09.0' });
  if (!isMock) kit.machine.addUnit(vtd({ firstStageByDefault: false }));
  const dev = endpoint ? BigInt(kit.context.bindDevice(endpoint)) : kit.mock(kit.ioas()).dev;
  const flags = HWPT_ALLOC.DIRTY_TRACKING;
  const data = {
    data_type: MOCK_TYPE.HWPT_DATA,
    data_len: 8,
    data_uptr: kit.words([0, MOCK_PAGE_TABLE.HUGE]),
  };
  const wanted = { dev_id: dev, pt_id: ioas, flags, ...(isMock && data) };
  const hwpt = kit.make('HWPT_ALLOC', 'out_hwpt_id', wanted);
  expect(kit.mapFixed(ioas, kit.memory(HUGE, leaf > PAGE), bytes, APERTURE)).toBe('ok');
  kit.ok('HWPT_SET_DIRTY_TRACKING', { hwpt_id: hwpt, flags: ENABLE });
  if (endpoint) {
    kit.context.deviceAttach(Number(dev), Number(hwpt));
    for (let at = 0; at < bytes; at += PAGE) endpoint.dmaWrite(APERTURE + at, Uint8Array.of(1));
  } else {
    const uptr = kit.data(new Uint8Array(bytes / leaf).fill(0xff));
    kit.ok('TEST_DIRTY', { id: hwpt, iova: APERTURE, length: bytes, page_size: leaf, uptr });
  }
  return (at: number): string =>
    kit.rc('HWPT_GET_DIRTY_BITMAP', {
      hwpt_id: hwpt,
      iova: APERTURE,
      length: bytes,
      page_size: pageSize,
      data: at,
    });
};

describe('iova_bitmap_set: bits of a leaf end where the bitmap cannot be written', () => {
  const PAGES = 6;
  let kit: RawKit;
  beforeEach(() => {
    kit = new RawKit(2 ** 26);
  });
  afterEach(() => kit.close());

  const HOLES = [
    { hole: 'not mapped', make: (at: number) => kit.process.munmap(at, PAGE) },
    { hole: 'read-only', make: (at: number) => kit.process.mprotect(at, PAGE, VM_PROT.READ) },
  ];
  const rows = TABLES.flatMap((table) =>
    HOLES.flatMap((hole) =>
      [0, 8, 0x100, 0xff8].flatMap((offset) =>
        [0, 1, 2].map((bad) => ({ ...table, ...hole, offset, bad })),
      ),
    ),
  );

  it.each(rows)('$name, page $bad $hole, bitmap at +$offset', (row) => {
    const read = dirtyTable(kit, row);
    const at = kit.memory(PAGES * PAGE);
    row.make(at + row.bad * PAGE);
    expect(read(at + row.offset)).toBe('ok');
    const leafBytes = row.leaf / row.pageSize / 8;
    const wanted = new Uint8Array(PAGES * PAGE);
    for (let leaf = 0; leaf < row.bytes / row.leaf; leaf++) {
      const start = row.offset + leaf * leafBytes;
      for (let byte = start; byte < start + leafBytes; byte++) {
        if (Math.floor(byte / PAGE) === row.bad) break;
        wanted[byte] = 0xff;
      }
    }
    for (let page = 0; page < PAGES; page++) {
      if (page === row.bad) continue;
      const bytes = kit.process.peek(at + page * PAGE, PAGE) ?? new Uint8Array();
      const expected = wanted.subarray(page * PAGE, (page + 1) * PAGE);
      expect([page, Buffer.compare(bytes, expected)]).toEqual([page, 0]);
    }
  });
});

describe('iommufd_test_dirty: large bitmaps', () => {
  const RAM_BYTES = 2 ** 26;
  it.each([
    { title: '2^28 bits', bits: 2n ** 28n, rc: 'EFAULT' },
    { title: 'one more', bits: 2n ** 28n + 1n, rc: 'EFAULT' },
    { title: 'more than there is memory', bits: 8n * BigInt(RAM_BYTES) + 1n, rc: 'ENOMEM' },
    { title: 'more than one allocation gives', bits: 2n ** 40n, rc: 'ENOMEM' },
  ])('$title: $rc', ({ bits, rc }) => {
    const kit = new RawKit(RAM_BYTES);
    const ioas = kit.ioas();
    const { dev } = kit.mock(ioas);
    const hwpt = kit.hwpt(dev, ioas, HWPT_ALLOC.DIRTY_TRACKING);
    kit.ok('HWPT_SET_DIRTY_TRACKING', { hwpt_id: hwpt, flags: ENABLE });
    const range = { iova: 0, length: bits * BigInt(PAGE), page_size: PAGE };
    expect(kit.rc('TEST_DIRTY', { id: hwpt, ...range, uptr: kit.memory(PAGE) })).toBe(rc);
    kit.close();
  });

  it('a bitmap of several pieces: every bit counts, and none when the last page is not there', () => {
    const kit = new RawKit(RAM_BYTES);
    const ioas = kit.ioas();
    kit.ok('OPTION', { op: 0, option_id: OPTION.HUGE_PAGES, object_id: ioas, val64: 0 });
    const { dev } = kit.mock(ioas);
    const hwpt = kit.hwpt(dev, ioas, HWPT_ALLOC.DIRTY_TRACKING);
    kit.ok('HWPT_SET_DIRTY_TRACKING', { hwpt_id: hwpt, flags: ENABLE });
    expect(kit.mapFixed(ioas, kit.memory(HUGE), HUGE, APERTURE)).toBe('ok');
    // Three pieces of 64 KiB, and a page behind them.
    const bytes = 3 * 2 ** 16;
    const at = kit.memory(bytes + PAGE);
    const range = { id: hwpt, iova: APERTURE, length: 8 * (bytes + 8), page_size: 1, uptr: at };
    const touch = (byte: number) => kit.process.poke(at + byte, Uint8Array.of(1));
    for (const byte of [0, 2 ** 16, bytes]) touch(byte);
    const read = { hwpt_id: hwpt, iova: APERTURE, length: HUGE, page_size: PAGE };
    const out = kit.memory(PAGE);
    const dirtyPages = () => {
      kit.words64(Array(8).fill(0), out);
      kit.ok('HWPT_GET_DIRTY_BITMAP', { ...read, data: out });
      return kit.read64(out, 8).map(Number);
    };
    expect(kit.make('TEST_DIRTY', 'out_nr_dirty', range)).toBe(3n);
    expect(dirtyPages()).toEqual([1, 0, 1, 0, 0, 0, 1, 0]);
    kit.process.munmap(at + bytes, PAGE);
    expect(kit.rc('TEST_DIRTY', range)).toBe('EFAULT');
    expect(dirtyPages()).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    kit.close();
  });
});
