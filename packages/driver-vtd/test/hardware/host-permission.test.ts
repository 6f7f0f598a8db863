/** Host permission tables: who may reach which page by translated requests. */
import { ACCESS } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import { formatExplanation } from '../../src/hardware/index.ts';
import { BenchUnit, REG, toPfn } from './bench-unit.ts';
import {
  behindTables,
  entryAt,
  entryWords,
  HPA,
  HPTDID,
  HPTE_CONTEXT,
  HPTE_EPTR_CONTEXT,
  PERMISSION_OPTIONS,
  permission,
  putEntry,
  ROOT,
  tableFields,
  translated,
  type Words,
} from './permission-tables.ts';
import { HOLE, PASID, RID, SCALABLE, scalable } from './tables.ts';

const { READ, WRITE, ATOMIC, ZERO_LENGTH } = ACCESS;
const GIB = 1n << 30n;
const MIB = 1n << 20n;

const unitWith = (memory: Words, options = PERMISSION_OPTIONS) =>
  new BenchUnit(options).poke(memory).setRoot(SCALABLE).enableQueue().enable(SCALABLE);
const behind = (memory: Words, context = HPTE_CONTEXT) =>
  unitWith({ ...behindTables(context), ...memory });
const frame = toPfn(HPA);
/** hpt_inv: granularity, HPTDID, address mask, levels. */
const hptInv = (g: bigint, did = HPTDID, am = 0n, levels = 3n, address = 0n) => [
  0xan | (g << 4n) | (did << 16n),
  am | (levels << 6n) | address,
];

describe('access rights (VT-d 4.2.4.1, tables 11 and 12)', () => {
  const rows: [string, number, bigint, number][] = [
    ['read', READ, 1n, frame],
    ['read', READ, 2n, -0xa5],
    ['read', READ, 3n, frame],
    ['read', READ, 0n, -0xa5],
    ['write', WRITE, 1n, -0xa4],
    ['write', WRITE, 2n, frame],
    ['write', WRITE, 0n, -0xa4],
    ['atomic', ATOMIC, 1n, -0xa4],
    ['atomic', ATOMIC, 2n, -0xa5],
    ['atomic', ATOMIC, 3n, frame],
    ['atomic', ATOMIC, 0n, -0xa4],
    ['zero-length read', READ | ZERO_LENGTH, 1n, frame],
    ['zero-length read', READ | ZERO_LENGTH, 2n, frame],
    ['zero-length read', READ | ZERO_LENGTH, 0n, -0xa3],
  ];
  describe.each([
    ['4 KiB', 1],
    ['2 MiB', 2],
    ['1 GiB', 3],
  ])('%s page', (_, level) => {
    it.each(rows)('%s with access %i and pair %s: %i', (_kind, access, pair, wanted) => {
      const tables = {
        ...permission(level, pair),
        ...putEntry(level, entryWords(level, pair, HPA, false)),
      };
      const bench = behind(tables);
      expect(translated(bench, access)).toBe(wanted);
      // Again from the cache.
      expect(translated(bench, access)).toBe(wanted);
      expect(bench.record().hi >> 63n).toBe(wanted < 0 ? 1n : 0n);
    });
  });

  it('without ZLR a zero-length read is a read', () => {
    const options = { capabilities: { cap: { ZLR: 0 }, ecap: { HPTS: 1 } } };
    const bench = unitWith({ ...behindTables(), ...permission(1, 2n) }, options);
    expect(translated(bench, READ | ZERO_LENGTH)).toBe(-0xa5);
  });

  it('each pair stands for its own page, at every level', () => {
    for (const [level, size, count] of [
      [1, 0x1000n, 32n],
      [2, 2n * MIB, 16n],
      [3, GIB, 8n],
    ] as const) {
      const base = HPA - (HPA % (size * count));
      for (let granted = 0n; granted < count; granted++) {
        const address = base + granted * size;
        const bench = behind({
          ...permission(level, 1n, address),
          ...putEntry(level, entryWords(level, 1n, address, false), address),
        });
        for (let other = 0n; other < count; other++) {
          const asked = base + other * size + (size - 0x1000n);
          const wanted = other === granted ? toPfn(asked) : -0xa5;
          expect([level, granted, other, translated(bench, READ, asked)]).toEqual([
            level,
            granted,
            other,
            wanted,
          ]);
        }
      }
    }
  });

  it('a pair decides before the tables below it', () => {
    const bench = behind({ ...permission(1, 3n), ...putEntry(3, entryWords(3, 1n)) });
    expect(translated(bench, READ)).toBe(frame);
    expect(translated(bench, WRITE)).toBe(-0xa4);
  });
});

