import { describe, expect, it } from 'vitest';
import { U64_MAX } from '../src/iopt/address.ts';
import {
  AllowedListBuilder,
  addDomain,
  changeProcess,
  cutAreas,
  IoPagetable,
  physicalRun,
  removeDomain,
  reserveDeviceRegions,
  setLargePages,
} from '../src/iopt/index.ts';
import { ACCOUNT, createProcess, MAP_FLAG, UNPINNABLE_FILE } from '../src/memory/index.ts';
import { ANON, areasOf, audit, codeOf, RW, setup, TestDomain } from './iopt-support.ts';

const PAGE = 4096;
const VA = 0x1_0000_0000;

const withMemory = (pages = 64, prot: number = RW, uid = 0) => {
  const all = setup(16 * 2 ** 20, uid);
  all.process.mmap({ addr: VA, length: pages * PAGE, prot, flags: ANON });
  return all;
};

const ranges = (iopt: IoPagetable) => areasOf(iopt).map((a) => [a.start, a.last]);

describe('map (facts: IOAS_MAP, check order)', () => {
  it.each<[string, object, string]>([
    ['length 0', { length: 0 }, 'EINVAL'],
    ['length above SIZE_MAX - 4096', { length: U64_MAX - 0xffen, userVa: 0 }, 'EINVAL'],
    ['user range wraps', { userVa: U64_MAX - 0xfffn, length: 0x1000 }, 'EOVERFLOW'],
    ['iova range wraps', { iova: U64_MAX - 0xffen, length: 0x1000 }, 'EOVERFLOW'],
    ['iova to the very end', { iova: U64_MAX - 0xfffn, length: 0x1000 }, 'ok'],
    ['into a reserved range', { iova: 0x4000, length: 0x3000 }, 'EINVAL'],
    ['over a mapping', { iova: 0x8000, length: 0x9000 }, 'EEXIST'],
    ['reserved is told before mapped', { iova: 0x5000, length: 0x10000 }, 'EINVAL'],
    ['beside a mapping', { iova: 0x11000, length: 0x1000 }, 'ok'],
    ['odd bytes without a domain', { iova: 0x7001, length: 3, userVa: VA + 5 }, 'ok'],
    ['no exact number', { iova: 2 ** 60, length: 1 }, 'EINVAL'],
    ['too long to place', { length: 2n ** 63n - 1n, userVa: 0 }, 'EOVERFLOW'],
    ['no place', { length: 2n ** 62n, userVa: 0x1000 }, 'ok'],
    ['unmapped memory, no domain', { iova: 0x20000, length: 0x1000, userVa: 0xdead000 }, 'ok'],
  ])('%s', (_, options, code) => {
    const { process, iopt } = withMemory();
    iopt.reserve({ start: 0x5000, last: 0x5fff, owner: 'x', label: 'the test window' });
    iopt.mapUser({ process, userVa: VA, length: 0x1000, prot: 3, iova: 0x10000 });
    const before = ranges(iopt);
    const map = { process, userVa: VA, length: 0x1000, prot: 3, ...options };
    expect(codeOf(() => iopt.mapUser(map))).toBe(code);
    if (code !== 'ok') expect(ranges(iopt)).toEqual(before);
    else expect(ranges(iopt).length).toBe(before.length + 1);
  });

  it('the longest length is 2^64 - 4097', () => {
    const { process, iopt } = setup();
    iopt.mapUser({ process, userVa: 0, length: U64_MAX - 4096n, prot: 3, iova: 0 });
    expect(ranges(iopt)).toEqual([[0, U64_MAX - 4097n]]);
  });

  it('allowed ranges bind automatic choice only', () => {
    const { process, iopt, context } = withMemory();
    const list = new AllowedListBuilder(context.shouldFail);
    list.add(0x100000, 0x1fffff);
    iopt.setAllowed(list.build());
    expect(iopt.mapUser({ process, userVa: VA, length: PAGE, prot: 3 })).toBe(0x100000);
    expect(iopt.mapUser({ process, userVa: VA, length: PAGE, prot: 3, iova: 0 })).toBe(0);
  });

  it('a refusal says which window, whose, and what would do', () => {
    const { process, iopt } = withMemory();
    iopt.reserve({
      start: 0xfee00000,
      last: 0xfeefffff,
      owner: 1,
      label: 'the msi region of nic0',
    });
    try {
      iopt.mapUser({ process, userVa: VA, length: 0x2000, prot: 3, iova: 0xfeeff000 });
      expect.unreachable();
    } catch (error) {
      expect(error).toMatchObject({
        code: 'EINVAL',
        op: 'IOMMU_IOAS_MAP',
        reason: {
          rule: 'iova-reserved',
          owner: 'the msi region of nic0',
          range: { start: 0xfee00000, last: 0xfeefffff },
          message: '0xfeeff000..0xfef00fff touches 0xfee00000..0xfeefffff, the msi region of nic0',
        },
      });
    }
  });
});

