/** The code that README shows: its lines are those between the `#region` marks here, and they run. */

// #region table
import { createPool, createTable, PROT, vtdSecondStage } from '@iommukit/pgtable-fast';
import { expect, test } from 'vitest';

const pool = createPool({ base: 0x10_0000_0000 });
const table = createTable(pool, vtdSecondStage({ levels: 4 }));

table.mapRange(0x200, 0x80001, 512, PROT.READ | PROT.WRITE); // 0, or a negative errno
const found = table.translate(0x223); //                        0x80024, or -1
const unmapped = table.unmapRange(0x200, 512); //               512 frames
const freed = table.takeFreedTables(); //                       tables no longer in the tree; 0 for none
/* ... invalidate the hardware's caches ... */
table.freeTables(freed);

// #endregion

// #region walker
import { armStage1, createWalker, createWalkTrace, WALK } from '@iommukit/pgtable-fast';

// A guest's root at 0x1000 whose first entry points to itself, in memory of 64 KiB.
const guest = { base: 0, size: 0x1_0000, i32: new Int32Array(0x4000) };
guest.i32[0x400] = 0x1003;
const memory = { regionAt: (pa: number) => (pa < guest.size ? guest : undefined) };

const walker = createWalker(armStage1({ iovaBits: 39 }));
const trace = createWalkTrace();
const selfReferring = walker.walk(memory, 0x1000, 3, 0, trace); // 1: the table is its own page
const outside = walker.walk(memory, 0xfff8, 3, 1 << 18, trace); // WALK.BUS_ERROR
const refused = walker.walk(memory, 0x1000, 3, 0, trace, () => -1); // WALK.TABLE_TRANSLATION

// #endregion

// #region iotlb
import { ENTRY_KIND, IOTLB_MISS, Iotlb, NO_PASID } from '@iommukit/pgtable-fast';

const READ = 1;
const iotlb = new Iotlb({ sets: 256, ways: 4 });
const { SECOND_STAGE } = ENTRY_KIND;
// Request 00:03.0 of domain 7: a page of 2 MiB from frame 0x200 on.
iotlb.insert(0x18, NO_PASID, 0x200, 0x80000, 21, READ, true, SECOND_STAGE, 7, NO_PASID);
const hit = iotlb.lookup(0x18, NO_PASID, 0x234, READ); //  0x80034
const dropped = iotlb.invalidateTag(7); //                 1 entry: domain 7
const miss = iotlb.lookup(0x18, NO_PASID, 0x234, READ); // IOTLB_MISS
// #endregion

test('a table', () => {
  expect([found, unmapped]).toEqual([0x80024, 512]);
  expect(freed).toBeGreaterThan(0);
  expect(table.stats()).toMatchObject({ mappedPages: 0, freedTables: 0 });
});

test('walks of a hostile table', () => {
  expect([selfReferring, outside, refused]).toEqual([1, WALK.BUS_ERROR, WALK.TABLE_TRANSLATION]);
});

test('the software IOTLB', () => {
  expect([hit, dropped, miss]).toEqual([0x80034, 1, IOTLB_MISS]);
});