describe('entries (VT-d 9.12)', () => {
  const reserved: [string, number, bigint][] = [
    ['level 4, bits 63:0', 4, 1n << 20n],
    ['level 4, bit 65', 4, 1n << 65n],
    ['level 4, address above the host width', 4, 1n << (64n + 46n)],
    ['level 3, bits 63:32', 3, 1n << 32n],
    ['level 3, bit 2 of another pair', 3, 1n << 2n],
    ['level 3, bit 75', 3, 1n << 75n],
    ['level 2, bit 3 of the last pair', 2, 1n << 63n],
    ['level 2, bit 70', 2, 1n << 70n],
    ['level 1, bit 126', 1, 1n << 126n],
  ];
  it.each(reserved)('%s is reserved: A1h, and the entry is not cached', (_, level, bit) => {
    const tables = permission(1, 3n);
    const damaged = entryWords(level, level === 1 ? 3n : 0n) | bit;
    const bench = behind({ ...tables, ...putEntry(level, damaged) });
    expect(translated(bench)).toBe(-0xa1);
    expect(bench.unit.caches.hostPermission.entries().every((e) => e.level > level)).toBe(true);
    bench.poke(tables);
    expect(translated(bench)).toBe(frame);
  });

  it('bits 127:116 are ignored, and the address where AV=0', () => {
    const high = 0xfffn << 116n;
    const bench = behind({
      ...permission(1, 3n),
      ...putEntry(4, entryWords(4, 0n) | high),
      ...putEntry(3, entryWords(3, 0n) | high),
      ...putEntry(2, (entryWords(2, 3n) | high) & ~(1n << 64n)),
    });
    expect(translated(bench)).toBe(frame);
  });

  it('AV=0 ends the walk, from the cache too', () => {
    const neighbour = HPA ^ 0x20_0000n;
    const bench = behind({
      ...permission(1, 1n, neighbour),
      ...putEntry(2, entryWords(2, 1n) & ~(1n << 64n)),
    });
    expect([translated(bench), translated(bench, READ, neighbour)]).toEqual([frame, -0xa5]);
  });

  it('pairs of level 3 are reserved without HPT1GPS', () => {
    const options = { capabilities: { ecap: { HPTS: 1 } } };
    const bench = unitWith({ ...behindTables(), ...permission(3, 3n) }, options);
    expect(translated(bench)).toBe(-0xa1);
  });

  it('HPTSZ: bits 51:49 of the address choose the page of the level 4 table', () => {
    const options = {
      capabilities: { cap: { MGAW: 51 }, ecap: { HPTS: 1 } },
      hostAddressWidthBits: 52,
    };
    for (let size = 0n; size < 4n; size++) {
      const top = (1n << (49n + size)) - 0x1000n;
      const bench = unitWith(
        { ...behindTables(), ...permission(1, 1n, top), ...tableFields(0, ROOT, size) },
        options,
      );
      expect([size, translated(bench, READ, top)]).toEqual([size, toPfn(top)]);
      if (size < 3n) expect(translated(bench, READ, top + 0x1000n)).toBe(-0x60);
    }
  });
});