describe('map with a domain', () => {
  it.each<[string, object, string]>([
    ['a page', {}, 'ok'],
    ['misaligned length', { length: 0x400 }, 'EINVAL'],
    ['misaligned iova', { iova: 0x2000400 }, 'EINVAL'],
    ['misaligned memory', { userVa: VA + 0x400 }, 'EINVAL'],
    ['half pages', { userVa: VA + 0x800, iova: 0x2000800, length: 0x1800 }, 'ok'],
    ['half pages of other phase', { userVa: VA + 0x800, iova: 0x2000000, length: 0x800 }, 'ok'],
    ['below the aperture', { iova: 0x1000 }, 'EINVAL'],
    ['unmapped memory', { userVa: 0xdead000 }, 'EFAULT'],
    ['half unmapped', { userVa: VA + 63 * PAGE, length: 2 * PAGE }, 'EFAULT'],
    ['64-bit memory address', { userVa: 2n ** 60n }, 'EFAULT'],
  ])('%s', (_, options, code) => {
    const { process, iopt, memory, free } = withMemory();
    const domain = new TestDomain(11, 2 ** 24, 2 ** 31 - 1);
    addDomain(iopt, domain, 'HWPT 2');
    const map = { process, userVa: VA, length: PAGE, prot: 3, iova: 0x2000000, ...options };
    expect(codeOf(() => iopt.mapUser(map))).toBe(code);
    audit([iopt], [process]);
    iopt.unmapAll();
    audit([iopt], [process]);
    process.exit();
    expect(memory.freePageCount).toBe(free);
  });

  it.each([
    ['read-only memory, read-only map', 1, 1, 'ok'],
    ['read-only memory, writeable map', 1, 3, 'EFAULT'],
    ['no access at all', 0, 1, 'EFAULT'],
    ['write-only map of writable memory', 3, 2, 'ok'],
  ])('%s', (_, memoryProt, prot, code) => {
    const { process, iopt } = withMemory(4, memoryProt);
    addDomain(iopt, new TestDomain(), 'HWPT 2');
    expect(codeOf(() => iopt.mapUser({ process, userVa: VA, length: PAGE, prot }))).toBe(code);
    audit([iopt], [process]);
  });

  it('a driver that refuses the second domain leaves the first as it was', () => {
    const { process, iopt } = withMemory();
    const [a, b] = [new TestDomain(), new TestDomain()];
    addDomain(iopt, a, 'HWPT 2');
    addDomain(iopt, b, 'HWPT 3');
    b.failAfter = 0;
    expect(codeOf(() => iopt.mapUser({ process, userVa: VA, length: PAGE, prot: 3 }))).toBe(
      'ENOMEM',
    );
    expect([a.table.size, b.table.size, areasOf(iopt).length]).toEqual([0, 0, 0]);
    audit([iopt], [process]);
  });

  it('contiguous memory is one run; without large pages one run per page', () => {
    const { process, iopt } = withMemory();
    const domain = new TestDomain(11);
    setLargePages(iopt, false);
    addDomain(iopt, domain, 'HWPT 2');
    iopt.mapUser({ process, userVa: VA, length: 8 * PAGE, prot: 3 });
    expect(domain.lastRuns).toEqual([2, 2, 2, 2, 2, 2, 2, 2]);
    iopt.unmapAll();
    expect(codeOf(() => iopt.mapUser({ process, userVa: VA, length: 0x800, prot: 3 }))).toBe(
      'EINVAL',
    );
    setLargePages(iopt, true);
    iopt.mapUser({ process, userVa: VA, length: 8 * PAGE, prot: 3 });
    expect(domain.lastRuns).toEqual([16]);
  });

  it('a long mapping without large pages that a driver refuses half-way is undone', () => {
    const { process, iopt } = withMemory(1500);
    setLargePages(iopt, false);
    const domain = new TestDomain();
    addDomain(iopt, domain, 'HWPT 2');
    domain.failAfter = 2;
    const map = { process, userVa: VA, length: 1500 * PAGE, prot: 3 };
    expect(codeOf(() => iopt.mapUser(map))).toBe('ENOMEM');
    expect(domain.table.size).toBe(0);
    audit([iopt], [process]);
  });
});

