import { PROT } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
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
  s1Blob,
  stampedPage,
} from './fixture.ts';

const PLAIN = { rid: '00:04.0' } as const;

describe('what does not fit is refused and changes nothing', () => {
  const page = 0x100;
  const working = (options = {}) => {
    const at = bench(options, [PLAIN, SVA_DEVICE]);
    const domain = paging(at);
    const frame = stampedPage(at.machine);
    map(domain, page, frame);
    attach(at, domain);
    return { at, frame, sva: at.devices[1] as (typeof at.devices)[0] };
  };

  it('PASIDs: device without, 0, beyond its width', () => {
    const { at, frame, sva } = working();
    const domain = paging(at, HWPT.PASID, sva);
    expect(codeOf(() => attach(at, domain, 5))).toBe('EOPNOTSUPP');
    expect(codeOf(() => attach(at, domain, 0, sva))).toBe('EINVAL');
    expect(codeOf(() => attach(at, domain, 2 ** 20, sva))).toBe('EINVAL');
    expect(reach(at.device, page)).toBe(frame);
  });

  it('PASIDs in legacy mode', () => {
    const { at, sva } = working({ scalable: false });
    expect(at.unit.caps.pasidBits).toBe(0);
    expect(codeOf(() => attach(at, paging(at), 5, sva))).toBe('EOPNOTSUPP');
  });

  it('a domain of another machine, a device of another unit', () => {
    const { at, frame } = working();
    const other = bench();
    expect(codeOf(() => attach(at, paging(other)))).toBe('EINVAL');
    const stranger = at.machine.addEndpoint({ rid: '01:00.0' });
    expect(codeOf(() => at.unit.attach(stranger, -1, paging(at)))).toBe('ENODEV');
    expect(codeOf(() => at.unit.probeDevice(at.device))).toBe('EBUSY');
    expect(reach(at.device, page)).toBe(frame);
  });

  it('no DID left (CAP.ND=0: 16 ids, 2 of them not for domains)', () => {
    const at = bench({ capabilities: { cap: { ND: 0 } } }, [SVA_DEVICE]);
    const frame = stampedPage(at.machine);
    for (let pasid = 1; pasid <= 14; pasid++) {
      const domain = paging(at, HWPT.PASID);
      map(domain, page, frame);
      attach(at, domain, pasid);
    }
    const late = paging(at, HWPT.PASID);
    expect(codeOf(() => attach(at, late, 15))).toBe('ENOSPC');
    attach(at, at.unit.blocking, 3);
    attach(at, late, 15);
    expect(reach(at.device, page, 3)).toBe(-1);
    expect(reach(at.device, page, 14)).toBe(frame);
  });

  it('a replaced domain gives its DID back', () => {
    const at = bench({ capabilities: { cap: { ND: 0 } } });
    const frame = stampedPage(at.machine);
    for (let round = 0; round < 40; round++) {
      const domain = paging(at);
      map(domain, page, frame);
      attach(at, domain);
      expect(reach(at.device, page)).toBe(frame);
    }
  });

  it('no memory for a PASID table: nothing is left behind, and it works later', () => {
    const at = bench({}, [SVA_DEVICE]);
    const domain = paging(at, HWPT.PASID);
    const frame = stampedPage(at.machine);
    map(domain, page, frame);
    attach(at, domain, 5);
    const hog: number[] = [];
    for (let pa = 0; pa >= 0; ) {
      pa = at.machine.memory.allocPages(1);
      if (pa >= 0) hog.push(pa);
    }
    const late = paging(at, HWPT.PASID);
    map(late, page, frame);
    expect(codeOf(() => attach(at, late, 0x1000))).toBe('ENOMEM');
    expect(reach(at.device, page, 5)).toBe(frame);
    const newcomer = at.machine.addEndpoint({ ...SVA_DEVICE, rid: '30:00.0' });
    expect(codeOf(() => at.unit.probeDevice(newcomer))).toBe('ENOMEM');
    expect(codeOf(() => at.unit.attach(newcomer, -1, late))).toBe('ENODEV');
    for (const pa of hog) at.machine.memory.freePages(pa, 1);
    attach(at, late, 0x1000);
    at.unit.probeDevice(newcomer);
    at.unit.attach(newcomer, -1, late);
    newcomer.agent = at.unit.agent;
    expect([reach(at.device, page, 0x1000), reach(newcomer, page)]).toEqual([frame, frame]);
  });

  it.each([
    ['addr_width 39', { addrWidth: 39 }, {}, 'EINVAL'],
    ['addr_width 57 without FS5LP', { addrWidth: 57 }, { cap: { FS5LP: 0 } }, 'EINVAL'],
    ['addr_width 57', { addrWidth: 57 }, {}, 'no error'],
    ['SRE without SRS', { flags: 1 }, { ecap: { SRS: 0, RPRIVS: 0 } }, 'EINVAL'],
    ['EAFE without EAFS', { flags: 2 }, { ecap: { EAFS: 0 } }, 'EINVAL'],
    ['SRE, EAFE, WPE', { flags: 7 }, {}, 'no error'],
    ['reserved bytes', { reserved: 1 }, {}, 'no error'],
    ['unknown flag', { flags: 0x80 }, {}, 'no error'],
  ])('nested attach: %s', (_name, data, capabilities, expected) => {
    const at = bench({ capabilities });
    const old = paging(at);
    const frame = stampedPage(at.machine);
    map(old, page, frame);
    attach(at, old);
    const parent = paging(at, HWPT.NEST_PARENT);
    const nested = at.unit.nesting?.allocNested(at.device, parent, 0, s1Blob(0x1000, data));
    expect(codeOf(() => nested && attach(at, nested))).toBe(expected);
    if (expected !== 'no error') expect(reach(at.device, page)).toBe(frame);
  });

  it('strictReserved refuses what Linux 7.3 ignores', () => {
    const at = bench({ strictReserved: true });
    const parent = paging(at, HWPT.NEST_PARENT);
    const alloc = (data: object) => () =>
      at.unit.nesting?.allocNested(at.device, parent, 0, s1Blob(0x1000, data));
    expect(codeOf(alloc({ reserved: 1 }))).toBe('EOPNOTSUPP');
    expect(codeOf(alloc({ flags: 0x80 }))).toBe('EOPNOTSUPP');
    expect(codeOf(alloc({ flags: 7 }))).toBe('no error');
  });
});