describe('which requests are checked (VT-d 4.2.5)', () => {
  it('HPTE=0: none, whatever the PASID entry says; HPTE is reserved without HPTS', () => {
    const open = unitWith({ ...behindTables(0x2_0e1dn), ...tableFields(0, HOLE) });
    expect(translated(open, WRITE)).toBe(frame);
    const without = unitWith(behindTables(), { capabilities: {} });
    expect(translated(without)).toBe(-0x42);
  });

  it('the fields of the PASID entry are reserved without HPTS, each one', () => {
    for (const [offset, word] of [
      [32, 1n],
      [32, 4n],
      [32, 0x4_0000n],
      [40, 1n],
    ] as const) {
      const memory = { ...behindTables(0x2_0e1dn), ...tableFields(0, 0n, 0n, 0n) };
      const bench = unitWith({ ...memory, [0x7000 + offset]: word }, { capabilities: {} });
      expect([offset, word, bench.read(RID, 0x8000_5000n)]).toEqual([offset, word, -0x5a]);
      const with1 = unitWith({ ...memory, [0x7000 + offset]: word });
      expect(with1.read(RID, 0x8000_5000n)).toBe(0x44000);
    }
  });

  it.each<[string, bigint, bigint]>([
    ['HPTPTR above the host width', 1n << 46n, 3n],
    ['qw4 bit 3', 8n, 3n],
    ['HPTDID above the domain id width', ROOT, 0x100n],
    ['qw5 bit 16', ROOT, 0x1_0000n],
  ])('%s is reserved: 5Ah', (_, pointer, did) => {
    const capabilities = { cap: { ND: 2 }, ecap: { HPTS: 1 } };
    const bench = unitWith({ ...behindTables(), 28704: pointer, 28712: did }, { capabilities });
    expect(translated(bench)).toBe(-0x5a);
  });

  it('untranslated and translation requests are not', () => {
    const bench = behind(tableFields(0, HOLE));
    expect(bench.read(RID, 0x8000_5000n)).toBe(0x44000);
  });

  it('without PASID the table of RID_PASID, with PASID the one of that PASID (EPTR=1)', () => {
    const other = 0x5_0000n;
    const bench = behind(
      { ...permission(1, 1n), ...tableFields(PASID, other, 0n, 4n) },
      HPTE_EPTR_CONTEXT,
    );
    expect(translated(bench)).toBe(frame);
    expect(translated(bench, READ, HPA, PASID)).toBe(-0xa5);
  });

  it.each<[string, Words, number]>([
    ['directory entry not present', { 131072: 0n }, -0x51],
    ['PASID entry not present', { 28672: 0n }, -0x59],
    ['address above the host width, before the table', tableFields(0, HOLE), -0x83],
    ['address in the interrupt range, before the table', tableFields(0, HOLE), -0x87],
  ])('%s', (name, memory, reason) => {
    const bench = behind(memory);
    const address = name.includes('width') ? 1n << 46n : 0xfee0_1000n;
    expect(translated(bench, READ, reason < -0x80 ? address : HPA)).toBe(reason);
  });

  it('every fault is qualified: FPD of context or PASID entry silences it', () => {
    for (const [context, entry] of [
      [HPTE_CONTEXT | 2n, 0x1_0089n],
      [HPTE_CONTEXT, 0x1_008bn],
    ] as const) {
      const bench = behind({ ...scalable(context), 28672: entry });
      expect(translated(bench)).toBe(-0xa5);
      expect(bench.record().hi).toBe(0n);
    }
  });

  it('a record has AT=10, the requester and the address', () => {
    const bench = behind({});
    translated(bench, WRITE);
    expect(bench.record()).toMatchObject({ lo: HPA, hi: 0xa000_00a4_0000_0020n });
  });
});