describe('files', () => {
  it.each<[string, (p: ReturnType<typeof setup>['process']) => object, string, string]>([
    ['inside', (p) => ({ file: p.createFile({ size: 0x4000 }) }), 'ok', 'ok'],
    ['past the end', (p) => ({ file: p.createFile({ size: 0x3fff }) }), 'ok', 'EINVAL'],
    ['no file in memory', () => ({ file: UNPINNABLE_FILE }), 'ok', 'EINVAL'],
  ])('%s: without a domain %s', (_, make, plain, filled) => {
    const { process, iopt, context } = setup();
    const map = { process, start: 0, length: 0x4000, prot: 3, ...make(process) } as never;
    expect(codeOf(() => iopt.mapFile(map))).toBe(plain);
    expect(codeOf(() => addDomain(iopt, new TestDomain(), 'HWPT 2'))).toBe(filled);
    const other = new IoPagetable(context);
    addDomain(other, new TestDomain(), 'HWPT 3');
    expect(codeOf(() => other.mapFile(map))).toBe(filled);
    audit([iopt, other], [process]);
  });

  it('the file offset takes the place of the address in automatic choice', () => {
    const { process, iopt } = setup();
    const file = process.createFile({ size: 2 ** 20 });
    expect(iopt.mapFile({ process, file, start: 0, length: 0x5000, prot: 3 })).toBe(0x8000);
    expect(iopt.mapFile({ process, file, start: 0x2000, length: 0x4000, prot: 3 })).toBe(0x2000);
    expect(iopt.mapFile({ process, file, start: 0x800, length: 0x800, prot: 3 })).toBe(0x1800);
  });
});

describe('unmap (facts: IOAS_UNMAP)', () => {
  const mapped = () => {
    const all = withMemory();
    for (const iova of [0x10000, 0x11000, 0x12000, 0x20000]) {
      all.iopt.mapUser({ process: all.process, userVa: VA, length: 0x1000, prot: 3, iova });
    }
    return all;
  };

  it.each<[string, number | bigint, number | bigint, string, number, number]>([
    ['one area', 0x11000, 0x1000, 'ok', 0x1000, 3],
    ['several and gaps', 0, 0x100000, 'ok', 0x4000, 0],
    ['length 0', 0x10000, 0, 'EINVAL', 0, 4],
    ['wraps', 0x10000, U64_MAX - 0xffffn + 1n, 'EOVERFLOW', 0, 4],
    ['nothing there', 0x30000, 0x1000, 'ENOENT', 0, 4],
    ['cuts the first', 0x10800, 0x1800, 'ENOENT', 0, 4],
    ['cuts the last: those in front are gone', 0x10000, 0x2800, 'ENOENT', 0x2000, 2],
    ['to the last byte', 0x20000, U64_MAX - 0x1ffffn, 'ok', 0x1000, 3],
  ])('%s', (_, iova, length, code, bytes, left) => {
    const { iopt } = mapped();
    expect(codeOf(() => iopt.unmap(iova, length))).toBe(code);
    expect([iopt.lastUnmappedBytes, areasOf(iopt).length]).toEqual([bytes, left]);
  });

  it('everything, twice', () => {
    const { iopt } = mapped();
    expect([iopt.unmapAll(), iopt.unmapAll()]).toEqual([0x4000, 0]);
  });

  it('all 2^64 bytes in two areas: Linux counts 0 and answers ENOENT, the areas are gone', () => {
    const { iopt, process } = setup();
    iopt.mapUser({ process, userVa: 0, length: 2n ** 63n, prot: 3, iova: 0 });
    iopt.mapUser({ process, userVa: 0, length: 2n ** 63n, prot: 3, iova: 2n ** 63n });
    expect(codeOf(() => iopt.unmap(0, 2n ** 63n))).toBe('ok');
    expect(iopt.lastUnmappedBytes).toBe(2n ** 63n);
    expect(codeOf(() => iopt.unmap(2n ** 63n, 2n ** 63n))).toBe('ok');
    expect(areasOf(iopt).length).toBe(0);
  });
});