describe('several devices', () => {
  it('share a domain and its DID; one leaving does not disturb the other', () => {
    const at = bench({ firstStageByDefault: false }, [PLAIN, { rid: '02:1f.7', ats: true }]);
    const [a, b] = at.devices as [typeof at.device, typeof at.device];
    const domain = paging(at);
    const frame = stampedPage(at.machine);
    map(domain, 0x100, frame);
    attach(at, domain, -1, a);
    attach(at, domain, -1, b);
    expect([reach(a, 0x100), reach(b, 0x100), reachAts(b, 0x100)]).toEqual([frame, frame, frame]);
    attach(at, at.unit.blocking, -1, a);
    expect([reach(a, 0x100), reach(b, 0x100), reachAts(b, 0x100)]).toEqual([-1, frame, frame]);
    domain.unmap(0x100, 1);
    domain.sync();
    expect([reach(b, 0x100), reachAts(b, 0x100)]).toEqual([-1, -1]);
  });

  it('many PASIDs of one device, over several directory pages', () => {
    const at = bench({}, [SVA_DEVICE]);
    const pasids = [1, 63, 64, 0x12345, 0xfffff];
    const frames = pasids.map((pasid) => {
      const domain = paging(at, HWPT.PASID);
      const frame = stampedPage(at.machine);
      map(domain, 0x100, frame);
      attach(at, domain, pasid);
      return frame;
    });
    expect(pasids.map((pasid) => reach(at.device, 0x100, pasid))).toEqual(frames);
    expect(reach(at.device, 0x100)).toBe(-1);
    expect(reach(at.device, 0x100, 2)).toBe(-1);
    attach(at, at.unit.blocking, 64);
    expect(pasids.map((pasid) => reach(at.device, 0x100, pasid))).toEqual(
      frames.map((frame, i) => (i === 2 ? -1 : frame)),
    );
  });

  it('all memory of a device comes back when it leaves', () => {
    const at = bench({}, [SVA_DEVICE]);
    const free = at.machine.memory.freePageCount;
    at.unit.releaseDevice(at.device);
    const without = at.machine.memory.freePageCount;
    for (let round = 0; round < 3; round++) {
      at.unit.probeDevice(at.device);
      for (const pasid of [5, 500, 50000]) attach(at, paging(at, HWPT.PASID), pasid);
      at.unit.releaseDevice(at.device);
      expect(at.machine.memory.freePageCount).toBe(without);
    }
    at.unit.probeDevice(at.device);
    expect(at.machine.memory.freePageCount).toBe(free);
  });
});

