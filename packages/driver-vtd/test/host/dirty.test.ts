import { describe, expect, it } from 'vitest';
import { InvalidationQueue } from '../../src/host/invalidation-queue.ts';
import {
  attach,
  type Bench,
  bench,
  HWPT,
  map,
  nest,
  paging,
  reach,
  SVA_DEVICE,
  stampedPage,
} from './fixture.ts';

const MIB2 = 512;

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

const write = ({ device }: Bench, frame: number, pasid?: number): number =>
  device.dmaWrite(BigInt(frame) << 12n, new Uint8Array(8), pasid === undefined ? {} : { pasid });

const tracked = (pages: number, flags = 0) => {
  const at = bench({}, [SVA_DEVICE]);
  const domain = paging(at, HWPT.DIRTY_TRACKING | flags);
  attach(at, domain);
  const frame = stampedPage(at.machine, pages);
  expect(map(domain, 0, frame, pages)).toBe(0);
  domain.dirty?.setTracking(true);
  return { at, domain, frame };
};

describe('VT-d 3.7.2: dirty tracking', () => {
  it('exists only where it was asked for', () => {
    const at = bench();
    expect(paging(at).dirty).toBeUndefined();
    expect(paging(at, HWPT.NEST_PARENT).dirty).toBeUndefined();
    expect(paging(at, HWPT.DIRTY_TRACKING).dirty?.enabled).toBe(false);
    expect(at.unit.hwCapabilities(at.device) & 1).toBe(1);
    const without = bench({ capabilities: { ecap: { SSADS: 0 } } });
    expect(without.unit.hwCapabilities(without.device) & 1).toBe(0);
  });

  it('a 2 MiB leaf is one unit, and is tracked again after it was read', () => {
    const { at, domain } = tracked(2 * MIB2);
    write(at, 700);
    expect(dirtyRuns(domain, 0, 2 * MIB2)).toEqual([[MIB2, MIB2]]);
    expect(dirtyRuns(domain, 0, 2 * MIB2)).toEqual([]);
    write(at, 701);
    expect(dirtyRuns(domain, 0, 2 * MIB2)).toEqual([[MIB2, MIB2]]);
  });

  it('a range that cuts a leaf: what was cleaned is recorded again everywhere in it', () => {
    const { at, domain } = tracked(2 * MIB2);
    write(at, 1000);
    expect(dirtyRuns(domain, 600, 10)).toEqual([[600, 10]]);
    write(at, 1000);
    expect(dirtyRuns(domain, 0, 2 * MIB2)).toEqual([[MIB2, MIB2]]);
  });

  it('VT-d 6.5.2.3: the address mask covers the whole of a large leaf that is cut', () => {
    const { at, domain } = tracked(2 * MIB2);
    write(at, 1000);
    const { push } = InvalidationQueue.prototype;
    const covers: [start: number, am: number][] = [];
    InvalidationQueue.prototype.push = function (...words) {
      covers.push([words[2] >>> 12, words[2] & 0x3f]);
      push.apply(this, words);
    };
    dirtyRuns(domain, 600, 10);
    InvalidationQueue.prototype.push = push;
    expect(covers).toContainEqual([MIB2, 9]);
  });

  it('runs join across scan windows', () => {
    const at = bench({}, [SVA_DEVICE]);
    const domain = paging(at, HWPT.DIRTY_TRACKING);
    attach(at, domain);
    const edge = 2 ** 18;
    const frame = stampedPage(at.machine, 8);
    for (let i = 0; i < 8; i++) map(domain, edge - 4 + i, frame + i);
    domain.dirty?.setTracking(true);
    for (let i = 1; i < 7; i++) write(at, edge - 4 + i);
    expect(dirtyRuns(domain, 0, 2 * edge, false)).toEqual([[edge - 3, 6]]);
    expect(dirtyRuns(domain, edge - 2, 4)).toEqual([[edge - 2, 4]]);
    expect(dirtyRuns(domain, 0, 2 * edge)).toEqual([
      [edge - 3, 1],
      [edge + 2, 1],
    ]);
  });

  it('a device that attaches while tracking is on is tracked', () => {
    const { at, domain } = tracked(8);
    attach(at, at.unit.blocking);
    attach(at, domain);
    write(at, 3);
    expect(dirtyRuns(domain, 0, 8)).toEqual([[3, 1]]);
  });

  it('several attachments, PASIDs and guests included, are switched together', () => {
    const at = bench({}, [SVA_DEVICE, { ...SVA_DEVICE, rid: '00:06.0' }]);
    const [a, b] = at.devices as [typeof at.device, typeof at.device];
    const domain = paging(at, HWPT.DIRTY_TRACKING | HWPT.NEST_PARENT | HWPT.PASID);
    const frame = stampedPage(at.machine, 8);
    for (let i = 0; i < 8; i++) map(domain, i, frame + i);
    attach(at, domain, -1, a);
    attach(at, domain, 9, a);
    const { table } = nest(at, -1, b, domain);
    table.map(5, 6);
    for (const on of [true, false, true]) {
      domain.dirty?.setTracking(on);
      write(at, 1);
      write(at, 2, 9);
      b.dmaWrite(0x5000, new Uint8Array(8));
      const runs = dirtyRuns(domain, 0, 8);
      expect(runs).toEqual(
        on
          ? [
              [1, 2],
              [6, 1],
            ]
          : [],
      );
    }
  });

  it('an attachment that is over is left alone', () => {
    const { at, domain } = tracked(8);
    domain.dirty?.setTracking(false);
    const other = paging(at, HWPT.DIRTY_TRACKING);
    const frame = stampedPage(at.machine);
    map(other, 3, frame);
    attach(at, other);
    domain.dirty?.setTracking(true);
    expect(reach(at.device, 3)).toBe(frame);
    attach(at, at.unit.blocking);
    domain.dirty?.setTracking(false);
    expect(reach(at.device, 3)).toBe(-1);
  });
});
