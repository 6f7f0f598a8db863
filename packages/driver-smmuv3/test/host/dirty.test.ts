/** Dirty tracking: DBM leaves that hardware makes writable again, read and cleaned by the host. */
import { decode } from '@iommukit/bits';
import { HW_CAP, type PagingDomain } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import { CD, STE } from '../../src/index.ts';
import {
  attach,
  type Bench,
  bench,
  commandNames,
  commandsOf,
  HWPT,
  map,
  PASID_DEVICE,
  paging,
  reachAts,
  stampedPage,
  steAddress,
  unmap,
  wordsAt,
  writes,
} from './fixture.ts';

const MIB2 = 512;
const { DIRTY_TRACKING, PASID } = HWPT;
const DEVICE = { ...PASID_DEVICE, ats: true } as const;

const dirtyRuns = (
  { dirty }: PagingDomain,
  first: number,
  count: number,
  clear = true,
): [number, number][] => {
  const runs: [number, number][] = [];
  dirty?.readAndClear(first, count, (start, pages) => runs.push([start, pages]), clear);
  return runs;
};

/** A tracked domain with `pages` from 0 on, attached, and clean. */
const tracked = (pages: number, flags = 0) => {
  const at = bench({}, [DEVICE, { rid: '00:06.0' }]);
  const domain = paging(at, DIRTY_TRACKING | flags);
  attach(at, domain);
  const frame = stampedPage(at.machine, pages);
  expect(map(domain, 0, frame, pages)).toBe(0);
  domain.dirty?.setTracking(true);
  dirtyRuns(domain, 0, pages);
  return { at, domain, frame };
};

/** The descriptor of the device's requests without PASID. */
const descriptor = (at: Bench) => {
  const ste = decode(STE, wordsAt(at, steAddress(at)));
  const leaf = wordsAt(at, Number(ste.S1CONTEXTPTR), 2);
  return decode(
    CD,
    wordsAt(at, (leaf[1] as number) * 2 ** 32 + (((leaf[0] as number) & ~1) >>> 0)),
  );
};