describe('copy (facts: IOAS_COPY)', () => {
  const copy = (from: IoPagetable, iova: number, length: number, to: IoPagetable, prot: number) =>
    to.mapPages(from.getPages(iova, length), length, prot);

  it('takes sub-ranges over several areas, shares pins, charges once', () => {
    const { process, iopt, context } = withMemory();
    const other = new IoPagetable(context);
    iopt.mapUser({ process, userVa: VA, length: 0x4000, prot: 3, iova: 0x10000 });
    iopt.mapUser({ process, userVa: VA + 0x8000, length: 0x4000, prot: 3, iova: 0x14000 });
    addDomain(iopt, new TestDomain(), 'HWPT 2');
    addDomain(other, new TestDomain(), 'HWPT 3');
    copy(iopt, 0x12000, 0x4000, other, 3);
    expect(areasOf(other).map((a) => [a.first, Number(a.last) - Number(a.start) + 1])).toEqual([
      [2, 0x2000],
      [0, 0x2000],
    ]);
    expect(process.pinnedPages).toBe(8);
    audit([iopt, other], [process]);
    iopt.unmapAll();
    expect(process.pinnedPages).toBe(4);
    audit([iopt, other], [process]);
    other.unmapAll();
    expect(process.pinnedPages).toBe(0);
  });

  it('a whole copy keeps the pages pinned when the original goes', () => {
    const { process, iopt, context } = withMemory();
    const other = new IoPagetable(context);
    addDomain(iopt, new TestDomain(), 'HWPT 2');
    addDomain(other, new TestDomain(), 'HWPT 3');
    iopt.mapUser({ process, userVa: VA, length: 0x4000, prot: 3, iova: 0x10000 });
    copy(iopt, 0x10000, 0x4000, other, 3);
    iopt.unmapAll();
    audit([iopt, other], [process]);
    expect(process.pinnedPages).toBe(4);
    other.unmapAll();
    expect(process.pinnedPages).toBe(0);
  });

  it('later domains get the frames pinned first, whatever the process maps there now', () => {
    const { process, iopt, context } = withMemory();
    const other = new IoPagetable(context);
    const [a, b] = [new TestDomain(), new TestDomain()];
    iopt.mapUser({ process, userVa: VA, length: PAGE, prot: 3, iova: 0x10000 });
    addDomain(iopt, a, 'HWPT 2');
    process.mmap({ addr: VA, length: PAGE, prot: RW, flags: ANON | MAP_FLAG.FIXED });
    addDomain(iopt, b, 'HWPT 3');
    copy(iopt, 0x10000, PAGE, other, 1);
    addDomain(other, new TestDomain(), 'HWPT 4');
    expect(b.table.get(0x10)?.out).toBe(a.table.get(0x10)?.out);
    audit([iopt, other], [process]);
    removeDomain(iopt, a);
    audit([iopt, other], [process]);
  });

  it.each<[string, number, number, number, string]>([
    ['a gap', 0x10000, 0x6000, 3, 'ENOENT'],
    ['before the first', 0xf000, 0x2000, 3, 'ENOENT'],
    ['length 0', 0x10000, 0, 3, 'EINVAL'],
    ['write of read-only pages', 0x20000, 0x1000, 3, 'EPERM'],
    ['read of read-only pages', 0x20000, 0x1000, 1, 'ok'],
    ['odd bytes', 0x10001, 0x123, 3, 'ok'],
  ])('%s', (_, iova, length, prot, code) => {
    const { process, iopt } = withMemory();
    iopt.mapUser({ process, userVa: VA, length: 0x4000, prot: 3, iova: 0x10000 });
    iopt.mapUser({ process, userVa: VA, length: 0x1000, prot: 1, iova: 0x20000 });
    expect(codeOf(() => copy(iopt, iova, length, iopt, prot))).toBe(code);
    audit([iopt], [process]);
  });
});

