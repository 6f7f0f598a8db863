import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { VtdPagingDomain } from '../../src/host/domain.ts';
import { stateFromBytes, stateToBytes } from '../../src/host/state-bytes.ts';
import type { VtdIommuUnit } from '../../src/index.ts';
import {
  attach,
  bench,
  codeOf,
  HWPT,
  map,
  nest,
  paging,
  reach,
  reachAts,
  SVA_DEVICE,
  stampedPage,
  unmap,
} from './fixture.ts';

const lives = (options = {}) => {
  const at = bench(options, [SVA_DEVICE, { rid: '00:06.0' }]);
  const unit = at.unit as VtdIommuUnit;
  const [a, b] = at.devices as [typeof at.device, typeof at.device];
  return { ...at, unit, a, b };
};

describe('snapshot and restore', () => {
  it('tables, attachments, DIDs and caches come back', () => {
    const at = lives({ firstStageByDefault: false });
    const { unit, a, b, machine } = at;
    const [x, y] = [paging(at, HWPT.DIRTY_TRACKING), paging(at)];
    const frames = Array.from({ length: 6 }, () => stampedPage(machine));
    const [f0, f1, f2, f3] = frames as [number, number, number, number];
    map(x, 0x100, f0);
    map(x, 0x101, f1);
    map(y, 0x100, f2);
    attach(at, x, -1, a);
    attach(at, y, 9, a);
    attach(at, x, -1, b);
    const look = () => [
      reach(a, 0x100),
      reach(a, 0x101),
      reach(a, 0x100, 9),
      reach(b, 0x101),
      reachAts(a, 0x100, 9),
      reach(a, 0x102),
    ];
    const then = look();
    expect(then).toEqual([f0, f1, f2, f1, f2, -1]);
    const bytes = unit.snapshot();

    unmap(x, 0x100, 2);
    map(x, 0x102, f3);
    x.dirty?.setTracking(true);
    attach(at, x, 9, a);
    attach(at, y, -1, b);
    attach(at, y, 700, a);
    attach(at, unit.blocking, -1, a);
    unit.releaseDevice(b);
    machine.memory.allocPages(3);
    unit.probeDevice(b);
    expect(look()).not.toEqual(then);
    a.deviceTlb.invalidate(9, 0, 64, true);

    unit.restore(bytes);
    expect(look()).toEqual(then);
    expect(x.dirty?.enabled).toBe(false);
    unmap(x, 0x101);
    expect([reach(a, 0x101), reach(b, 0x101)]).toEqual([-1, -1]);
    attach(at, y, -1, b);
    expect(reach(b, 0x100)).toBe(f2);
    attach(at, unit.blocking, 9, a);
    expect(reach(a, 0x100, 9)).toBe(-1);
    expect(map(x, 0x101, f3)).toBe(0);
    expect(reach(a, 0x101)).toBe(f3);
  });

  it('table memory that was used since is clean again', () => {
    const at = lives();
    const domain = paging(at);
    const bytes = at.unit.snapshot();
    for (let i = 0; i < 50; i++) map(domain, i * 2 ** 18, 0x77, 600);
    at.unit.restore(bytes);
    for (let i = 0; i < 50; i++) {
      expect(map(domain, i * 2 ** 18 + 5, 0x99)).toBe(0);
      expect([4, 5, 6, 511, 550].map((at) => domain.iovaToFrame(i * 2 ** 18 + at))).toEqual([
        -1, 0x99, -1, -1, -1,
      ]);
    }
  });

  it('VT-d 6.2.1: one DID per domain, before and after', () => {
    const at = lives();
    const { unit, a, b } = at;
    const domains = [paging(at), paging(at), paging(at)] as VtdPagingDomain[];
    const [x, y, z] = domains as [VtdPagingDomain, VtdPagingDomain, VtdPagingDomain];
    attach(at, x, -1, a);
    attach(at, y, 9, a);
    const bytes = unit.snapshot();
    attach(at, unit.blocking, 9, a);
    unit.restore(bytes);
    attach(at, z, 10, a);
    attach(at, x, -1, b);
    attach(at, y, 11, a);
    const dids = domains.map(({ attachments }) => [...attachments].map(({ did }) => did));
    expect(dids.map((list) => new Set(list).size)).toEqual([1, 1, 1]);
    expect(new Set(dids.flat()).size).toBe(3);
  });

  it('a nested domain and half a page request group come back', () => {
    const at = lives();
    const { unit, a } = at;
    const { guest, table, parent } = nest(at, 5, a);
    const gfn = guest.page();
    table.map(7, gfn);
    const asked: number[] = [];
    at.machine.setPageFaultHandler(a, (fault) => {
      asked.push(fault.addressPfn);
      return true;
    });
    unit.pri?.enable(a);
    const request = {
      rid: a.rid,
      pasid: 5,
      read: true,
      write: false,
      exec: false,
      priv: false,
      prgi: 2,
    };
    unit.agent.pageRequest?.({ ...request, addressPfn: 1, last: false });
    const bytes = unit.snapshot();
    attach(at, unit.blocking, 5, a);
    unit.pri?.disable(a);
    unit.restore(bytes);
    expect(reach(a, 7, 5)).toBe(guest.hostFrame(gfn));
    unit.agent.pageRequest?.({ ...request, addressPfn: 2, last: true });
    expect(asked).toEqual([1, 2]);
    unmap(parent, gfn);
    expect(reach(a, 7, 5)).toBe(-1);
  });

  it('refuses, with nothing changed: other domains, other devices, taken memory, no snapshot', () => {
    const at = lives();
    const { unit, a, machine } = at;
    const domain = paging(at);
    const frame = stampedPage(machine);
    map(domain, 0x100, frame);
    attach(at, domain, -1, a);
    const bytes = unit.snapshot();
    const refused = () => {
      expect(codeOf(() => unit.restore(bytes))).toBe('EINVAL');
      expect(reach(a, 0x100)).toBe(frame);
    };
    expect(codeOf(() => unit.restore(new Uint8Array(64)))).toBe('EINVAL');
    expect(codeOf(() => unit.restore(bytes.subarray(0, bytes.length - 9000)))).toBe('EINVAL');
    const stranger = machine.addEndpoint({ rid: '09:00.0' });
    unit.probeDevice(stranger);
    refused();
    unit.releaseDevice(stranger);
    expect(codeOf(() => unit.restore(bytes))).toBe('no error');
    const later = paging(at);
    refused();
    later.free();
    refused();
    const fresh = unit.snapshot();
    unit.releaseDevice(at.b);
    const grabbed: number[] = [];
    for (let i = 0; i < 64; i++) grabbed.push(machine.memory.allocPages(1));
    unit.probeDevice(at.b);
    expect(codeOf(() => unit.restore(fresh))).toBe('EINVAL');
    expect(reach(a, 0x100)).toBe(frame);
    for (const page of grabbed) machine.memory.freePages(page, 1);
    expect(codeOf(() => unit.restore(fresh))).toBe('no error');
    expect(reach(a, 0x100)).toBe(frame);
  });

  it('refuses while a domain works under two units', () => {
    const at = lives();
    const device = at.machine.addEndpoint({ rid: '05:00.0' });
    const other = at.machine.addUnit(at.unit.driver, [device]) as VtdIommuUnit;
    const shared = paging(at);
    other.attach(device, -1, shared);
    expect(codeOf(() => at.unit.snapshot())).toBe('EOPNOTSUPP');
    expect(codeOf(() => other.snapshot())).toBe('EOPNOTSUPP');
  });
});

describe('state as bytes', () => {
  it('comes back as it was', () => {
    const words = fc.array(fc.nat({ max: 2 ** 32 - 1 })).map((list) => Uint32Array.from(list));
    const doubles = fc.array(fc.double()).map((list) => Float64Array.from(list));
    const tree = fc.dictionary(
      fc.string(),
      fc.oneof(fc.string(), fc.integer(), fc.boolean(), words, doubles, fc.array(words)),
    );
    fc.assert(
      fc.property(tree, (state) => {
        expect(stateFromBytes(stateToBytes(state))).toEqual({ ...state });
      }),
      { numRuns: 200 },
    );
  });
});
