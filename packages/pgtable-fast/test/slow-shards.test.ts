/** More than 4 GiB of page tables in one pool, really written. */
import { freemem } from 'node:os';
import { expect, test } from 'vitest';
import { createPool, createTable, PROT, vtdSecondStage } from '../src/index.ts';

const RW = PROT.READ | PROT.WRITE;
const GIB = 2 ** 30;
const GIB_PAGES = 2 ** 18;
/** What the test takes, and room for others. */
const NEEDED = 6.5 * GIB;

const hasRoom = freemem() > NEEDED;
const title = hasRoom ? '' : ` (skipped: ${Math.round(freemem() / GIB)} GiB free, needs 6.5)`;

test.skipIf(!hasRoom)(`4.2 GiB of tables in two shards${title}`, { timeout: 120_000 }, () => {
  const pool = createPool({ maxBytes: 6 * GIB });
  const format = vtdSecondStage({ levels: 4 });
  // 2 MiB of tables for each GiB that is mapped.
  const sizes = [1200, 950];
  const tables = sizes.map((gib, i) => {
    const table = createTable(pool, format);
    for (let at = 0; at < gib; at += 50) {
      const first = at * GIB_PAGES;
      expect(table.mapRange(first, first + 1 + i, 50 * GIB_PAGES, RW)).toBe(0);
    }
    return table;
  });
  expect(pool.shards.length).toBe(2);
  expect(pool.stats().usedBytes).toBeGreaterThan(4.1 * GIB);
  for (const [i, table] of tables.entries()) {
    const pages = (sizes[i] as number) * GIB_PAGES;
    for (let at = 0; at < pages; at += 99_991) {
      if (table.translate(at) !== at + 1 + i) expect([at, table.translate(at)]).toEqual([at, 0]);
    }
    expect(table.stats().mappedPages).toBe(pages);
    expect(table.translate(pages)).toBe(-1);
  }
  for (const [i, table] of tables.entries()) {
    const pages = (sizes[i] as number) * GIB_PAGES;
    expect(table.unmapRange(0, pages)).toBe(pages);
    table.freeTables(table.takeFreedTables());
    table.destroy();
  }
  expect(pool.stats().usedBytes).toBe(2 * 4096);
});