describe('domains (facts 3.3)', () => {
  it.each<[string, (iopt: IoPagetable) => unknown, TestDomain, string]>([
    ['alone', () => 0, new TestDomain(), 'ok'],
    ['pages above 4096', () => 0, new TestDomain(14), 'EINVAL'],
    [
      'an area outside the aperture',
      (iopt) => iopt.mapUser(map(iopt, 0x1000)),
      new TestDomain(12, 2 ** 24),
      'EADDRINUSE',
    ],
    [
      'an area behind the aperture',
      (iopt) => iopt.mapUser(map(iopt, 2 ** 31)),
      new TestDomain(12, 0, 2 ** 31 - 1),
      'EADDRINUSE',
    ],
    [
      'a misaligned area',
      (iopt) => iopt.mapUser({ ...map(iopt, 0x1800), length: 0x800 }),
      new TestDomain(),
      'EADDRINUSE',
    ],
    [
      'an allowed range outside the aperture',
      (iopt) => {
        const list = new AllowedListBuilder(() => false);
        list.add(0, 0x1fff);
        iopt.setAllowed(list.build());
      },
      new TestDomain(12, 2 ** 24),
      'EADDRINUSE',
    ],
  ])('%s', (_, prepare, domain, code) => {
    const { iopt } = withMemory();
    prepare(iopt);
    expect(codeOf(() => addDomain(iopt, domain, 'HWPT 2'))).toBe(code);
    const expected = code === 'ok' ? [1, 4096] : [0, 1];
    expect([iopt.domains.length, iopt.iovaAlignment]).toEqual(expected);
    if (code !== 'ok') expect(iopt.reserved.all.length).toBe(0);
    if (code === 'ok') expect(codeOf(() => addDomain(iopt, domain, 'HWPT 2'))).toBe('EEXIST');
  });

  const map = (iopt: IoPagetable, iova: number) => {
    const process = createProcess({ memory: iopt.context.pool.memory });
    return { process, userVa: VA, length: PAGE, prot: 3, iova };
  };

  it('aperture and alignment come and go with the domain', () => {
    const { iopt } = setup();
    const domain = new TestDomain(11, 2 ** 24, 2 ** 31 - 1);
    addDomain(iopt, domain, 'HWPT 2');
    expect(iopt.iovaRanges()).toEqual([{ start: 2 ** 24, last: 2 ** 31 - 1 }]);
    expect(iopt.iovaAlignment).toBe(2048);
    removeDomain(iopt, domain);
    expect(iopt.iovaRanges()).toEqual([{ start: 0, last: U64_MAX }]);
    expect(iopt.iovaAlignment).toBe(1);
  });

  it('a page that faults in the third area leaves nothing pinned', () => {
    const { process, iopt } = withMemory();
    for (let i = 0; i < 4; i++) {
      iopt.mapUser({ process, userVa: VA + i * PAGE, length: PAGE, prot: 3 });
    }
    process.munmap(VA + 2 * PAGE, PAGE);
    const domain = new TestDomain();
    expect(codeOf(() => addDomain(iopt, domain, 'HWPT 2'))).toBe('EFAULT');
    expect(domain.table.size).toBe(0);
    audit([iopt], [process]);
  });

  it('memory of a process that is gone cannot be pinned, but stays pinned', () => {
    const { memory, context } = setup();
    const mapper = createProcess({ memory });
    mapper.mmap({ addr: VA, length: PAGE, prot: RW, flags: ANON });
    const [pinned, lazy] = [new IoPagetable(context), new IoPagetable(context)];
    const domain = new TestDomain();
    addDomain(pinned, domain, 'HWPT 2');
    for (const iopt of [pinned, lazy]) {
      iopt.mapUser({ process: mapper, userVa: VA, length: PAGE, prot: 3, iova: 0x1000 });
    }
    mapper.write(VA, Uint8Array.of(77));
    mapper.exit();
    const out = (domain.table.get(1)?.out as number) * PAGE;
    expect(memory.view(out, 1)?.[0]).toBe(77);
    expect(codeOf(() => addDomain(lazy, new TestDomain(), 'HWPT 3'))).toBe('EFAULT');
    expect(physicalRun(pinned, 0x1800)).toEqual({ hpa: out + 0x800, lengthBytes: 0x800 });
    expect(physicalRun(lazy, 0x1800)).toBeUndefined();
  });
});