describe('several units', () => {
  const pair = (first = {}, second = {}) => {
    const a = bench(first);
    const device = a.machine.addEndpoint({ rid: '05:00.0', ats: true });
    const driver = a.unit.driver;
    const unit = a.machine.addUnit(Object.keys(second).length > 0 ? benchDriver(second) : driver, [
      device,
    ]);
    return { a, b: { ...a, unit, device, devices: [device] } };
  };
  const benchDriver = (options: object) => bench(options).unit.driver;

  it('are apart: each has its own tables, DIDs and caches', () => {
    const { a, b } = pair();
    expect(a.unit.name).not.toBe(b.unit.name);
    const [x, y] = [paging(a), paging(b)];
    const [fx, fy] = [stampedPage(a.machine), stampedPage(a.machine)];
    map(x, 0x100, fx);
    map(y, 0x100, fy);
    attach(a, x);
    attach(b, y);
    expect([reach(a.device, 0x100), reach(b.device, 0x100)]).toEqual([fx, fy]);
  });

  it('one domain on both: a change reaches the caches of both', () => {
    const { a, b } = pair();
    const shared = paging(a);
    const frame = stampedPage(a.machine);
    map(shared, 0x100, frame);
    attach(a, shared);
    attach(b, shared);
    expect([reach(a.device, 0x100), reachAts(b.device, 0x100)]).toEqual([frame, frame]);
    shared.unmap(0x100, 1);
    shared.sync();
    expect([reach(a.device, 0x100), reach(b.device, 0x100), reachAts(b.device, 0x100)]).toEqual([
      -1, -1, -1,
    ]);
  });

  it.each([
    ['no first stage', {}, { capabilities: { ecap: { FSTS: 0, NEST: 0, EAFS: 0 } } }, 0],
    ['no 1G pages', {}, { capabilities: { cap: { FS1GP: 0 } } }, 0],
    [
      'fewer levels',
      { firstStageByDefault: false },
      { capabilities: { cap: { SAGAW: 6, MGAW: 47 } } },
      0,
    ],
    ['no dirty bits', {}, { capabilities: { ecap: { SSADS: 0 } } }, HWPT.DIRTY_TRACKING],
    ['no nesting', {}, { capabilities: { ecap: { NEST: 0 } } }, HWPT.NEST_PARENT],
    ['legacy mode', {}, { scalable: false }, 0],
    [
      'no such levels',
      { firstStageByDefault: false, capabilities: { cap: { SAGAW: 6, MGAW: 47 } } },
      { capabilities: { cap: { SAGAW: 8, MGAW: 47 } } },
      0,
    ],
    [
      'narrower IOVAs',
      { firstStageByDefault: false, capabilities: { cap: { SAGAW: 4, MGAW: 47 } } },
      { capabilities: { cap: { SAGAW: 4, MGAW: 45 } }, hostAddressBits: 42 },
      0,
    ],
    ['no 5-level first stage', {}, { capabilities: { cap: { FS5LP: 0 } } }, 0],
  ])('a domain the other unit cannot walk: %s', (_name, first, second, flags) => {
    const { a, b } = pair(first, second);
    const domain = paging(a, flags);
    expect(codeOf(() => attach(b, domain))).toBe('EINVAL');
    attach(a, domain);
  });
});

describe('a domain that a larger unit can walk', () => {
  it.each([
    [
      '4 levels where 5 are preferred',
      { firstStageByDefault: false, capabilities: { cap: { SAGAW: 6, MGAW: 47 } } },
    ],
    ['a 4-level first stage', { capabilities: { cap: { FS5LP: 0 } } }],
  ])('%s', (_name, small) => {
    const at = bench(small);
    const device = at.machine.addEndpoint({ rid: '05:00.0' });
    const large = at.machine.addUnit(bench().unit.driver, [device]);
    const domain = paging(at);
    const frame = stampedPage(at.machine);
    map(domain, 0x100, frame);
    attach(at, domain);
    large.attach(device, -1, domain);
    expect([reach(at.device, 0x100), reach(device, 0x100)]).toEqual([frame, frame]);
  });
});

