import { describe, expect, it } from 'vitest';
import { Invalidate } from '../../src/host/invalidate.ts';
import { attach, type Bench, bench, HWPT, map, paging, stampedPage, writes } from './fixture.ts';

const MIB2 = 512;
const EFR_WITHOUT_HD = 0x0002_40c0_0000_0840n;

const dirtyRuns = (
  { dirty }: ReturnType<typeof paging>,
  first: number,
  count: number,
  clear = true,
): [number, number][] => {
  const runs: [number, number][] = [];
  dirty?.readAndClear(first, count, (start, pages) => runs.push([start, pages]), clear);
  return runs;
};

/** A domain with single pages from IOVA frame 0 on, attached and tracked. */
const tracked = (pages: number, devices = [{ rid: '00:04.0' }]) => {
  const at = bench({}, devices);
  const domain = at.unit.allocPaging(at.device, {
    flags: HWPT.DIRTY_TRACKING,
    smallPagesOnly: true,
  });
  for (const device of at.devices) attach(at, domain, -1, device);
  const frame = stampedPage(at.machine, pages);
  expect(map(domain, 0, frame, pages)).toBe(0);
  domain.dirty?.setTracking(true);
  return { at, domain, frame };
};

const write = ({ device }: Bench, frame: number): void => expect(writes(device, frame)).toBe(true);

describe('AMD IOMMU 2.2.3: dirty bits of host tables', () => {
  it('exist only where they were asked for, on a unit with HDSup', () => {
    const at = bench();
    expect(paging(at).dirty).toBeUndefined();
    expect(paging(at, HWPT.DIRTY_TRACKING).dirty?.enabled).toBe(false);
    expect(at.unit.hwCapabilities(at.device) & 1).toBe(1);
    const without = bench({ capabilities: { efr: EFR_WITHOUT_HD } });
    expect(without.unit.hwCapabilities(without.device) & 1).toBe(0);
  });

  it('reading clears: written pages are dirty once, and again when written again', () => {
    const { at, domain } = tracked(16);
    write(at, 3);
    write(at, 4);
    write(at, 9);
    expect(dirtyRuns(domain, 0, 16, false)).toEqual([
      [3, 2],
      [9, 1],
    ]);
    expect(dirtyRuns(domain, 0, 16)).toEqual([
      [3, 2],
      [9, 1],
    ]);
    expect(dirtyRuns(domain, 0, 16)).toEqual([]);
    write(at, 9);
    expect(dirtyRuns(domain, 0, 16)).toEqual([[9, 1]]);
  });

  it('a range cleans what it names and nothing else', () => {
    const { at, domain } = tracked(16);
    for (const frame of [0, 7, 8, 15]) write(at, frame);
    expect(dirtyRuns(domain, 7, 2)).toEqual([[7, 2]]);
    expect(dirtyRuns(domain, 0, 16)).toEqual([
      [0, 1],
      [15, 1],
    ]);
  });

  it('translations cached before tracking do not hide writes; off again, nothing is recorded', () => {
    const at = bench();
    const domain = paging(at, HWPT.DIRTY_TRACKING);
    attach(at, domain);
    map(domain, 5, stampedPage(at.machine));
    write(at, 5);
    domain.dirty?.setTracking(true);
    expect(dirtyRuns(domain, 0, 16)).toEqual([]);
    write(at, 5);
    expect(dirtyRuns(domain, 0, 16)).toEqual([[5, 1]]);
    domain.dirty?.setTracking(false);
    write(at, 5);
    expect(dirtyRuns(domain, 0, 16)).toEqual([]);
  });

  it.each([
    ['2 MiB, a level of its own', MIB2],
    ['64 KiB, sixteen copies of which one is marked', 16],
    ['8 KiB, two copies', 2],
  ])('a leaf of %s is one unit, and is tracked again after it was read', (_, pages) => {
    const at = bench();
    const domain = paging(at, HWPT.DIRTY_TRACKING);
    attach(at, domain);
    map(domain, pages, stampedPage(at.machine, pages), pages);
    domain.dirty?.setTracking(true);
    for (const frame of [pages, 2 * pages - 1]) {
      write(at, frame);
      expect(dirtyRuns(domain, 0, 3 * pages)).toEqual([[pages, pages]]);
      expect(dirtyRuns(domain, 0, 3 * pages)).toEqual([]);
    }
    expect(domain.dirty?.leafEnd?.(pages)).toBe(2 * pages);
  });

  it('a leaf wider than the window of one reading is reported whole', () => {
    const at = bench();
    const domain = paging(at, HWPT.DIRTY_TRACKING);
    attach(at, domain);
    const gib4 = 2 ** 20;
    expect(map(domain, gib4, gib4, gib4)).toBe(0);
    domain.dirty?.setTracking(true);
    write(at, stampedPage(at.machine));
    expect(dirtyRuns(domain, 0, 2 ** 40)).toEqual([[gib4, gib4]]);
    expect(dirtyRuns(domain, 0, 2 ** 40)).toEqual([]);
  });

  it('devices that come later are tracked too, and all share what was recorded', () => {
    const devices = [{ rid: '00:04.0' }, { rid: '00:05.0' }];
    const at = bench({}, devices);
    const domain = paging(at, HWPT.DIRTY_TRACKING);
    const [first, second] = at.devices;
    if (!first || !second) throw new Error('two devices');
    attach(at, domain, -1, first);
    map(domain, 1, stampedPage(at.machine));
    domain.dirty?.setTracking(true);
    attach(at, domain, -1, second);
    expect(writes(second, 1)).toBe(true);
    expect(dirtyRuns(domain, 0, 2)).toEqual([[1, 1]]);
    expect(writes(first, 1)).toBe(true);
    expect(dirtyRuns(domain, 0, 2)).toEqual([[1, 1]]);
  });

  it('switching that the hardware refuses is taken back', () => {
    const { at, domain } = tracked(4);
    const { submit } = Invalidate.prototype;
    let calls = 0;
    Invalidate.prototype.submit = function () {
      if (calls++ === 0) throw new Error('the buffer stopped');
      submit.call(this);
    };
    try {
      expect(() => domain.dirty?.setTracking(false)).toThrow('the buffer stopped');
    } finally {
      Invalidate.prototype.submit = submit;
    }
    expect(domain.dirty?.enabled).toBe(true);
    write(at, 2);
    expect(dirtyRuns(domain, 0, 4)).toEqual([[2, 1]]);
  });
});