describe('reserved and allowed (facts 3.3)', () => {
  it('device regions: all or none, relaxable ones left out', () => {
    const { process, iopt } = withMemory();
    const regions = [
      { start: 0x1000, last: 0x1fff, kind: 'direct' },
      { start: 0x8000, last: 0x8fff, kind: 'relaxable' },
      { start: 0x20000, last: 0x2ffff, kind: 'sw-msi' },
    ] as const;
    expect(reserveDeviceRegions(iopt, 'dev', 'nic0', regions)).toEqual({ start: 0x20000 });
    expect(iopt.reserved.all.map((r) => r.start)).toEqual([0x1000, 0x20000]);
    iopt.reserved.removeOwner('dev');
    iopt.mapUser({ process, userVa: VA, length: PAGE, prot: 3, iova: 0x20000 });
    expect(codeOf(() => reserveDeviceRegions(iopt, 'dev', 'nic0', regions))).toBe('EADDRINUSE');
    expect(iopt.reserved.all.length).toBe(0);
  });

  it.each([
    [['msi', 'sw-msi'], 'EINVAL'],
    [['sw-msi', 'sw-msi'], 'EINVAL'],
    [['msi', 'msi'], 'ok'],
  ] as const)('MSI windows %s: %s', (kinds, code) => {
    const { iopt } = setup();
    const regions = kinds.map((kind, i) => ({ start: i * 4096, last: i * 4096 + 4095, kind }));
    expect(codeOf(() => reserveDeviceRegions(iopt, 'dev', 'nic0', regions))).toBe(code);
  });

  it.each<[string, [number, number][], string]>([
    ['start = last', [[5, 5]], 'EINVAL'],
    [
      'overlap',
      [
        [0x5000, 0x6000],
        [0x6000, 0x7000],
      ],
      'EINVAL',
    ],
    [
      'touching',
      [
        [0x6000, 0x6fff],
        [0x5000, 0x5fff],
      ],
      'ok',
    ],
    ['over a reserved range', [[0x1000, 0x2000]], 'EADDRINUSE'],
    ['none', [], 'ok'],
  ])('allowed list: %s', (_, list, code) => {
    const { iopt, context } = setup();
    iopt.reserve({ start: 0x2000, last: 0x2fff, owner: 1, label: 'a window' });
    const old = iopt.allowed;
    const set = () => {
      const builder = new AllowedListBuilder(context.shouldFail);
      for (const [start, last] of list) builder.add(start, last);
      iopt.setAllowed(builder.build());
    };
    expect(codeOf(set)).toBe(code);
    if (code === 'ok') expect(iopt.allowed.all.length).toBe(list.length);
    else expect(iopt.allowed).toBe(old);
  });

  it('a new reservation may lie over others, not over mappings or allowed ranges', () => {
    const { process, iopt, context } = withMemory();
    const reserve = (start: number, last: number) => () =>
      iopt.reserve({ start, last, owner: 1, label: 'a window' });
    const builder = new AllowedListBuilder(context.shouldFail);
    builder.add(0x5000, 0x5fff);
    iopt.setAllowed(builder.build());
    iopt.mapUser({ process, userVa: VA, length: PAGE, prot: 3, iova: 0x9000 });
    expect(codeOf(reserve(0x1000, 0x2000))).toBe('ok');
    expect(codeOf(reserve(0x1800, 0x2800))).toBe('ok');
    expect(codeOf(reserve(0x4000, 0x5000))).toBe('EADDRINUSE');
    expect(codeOf(reserve(0x8000, 0x9000))).toBe('EADDRINUSE');
    expect(iopt.iovaRanges()).toEqual([
      { start: 0, last: 0xfff },
      { start: 0x2801, last: U64_MAX },
    ]);
  });
});