describe('the HPT cache (VT-d 6.2.6, 6.5.2.7)', () => {
  const granted = () => {
    const bench = behind(permission(1, 1n));
    expect(translated(bench)).toBe(frame);
    return bench;
  };
  const levels = (bench: BenchUnit) =>
    bench.unit.caches.hostPermission.entries().map(({ level }) => level);

  it('keeps the entry of every level, and answers from it whatever happens to the tables', () => {
    const bench = granted();
    expect(levels(bench)).toEqual([4, 3, 2, 1]);
    bench.poke({ ...permission(1, 0n), ...putEntry(4, 0n) });
    expect(translated(bench)).toBe(frame);
    expect(translated(bench, READ, HPA + 0x1000n)).toBe(-0xa5);
  });

  it('more permission needs an invalidation too', () => {
    const bench = granted();
    bench.poke(permission(1, 3n));
    expect(translated(bench, WRITE)).toBe(-0xa4);
    bench.submit(hptInv(3n, HPTDID, 0n, 0n, HPA));
    expect(translated(bench, WRITE)).toBe(frame);
  });

  it.each<[string, bigint[], number[]]>([
    ['global, IH ignored', hptInv(1n, 9n, 0n, 0n), []],
    ['domain, all levels', hptInv(2n), []],
    ['domain, level 1', hptInv(2n, HPTDID, 0n, 0n), [4, 3, 2]],
    ['domain, levels 2 and 1', hptInv(2n, HPTDID, 0n, 1n), [4, 3]],
    ['domain, levels 3 to 1', hptInv(2n, HPTDID, 0n, 2n), [4]],
    ['another domain', hptInv(2n, 4n), [4, 3, 2, 1]],
    ['page, all levels', hptInv(3n, HPTDID, 0n, 3n, HPA), []],
    ['page, level 1', hptInv(3n, HPTDID, 0n, 0n, HPA), [4, 3, 2]],
    ['page of another domain', hptInv(3n, 4n, 0n, 3n, HPA), [4, 3, 2, 1]],
    ['another page of the same entry', hptInv(3n, HPTDID, 0n, 3n, HPA + 0x1000n), []],
    ['a page of another level 1 entry', hptInv(3n, HPTDID, 0n, 3n, HPA ^ 0x2_0000n), [1]],
    ['a page of another level 2 entry', hptInv(3n, HPTDID, 0n, 3n, HPA ^ 0x200_0000n), [2, 1]],
    [
      'the page after the level 1 entry',
      hptInv(3n, HPTDID, 0n, 0n, 0x0312_3458_0000n),
      [4, 3, 2, 1],
    ],
    ['256 pages, an address at their end', hptInv(3n, HPTDID, 8n, 3n, 0x0312_345f_f000n), []],
    ['32 pages around', hptInv(3n, HPTDID, 5n, 3n, HPA ^ 0x1_0000n), []],
    ['2^18 pages elsewhere', hptInv(3n, HPTDID, 18n, 2n, HPA ^ 0x2_0000_0000n), [4, 3, 2, 1]],
    [
      'address bits at and above the host width are ignored',
      hptInv(3n, HPTDID, 0n, 3n, HPA | (1n << 60n)),
      [],
    ],
    ['address mask 63: everything of the domain', hptInv(3n, HPTDID, 63n, 3n, 0n), []],
  ])('%s', (_, words, left) => {
    const bench = granted();
    bench.submit(words);
    expect(bench.unit.readReg32(REG.FSTS)).toBe(0);
    expect(levels(bench).sort().reverse()).toEqual(left);
    expect(bench.unit.stats().entriesInvalidated).toBe(4 - left.length);
  });

  it('bits of HPTDID above the domain id width are ignored', () => {
    const options = { capabilities: { cap: { ND: 2 }, ecap: { HPTS: 1 } } };
    const bench = unitWith({ ...behindTables(), ...permission(1, 1n) }, options);
    translated(bench);
    bench.submit(hptInv(2n, 0x503n));
    expect(levels(bench)).toEqual([]);
  });

  it('granularity 0 is refused; so is the whole descriptor in legacy mode', () => {
    const bench = granted();
    bench.submit(hptInv(0n));
    expect(bench.unit.readRegister64(REG.IQERCD) & 0xfn).toBe(4n);
    const legacy = new BenchUnit(PERMISSION_OPTIONS).setRoot(0x1000).enableQueue();
    legacy.submit(hptInv(1n));
    expect(legacy.unit.readRegister64(REG.IQERCD) & 0xfn).toBe(3n);
  });

  it('is looked up by requester and PASID', () => {
    const bench = behind(permission(1, 1n), HPTE_EPTR_CONTEXT);
    translated(bench);
    bench.poke(permission(1, 0n));
    expect(translated(bench)).toBe(frame);
    expect(translated(bench, READ, HPA, PASID)).toBe(-0xa5);
  });

  it('a cached PASID entry brings its own table', () => {
    const other = HPA ^ (1n << 41n);
    const bench = behind(
      {
        ...permission(1, 1n),
        ...permission(1, 1n, other),
        ...tableFields(PASID, 0x5_0000n, 0n, 4n),
      },
      HPTE_EPTR_CONTEXT,
    );
    expect([translated(bench), translated(bench, READ, HPA, PASID)]).toEqual([frame, -0xa5]);
    expect(translated(bench, READ, other)).toBe(toPfn(other));
  });

  it('a pointer of another domain leads nowhere', () => {
    const neighbour = HPA ^ 0x2_0000n;
    const bench = behind({ ...permission(1, 1n), ...permission(1, 1n, neighbour) });
    translated(bench);
    bench.poke({ ...tableFields(0, 0x5_0000n, 0n, 4n) });
    bench.submit([0x7_0017n]);
    expect(translated(bench, READ, neighbour)).toBe(-0xa5);
    // What decided before still does: the domain was not invalidated.
    expect(translated(bench)).toBe(frame);
    bench.submit(hptInv(2n));
    expect(translated(bench)).toBe(-0xa5);
  });

  it('entries that say nothing are not kept', () => {
    const bench = behind({ ...permission(1, 0n), ...putEntry(3, 0n) });
    translated(bench);
    expect(levels(bench)).toEqual([4]);
    bench.poke(permission(1, 1n));
    expect(translated(bench)).toBe(frame);
  });

  it('IOTLB, PASID and context commands leave it; SRTP with ESRTPS and TE=0 empty it', () => {
    const bench = granted();
    bench.submit([0x11n], [0x37n], [0x12n]);
    expect(levels(bench)).toHaveLength(4);
    bench.setRoot(SCALABLE);
    expect(levels(bench)).toEqual([]);
    translated(bench);
    bench.unit.writeReg32(REG.GCMD, 0x0400_0000);
    expect(levels(bench)).toEqual([]);
  });

  it('holds 4096 entries; the oldest goes', () => {
    const bench = behind({});
    const { hostPermission: cache } = bench.unit.caches;
    for (let tag = 0; tag < 5000; tag++)
      cache.insert({ source: tag % 7, level: 1, tag, did: 1, words: [1, 0, 0, 0] });
    expect([cache.live, cache.entries()[0]?.tag]).toEqual([4096, 904]);
    expect(cache.invalidateAll()).toBe(4096);
  });

  it('snapshot, restore and reset carry it', () => {
    const bench = granted();
    const state = bench.unit.snapshot();
    bench.poke(permission(1, 0n));
    bench.unit.reset();
    expect(levels(bench)).toEqual([]);
    bench.unit.restore(state);
    expect(translated(bench)).toBe(frame);
    expect(bench.unit.snapshot().caches).toEqual(state.caches);
  });
});