describe('SMMUv3 3.13: dirty tracking', () => {
  test('exists only where it was asked for, and the unit keeps dirty state in coherent tables', () => {
    const at = bench();
    expect(paging(at).dirty).toBeUndefined();
    expect(paging(at, HWPT.NEST_PARENT).dirty).toBeUndefined();
    expect(paging(at, DIRTY_TRACKING | PASID).dirty).toBeDefined();
    expect(paging(at, DIRTY_TRACKING).dirty?.enabled).toBe(false);
    const can = (capabilities: object) => {
      const { unit, device } = bench({ capabilities });
      return unit.hwCapabilities(device) & HW_CAP.DIRTY_TRACKING;
    };
    expect(can({})).toBe(1);
    expect(can({ idr0: { HTTU: 1 } })).toBe(0);
    expect(can({ idr0: { HTTU: 0 } })).toBe(0);
    expect(can({ idr0: { COHACC: 0 } })).toBe(0);
    expect(can({ idr0: { S1P: 0 } })).toBe(0);
  });

  test('the descriptor says HA and HD for such a domain alone', () => {
    const at = bench({}, [DEVICE]);
    attach(at, paging(at, DIRTY_TRACKING));
    expect(descriptor(at)).toMatchObject({ V: 1, HA: 1, HD: 1 });
    attach(at, paging(at));
    expect(descriptor(at)).toMatchObject({ V: 1, HA: 0, HD: 0 });
  });

  test('mapped writable counts as written until it is cleaned; read-only never', () => {
    const at = bench({}, [DEVICE]);
    const domain = paging(at, DIRTY_TRACKING);
    attach(at, domain);
    const frame = stampedPage(at.machine, 8);
    map(domain, 0, frame, 4);
    map(domain, 4, frame + 4, 4, 1);
    expect(dirtyRuns(domain, 0, 8)).toEqual([[0, 4]]);
    expect(dirtyRuns(domain, 0, 8)).toEqual([]);
    expect(writes(at.device, 5)).toBe(false);
    expect(dirtyRuns(domain, 0, 8)).toEqual([]);
  });

  test('written pages are dirty, read ones are not; NO_CLEAR leaves them', () => {
    const { at, domain } = tracked(16);
    for (const page of [3, 4, 9]) expect(writes(at.device, page)).toBe(true);
    reachAts(at.device, 6);
    expect(at.device.dmaRead(0x7000n, new Uint8Array(4))).toBe(4);
    const runs = [
      [3, 2],
      [9, 1],
    ];
    expect(dirtyRuns(domain, 0, 16, false)).toEqual(runs);
    expect(dirtyRuns(domain, 0, 16, false)).toEqual(runs);
    expect(dirtyRuns(domain, 0, 16)).toEqual(runs);
    expect(dirtyRuns(domain, 0, 16)).toEqual([]);
  });

  test('what is cached as writable is dropped when the leaf is cleaned', () => {
    const { at, domain } = tracked(8);
    for (let round = 0; round < 3; round++) {
      expect(writes(at.device, 5)).toBe(true);
      expect(dirtyRuns(domain, 0, 8)).toEqual([[5, 1]]);
    }
  });

  test('also what the device itself caches', () => {
    const { at, domain } = tracked(8);
    for (let round = 0; round < 3; round++) {
      expect(at.device.atsWrite(0x5000n, new Uint8Array(4))).toBe(4);
      expect(dirtyRuns(domain, 0, 8)).toEqual([[5, 1]]);
    }
  });

  test('all attachments: RID, PASID and another device', () => {
    const { at, domain } = tracked(8, PASID);
    attach(at, domain, 9);
    attach(at, domain, -1, at.devices[1]);
    for (let round = 0; round < 2; round++) {
      expect(writes(at.device, 1)).toBe(true);
      expect(writes(at.device, 2, 9)).toBe(true);
      expect(writes(at.devices[1] ?? at.device, 5)).toBe(true);
      expect(dirtyRuns(domain, 0, 8)).toEqual([
        [1, 2],
        [5, 1],
      ]);
    }
  });

  test('a 2 MiB leaf is one unit, and is tracked again after it was read', () => {
    const { at, domain } = tracked(2 * MIB2);
    expect(domain.dirty?.leafEnd?.(700)).toBe(2 * MIB2);
    for (const page of [700, 701]) {
      writes(at.device, page);
      expect(dirtyRuns(domain, 0, 2 * MIB2)).toEqual([[MIB2, MIB2]]);
      expect(dirtyRuns(domain, 0, 2 * MIB2)).toEqual([]);
    }
  });

  test('a range that cuts a leaf: the whole leaf is invalidated and tracked again', () => {
    const { at, domain } = tracked(2 * MIB2);
    writes(at.device, 1000);
    const commands = commandsOf(at, () => expect(dirtyRuns(domain, 600, 10)).toEqual([[600, 10]]));
    // The whole of the leaf: 2^9 pages from its start.
    expect(
      commands.map(([w0 = 0, , address]) => [w0 & 0xff, (w0 >>> 20) & 31, address]),
    ).toContainEqual([0x12, 9, 0x20_0401]);
    writes(at.device, 1000);
    expect(dirtyRuns(domain, 0, 2 * MIB2)).toEqual([[MIB2, MIB2]]);
  });

  test('runs join across scan windows', () => {
    const edge = 2 ** 18;
    const at = bench({}, [DEVICE]);
    const domain = paging(at, DIRTY_TRACKING);
    attach(at, domain);
    const frame = stampedPage(at.machine, 8);
    for (let i = 0; i < 8; i++) map(domain, edge - 4 + i, frame + i);
    dirtyRuns(domain, 0, 2 * edge);
    for (let i = 1; i < 7; i++) writes(at.device, edge - 4 + i);
    expect(dirtyRuns(domain, 0, 2 * edge, false)).toEqual([[edge - 3, 6]]);
    expect(dirtyRuns(domain, edge - 2, 4)).toEqual([[edge - 2, 4]]);
    expect(dirtyRuns(domain, 0, 2 * edge)).toEqual([
      [edge - 3, 1],
      [edge + 2, 1],
    ]);
  });

  test('nothing dirty, or nothing cleaned: nothing is said to the unit', () => {
    const { at, domain } = tracked(8);
    expect(commandNames(at, () => dirtyRuns(domain, 0, 8))).toEqual([]);
    writes(at.device, 5);
    expect(commandNames(at, () => dirtyRuns(domain, 0, 8, false))).toEqual([]);
    expect(commandNames(at, () => dirtyRuns(domain, 0, 8))).toContain('TLBI_NH_VA');
  });

  test('the switch is kept, and changes nothing of the tables', () => {
    const { at, domain } = tracked(8);
    const { dirty } = domain;
    expect(dirty?.enabled).toBe(true);
    expect(commandNames(at, () => dirty?.setTracking(false))).toEqual([]);
    expect(dirty?.enabled).toBe(false);
    writes(at.device, 3);
    expect(dirtyRuns(domain, 0, 8)).toEqual([[3, 1]]);
    unmap(domain, 3);
    expect(dirtyRuns(domain, 0, 8)).toEqual([]);
  });
});