describe('large pages and cuts (facts 3.3, VFIO type1)', () => {
  it('switching off: with domains and areas EINVAL, with odd areas EADDRINUSE', () => {
    const { process, iopt } = withMemory();
    iopt.mapUser({ process, userVa: VA + 1, length: 1, prot: 3 });
    expect(codeOf(() => setLargePages(iopt, false))).toBe('EADDRINUSE');
    iopt.unmapAll();
    iopt.mapUser({ process, userVa: VA, length: PAGE, prot: 3 });
    setLargePages(iopt, false);
    expect(iopt.iovaAlignment).toBe(4096);
    setLargePages(iopt, true);
    expect(iopt.iovaAlignment).toBe(1);
    addDomain(iopt, new TestDomain(11), 'HWPT 2');
    expect(codeOf(() => setLargePages(iopt, false))).toBe('EINVAL');
    expect(codeOf(() => setLargePages(iopt, true))).toBe('ok');
  });

  it.each<[string, number, boolean, string, number]>([
    ['in the middle', 0x11fff, false, 'ok', 2],
    ['at the first byte', 0x10000, false, 'ok', 1],
    ['at the last byte', 0x13fff, false, 'ok', 1],
    ['outside', 0x14000, false, 'ok', 1],
    ['misaligned', 0x117ff, false, 'EINVAL', 1],
    ['large pages in a domain', 0x11fff, true, 'EINVAL', 1],
  ])('cut %s', (_, at, large, code, count) => {
    const { process, iopt } = withMemory();
    setLargePages(iopt, large);
    addDomain(iopt, new TestDomain(), 'HWPT 2');
    iopt.mapUser({ process, userVa: VA, length: 0x4000, prot: 3, iova: 0x10000 });
    expect(codeOf(() => cutAreas(iopt, [at]))).toBe(code);
    expect(areasOf(iopt).length).toBe(count);
    audit([iopt], [process]);
    if (count === 2) {
      iopt.unmap(0x12000, 0x2000);
      audit([iopt], [process]);
    }
    iopt.unmapAll();
    audit([iopt], [process]);
  });

  it('a cut inside a page shares that page between the halves', () => {
    const { process, iopt } = withMemory();
    iopt.mapUser({ process, userVa: VA + 0x800, length: 0x2000, prot: 3, iova: 0x10800 });
    cutAreas(iopt, [0x117ff]);
    expect(areasOf(iopt).map((a) => [a.first, a.offset])).toEqual([
      [0, 0x800],
      [1, 0x800],
    ]);
    audit([iopt], [process]);
  });
});