describe('IOMMU_HWPT_ALLOC', () => {
  it.each([
    ['unknown flag', {}, 16, 'EOPNOTSUPP'],
    ['FAULT_ID_VALID, which core keeps', {}, 4, 'EOPNOTSUPP'],
    ['NEST_PARENT without NEST', { capabilities: { ecap: { NEST: 0 } } }, 1, 'EOPNOTSUPP'],
    ['DIRTY without SSADS', { capabilities: { ecap: { SSADS: 0 } } }, 2, 'EOPNOTSUPP'],
    ['NEST_PARENT in legacy mode', { scalable: false }, 1, 'EOPNOTSUPP'],
    ['DIRTY in legacy mode', { scalable: false }, 2, 'EOPNOTSUPP'],
    ['all flags', {}, 11, 'no error'],
  ])('%s', (_name, options, flags, expected) => {
    const at = bench(options);
    expect(codeOf(() => paging(at, flags))).toBe(expected);
  });

  it('prefers the first stage, and takes the second where flags or option ask for it', () => {
    const widths = (options: object, flags: number) =>
      paging(bench(options), flags).apertureLastFrame;
    expect(widths({}, 0)).toBe(2 ** 44 - 1);
    expect(widths({}, HWPT.NEST_PARENT)).toBe(2 ** 45 - 1);
    expect(widths({ firstStageByDefault: false }, 0)).toBe(2 ** 45 - 1);
    const only = { capabilities: { cap: { MGAW: 47, SAGAW: 4, FS5LP: 0 } } };
    expect(widths(only, 0)).toBe(2 ** 35 - 1);
    expect(widths(only, HWPT.DIRTY_TRACKING)).toBe(2 ** 36 - 1);
  });

  it('a nest parent takes no read-only mapping, unless the silicon lacks the erratum', () => {
    const at = bench();
    const frame = stampedPage(at.machine);
    expect(map(paging(at, HWPT.NEST_PARENT), 1, frame, 1, PROT.READ)).toBe(-22);
    const fixed = bench({ erratum772415: false });
    expect(map(paging(fixed, HWPT.NEST_PARENT), 1, frame, 1, PROT.READ)).toBe(0);
  });

  it('nested: not supported, wrong type, wrong flags, wrong parent, wrong size', () => {
    const at = bench();
    const parent = paging(at, HWPT.NEST_PARENT);
    const alloc = (...args: [typeof parent, number, ReturnType<typeof s1Blob>]) =>
      codeOf(() => at.unit.nesting?.allocNested(at.device, ...args));
    const legacy = bench({ scalable: false });
    const below = paging(legacy);
    expect(codeOf(() => legacy.unit.nesting?.allocNested(legacy.device, below, 0, s1Blob(0)))).toBe(
      'EOPNOTSUPP',
    );
    expect(alloc(parent, HWPT.NEST_PARENT, s1Blob(0))).toBe('EOPNOTSUPP');
    expect(alloc(parent, 0, { ...s1Blob(0), type: 2 })).toBe('EOPNOTSUPP');
    expect(alloc(paging(at), 0, s1Blob(0))).toBe('EINVAL');
    expect(alloc(paging(at, HWPT.DIRTY_TRACKING), 0, s1Blob(0))).toBe('EINVAL');
    expect(alloc(parent, HWPT.PASID, s1Blob(0))).toBe('no error');
  });
});

describe('nested for one PASID, other domains beside it', () => {
  it('translate side by side', () => {
    const at = bench({}, [SVA_DEVICE]);
    const { guest, table } = nest(at, 0x77);
    const host = paging(at, HWPT.PASID);
    const frame = stampedPage(at.machine);
    map(host, 7, frame);
    attach(at, host);
    const gfn = guest.page();
    table.map(7, gfn);
    expect(reach(at.device, 7, 0x77)).toBe(guest.hostFrame(gfn));
    expect(reach(at.device, 7)).toBe(frame);
  });
});