describe('explain', () => {
  it('shows the entry of each level and the pair, and changes nothing', () => {
    const bench = behind(permission(1, 1n));
    const ask = (access: number) =>
      bench.unit.explain({ rid: RID, iova: HPA, kind: 'translated', access });
    const trace = ask(WRITE);
    expect(trace).toMatchObject({ reason: 0xa4, reasonName: 'HPT_WRITE', recorded: true });
    const read = trace.steps.flatMap((step) =>
      step.kind === 'read' && step.structure.startsWith('HPTL')
        ? [[step.structure, step.address]]
        : [],
    );
    expect(read).toEqual([4, 3, 2, 1].map((level) => [`HPTL${level}E`, entryAt(level)]));
    expect(formatExplanation(trace)).toContain('PP7 [29:28] = 0x1');
    expect(bench.unit.caches.hostPermission.live).toBe(0);
    translated(bench);
    const hits = ask(READ).steps.filter(
      (step) => step.kind === 'cache' && step.name === 'HPT cache',
    );
    expect(hits).toEqual([
      { kind: 'cache', name: 'HPT cache', hit: true, detail: 'level 1 of domain 3' },
    ]);
  });
});

describe('sanitizer', () => {
  const watched = () => {
    const bench = unitWith(
      { ...behindTables(), ...permission(1, 1n) },
      { ...PERMISSION_OPTIONS, sanitize: true },
    );
    translated(bench);
    return bench;
  };
  const findings = (bench: BenchUnit) => bench.unit.sanitizer?.findings ?? [];

  it('names a permission that was taken away without hpt_inv', () => {
    const bench = watched().poke(permission(1, 0n));
    expect(translated(bench)).toBe(frame);
    expect(findings(bench)).toMatchObject([
      {
        kind: 'stale-permission',
        verdict: 'missing',
        found: 'use',
        rid: RID,
        pasid: -1,
        did: 3,
        level: 1,
        iovaPfn: frame - (frame % 32),
        change: { structure: 'HPTL1E', address: entryAt(1) },
        due: ['hpt_inv page 0x31234560000 of domain 3, levels 1 to 1'],
      },
    ]);
    bench.submit(hptInv(3n, HPTDID, 0n, 0n, HPA));
    expect(findings(bench)[0]?.verdict).toBe('late');
    expect(bench.unit.sanitizer?.audit()).toEqual([]);
  });

  it('is silent after the right command, and counts one that removes nothing stale', () => {
    const bench = watched().poke(permission(1, 3n));
    bench.submit(hptInv(3n, HPTDID, 0n, 0n, HPA));
    expect(translated(bench, WRITE)).toBe(frame);
    expect([findings(bench), bench.unit.sanitizer?.superfluous]).toEqual([[], 0]);
    bench.submit(hptInv(2n));
    expect(bench.unit.sanitizer?.superfluous).toBe(1);
  });

  it.each<[string, Words, bigint[], string]>([
    ['HPTE taken away', { 17408: 0x2_0e1dn }, [0x20_0000_0031n], 'hpt_inv domain 3, all levels'],
    [
      'another domain id',
      tableFields(0, ROOT, 0n, 5n),
      [0x7_0017n],
      'hpt_inv domain 3, all levels',
    ],
    ['another table', tableFields(0, 0x5_0000n), [0x7_0017n], 'hpt_inv domain 3, all levels'],
    [
      'another level 3 table',
      putEntry(4, 0x5_0001n << 64n),
      hptInv(2n, HPTDID, 0n, 2n),
      'hpt_inv page 0x20000000000 of domain 3, levels 1 to 4',
    ],
  ])('%s: the audit asks for the domain', (_, change, command, due) => {
    const bench = watched().poke(change).submit(command);
    const found = bench.unit.sanitizer?.audit() ?? [];
    expect(found.some((f) => f.kind === 'stale-permission' && f.due.includes(due))).toBe(true);
  });
});