describe('accounting (facts 3.4)', () => {
  it.each([
    ['root', 0, ACCOUNT.USER, 'ok', [8, 0, 0]],
    ['user mode', 1000, ACCOUNT.USER, 'ENOMEM', [4, 0, 4]],
    ['process mode', 1000, ACCOUNT.MM, 'ENOMEM', [4, 4, 0]],
  ])('%s', (_, uid, accountMode, code, counts) => {
    const { process, iopt } = withMemory(64, RW, uid);
    process.rlimitMemlockBytes = 6 * PAGE;
    addDomain(iopt, new TestDomain(), 'HWPT 2');
    const map = { process, userVa: VA, length: 4 * PAGE, prot: 3, accountMode };
    iopt.mapUser(map);
    expect(codeOf(() => iopt.mapUser(map))).toBe(code);
    const { pinnedPages, lockedPages, user } = process;
    expect([pinnedPages, lockedPages, user.lockedPages]).toEqual(counts);
    audit([iopt], [process]);
  });

  it('nothing is charged before a domain exists; attaching over the limit is ENOMEM', () => {
    const { process, iopt } = withMemory(64, RW, 1000);
    process.rlimitMemlockBytes = 3 * PAGE;
    for (let i = 0; i < 4; i++) iopt.mapUser({ process, userVa: VA, length: PAGE, prot: 3 });
    expect(process.pinnedPages).toBe(0);
    expect(codeOf(() => addDomain(iopt, new TestDomain(), 'HWPT 2'))).toBe('ENOMEM');
    audit([iopt], [process]);
  });

  it.each([
    [ACCOUNT.USER, [0, 0, 0], [4, 0, 4], 0],
    [ACCOUNT.MM, [0, 0, 0], [4, 4, 0], 0],
    // Uncharged pins stay counted where they were and are taken off the new process (recorded).
    [ACCOUNT.NONE, [4, 0, 0], [0, 0, 0], 4],
  ])('changing the process moves charges (mode %s)', (mode, parentAfter, childAfter, left) => {
    const { memory, process, iopt } = setup(2 ** 24, mode === ACCOUNT.NONE ? 0 : 1000);
    addDomain(iopt, new TestDomain(), 'HWPT 2');
    const file = process.createFile({ size: 4 * PAGE });
    iopt.mapFile({ process, file, start: 0, length: 4 * PAGE, prot: 3, accountMode: mode });
    const child = createProcess({ memory }, { uid: 1001, rlimitMemlockBytes: 3 * PAGE });
    const counts = (p: typeof child) => [p.pinnedPages, p.lockedPages, p.user.lockedPages];
    const small = codeOf(() => changeProcess([iopt], child));
    expect(small).toBe(mode === ACCOUNT.NONE ? 'ok' : 'ENOMEM');
    child.rlimitMemlockBytes = 4 * PAGE;
    changeProcess([iopt], child);
    expect(counts(process)).toEqual(parentAfter);
    expect(counts(child)).toEqual(childAfter);
    iopt.unmapAll();
    expect([counts(process), counts(child)]).toEqual([
      [left, 0, 0],
      [0 - left, 0, 0],
    ]);
  });

  it('a limit reached half-way through moving charges moves none', () => {
    const { memory, process, iopt } = setup(2 ** 24, 1000);
    addDomain(iopt, new TestDomain(), 'HWPT 2');
    const file = process.createFile({ size: 8 * PAGE });
    const map = (pages: number, accountMode: 1 | 2) =>
      iopt.mapFile({ process, file, start: 0, length: pages * PAGE, prot: 3, accountMode });
    map(3, ACCOUNT.MM);
    map(5, ACCOUNT.USER);
    const child = createProcess({ memory }, { uid: 1001, rlimitMemlockBytes: 4 * PAGE });
    expect(codeOf(() => changeProcess([iopt], child))).toBe('ENOMEM');
    expect([child.pinnedPages, child.lockedPages, child.user.lockedPages]).toEqual([0, 0, 0]);
    audit([iopt], [process]);
  });

  it('user memory cannot change its process', () => {
    const { process, iopt } = withMemory();
    iopt.mapUser({ process, userVa: VA, length: PAGE, prot: 3 });
    expect(codeOf(() => changeProcess([iopt], process))).toBe('EINVAL');
  });
});

describe('a large guest', () => {
  it('4 GiB with a domain is a handful of runs', () => {
    const { process, iopt } = setup(2 ** 32);
    const runs: number[] = [];
    const domain = {
      granuleLg2: 12,
      apertureStartFrame: 0,
      apertureLastFrame: 2 ** 52 - 1,
      mapRuns: (_: number, pairs: Float64Array, count: number) => {
        for (let i = 0; i < count; i++) runs.push(pairs[2 * i + 1] as number);
        return 0;
      },
      unmap: (_: number, count: number) => count,
      sync: () => {},
    };
    addDomain(iopt, domain, 'HWPT 2');
    const va = process.mmap({ addr: 2 ** 40, length: 2 ** 32, prot: RW, flags: ANON });
    iopt.mapUser({ process, userVa: va, length: 2 ** 32, prot: 3 });
    expect(runs).toEqual([2 ** 20]);
    expect(process.pinnedPages).toBe(2 ** 20);
    iopt.unmapAll();
    expect(process.pinnedPages).toBe(0);
  });
});
