import { createAtsCompletion } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import { SmmuHardware } from '../../src/hardware/iommu.ts';
import type { SparseMemory } from '../sparse-memory.ts';
import {
  AF,
  BIT7,
  CD_AT,
  createTableRig,
  DBM,
  LEAF,
  READ,
  S1_PAGE,
  S1_ROOT,
  S2_ROOT,
  SID,
  type TableRig,
  WRITE,
} from './table-rig.ts';

const VA = 0x1234_5000n;
const PA = 0x9_8000n;
const HTTU3 = { capabilities: { idr0: { HTTU: 3 } } } as const;
const OK = '0x98000';
/** Stage-1 leaves: writable, read-only, writable-clean. */
const RW = S1_PAGE;
const RO = S1_PAGE | BIT7;
const CLEAN = RO | DBM;

const stage1 = (leaf: bigint, cd: object, options = {}) => {
  const t = createTableRig(options);
  t.stream();
  t.context(cd);
  const at = t.map(S1_ROOT, VA, PA, leaf);
  return { ...t, at, leafNow: () => t.memory.load(at) & ~(0xffff_ffff_f000n | 3n) };
};

const stage2 = (leaf: bigint, ste: object) => {
  const t = createTableRig();
  t.stream({ CONFIG: 6, ...t.stage2(ste) });
  const at = t.map(S2_ROOT, VA, PA, leaf);
  return { ...t, at, leafNow: () => t.memory.load(at) & ~(0xffff_ffff_f000n | 3n) };
};

describe('SMMUv3 3.13: access flag and dirty state of stage 1', () => {
  test.each([
    ['AF 0', RW & ~AF, {}, READ, 'F_ACCESS', RW & ~AF],
    ['AF 0, AFFD', RW & ~AF, { AFFD: 1 }, READ, OK, RW & ~AF],
    ['AF 0, HA', RW & ~AF, { HA: 1 }, READ, OK, RW],
    ['AF 0, HA and AFFD', RW & ~AF, { HA: 1, AFFD: 1 }, READ, OK, RW],
    ['AF 0, HA, denied', RO & ~AF, { HA: 1 }, WRITE, 'F_PERMISSION', RO & ~AF],
    ['clean, written, no HD', CLEAN, { HA: 1 }, WRITE, 'F_PERMISSION', CLEAN],
    ['clean, written, HD', CLEAN, { HA: 1, HD: 1 }, WRITE, OK, RW | DBM],
    ['clean, read, HD', CLEAN, { HA: 1, HD: 1 }, READ, OK, CLEAN],
    ['clean, AF 0, written, HD', CLEAN & ~AF, { HA: 1, HD: 1 }, WRITE, OK, RW | DBM],
    ['read-only, no DBM, HD', RO, { HA: 1, HD: 1 }, WRITE, 'F_PERMISSION', RO],
    ['dirty already', RW | DBM, { HA: 1, HD: 1 }, WRITE, OK, RW | DBM],
    ['HD without HA is off', CLEAN, { HD: 1 }, WRITE, 'F_PERMISSION', CLEAN],
  ])('%s', (_, leaf, cd, access, result, after) => {
    const t = stage1(leaf, cd);
    expect([t.ask(VA, access), t.leafNow()]).toEqual([result, after]);
  });

  test('a table that forbids writes (APTable) is not made writable', () => {
    const t = createTableRig();
    t.stream();
    t.context({ HA: 1, HD: 1 });
    t.map(S1_ROOT, VA, PA, CLEAN, { tableBits: 1n << 62n });
    expect(t.ask(VA, WRITE)).toBe('F_PERMISSION');
  });

  test('big-endian descriptors are updated in their order', () => {
    const t = stage1(
      CLEAN & ~AF,
      { HA: 1, HD: 1, ENDI: 1 },
      { capabilities: { idr0: { TTENDIAN: 0 } } },
    );
    const swap = (value: bigint) =>
      BigInt(`0x${value.toString(16).padStart(16, '0').match(/../g)?.reverse().join('')}`);
    for (let at = S1_ROOT; at < 0x500_0000; at += 8) {
      if (at === S1_ROOT + 0x1000) at = 0x400_0000;
      const value = t.memory.load(at);
      if (value !== 0n) t.memory.store(at, swap(value));
    }
    expect(t.ask(VA, WRITE)).toBe(OK);
    expect(swap(t.memory.load(t.at))).toBe(PA | RW | DBM | 3n);
  });
});

describe('SMMUv3 3.13: access flag and dirty state of stage 2', () => {
  const WRITABLE = LEAF;
  const READABLE = LEAF & ~BIT7;
  const CLEAN2 = READABLE | DBM;
  test.each([
    ['AF 0', WRITABLE & ~AF, {}, READ, 'F_ACCESS S2 IN', WRITABLE & ~AF],
    ['AF 0, S2AFFD', WRITABLE & ~AF, { S2AFFD: 1 }, READ, OK, WRITABLE & ~AF],
    ['AF 0, S2HA', WRITABLE & ~AF, { S2HA: 1 }, READ, OK, WRITABLE],
    ['clean, written, no S2HD', CLEAN2, { S2HA: 1 }, WRITE, 'F_PERMISSION S2 IN', CLEAN2],
    ['clean, written, S2HD', CLEAN2, { S2HA: 1, S2HD: 1 }, WRITE, OK, WRITABLE | DBM],
    ['clean, read, S2HD', CLEAN2, { S2HA: 1, S2HD: 1 }, READ, OK, CLEAN2],
    ['no DBM, S2HD', READABLE, { S2HA: 1, S2HD: 1 }, WRITE, 'F_PERMISSION S2 IN', READABLE],
  ])('%s', (_, leaf, ste, access, result, after) => {
    const t = stage2(leaf, ste);
    expect([t.ask(VA, access), t.leafNow()]).toEqual([result, after]);
  });
});

describe('SMMUv3 3.13.4: cached translations and the dirty state', () => {
  test('an entry that a read filled does not let the first write pass; the next ones it does', () => {
    const t = stage1(CLEAN, { HA: 1, HD: 1 });
    expect([t.ask(VA), t.leafNow()]).toEqual([OK, CLEAN]);
    expect([t.ask(VA, WRITE), t.leafNow()]).toEqual([OK, RW | DBM]);
    t.memory.store(t.at, PA | CLEAN | 3n);
    expect([t.ask(VA, WRITE), t.leafNow()]).toEqual([OK, CLEAN]);
    t.forget();
    expect([t.ask(VA, WRITE), t.leafNow()]).toEqual([OK, RW | DBM]);
  });

  test('nor an entry of stage 2, nor of both stages where either is clean', () => {
    const alone = stage2((LEAF & ~BIT7) | DBM, { S2HA: 1, S2HD: 1 });
    alone.ask(VA);
    expect([alone.ask(VA, WRITE), alone.leafNow()]).toEqual([OK, LEAF | DBM]);
    const t = nested({ s2: { S2HA: 1, S2HD: 1 }, leaf2: (LEAF & ~BIT7) | DBM });
    t.ask(VA);
    t.ask(VA, WRITE);
    expect(t.memory.load(t.dataLeaf) & BIT7).toBe(BIT7);
  });

  test('a translation request that is granted writes makes the page dirty; one with NW does not', () => {
    const t = stage1(CLEAN, { HA: 1, HD: 1 });
    t.stream({ EATS: 1 });
    const completion = createAtsCompletion();
    t.unit.translationRequest(SID, -1, Number(VA >> 12n), READ, completion);
    expect([completion.read, completion.write, t.leafNow()]).toEqual([1, 0, CLEAN]);
    t.unit.translationRequest(SID, -1, Number(VA >> 12n), READ | WRITE, completion);
    expect([completion.read, completion.write, t.leafNow()]).toEqual([1, 1, RW | DBM]);
  });

  test('the same of a stream with stage 2 alone', () => {
    const clean = (LEAF & ~BIT7) | DBM;
    const t = stage2(clean, { EATS: 1, S2HA: 1, S2HD: 1 });
    const completion = createAtsCompletion();
    t.unit.translationRequest(SID, -1, Number(VA >> 12n), READ, completion);
    expect([completion.read, completion.write, t.leafNow()]).toEqual([1, 0, clean]);
    t.unit.translationRequest(SID, -1, Number(VA >> 12n), READ | WRITE, completion);
    expect([completion.read, completion.write, t.leafNow()]).toEqual([1, 1, LEAF | DBM]);
  });
});

/** Stage 1 at VA to IPA 0x98000; stage 2 identity but for the pages named. */
const nested = ({
  cd = {},
  s2 = {},
  leaf1 = RW,
  leaf2 = LEAF,
  tables = LEAF,
  descriptor = LEAF,
  options = {},
} = {}) => {
  const t = createTableRig(options);
  t.stream({ CONFIG: 7, ...t.stage2(s2) });
  t.context(cd);
  const at = t.map(S1_ROOT, VA, PA, leaf1);
  const identity = (page: bigint, bits: bigint) => t.map(S2_ROOT, page, page, bits);
  const dataLeaf = identity(PA, leaf2);
  const cdLeaf = identity(BigInt(CD_AT), descriptor);
  const tableLeaf = identity(BigInt(at) & ~0xfffn, tables);
  for (const page of [BigInt(S1_ROOT), 0x400_0000n]) identity(page, LEAF);
  return { ...t, at, dataLeaf, cdLeaf, tableLeaf };
};

describe('SMMUv3 3.13.5: updates of stage 1 pass stage 2', () => {
  test('which must let the table be written: F_PERMISSION, CLASS TT, TTRnW 0', () => {
    const t = nested({ cd: { HA: 1 }, leaf1: RW & ~AF, tables: LEAF & ~BIT7 });
    t.unit.translatePage(SID, -1, Number(VA >> 12n), READ, 0);
    const [words] = t.events();
    expect(words).toEqual([0x1000000013n, 0x18800000000n, VA, BigInt(t.at) & ~0xfffn]);
    expect(t.memory.load(t.at) & AF).toBe(0n);
  });

  test('and makes it dirty there', () => {
    const tables = (LEAF & ~BIT7 & ~AF) | DBM;
    const t = nested({ cd: { HA: 1 }, s2: { S2HA: 1, S2HD: 1 }, leaf1: RW & ~AF, tables });
    expect(t.ask(VA)).toBe(OK);
    expect([t.memory.load(t.at) & AF, t.memory.load(t.tableLeaf) & (AF | BIT7)]).toEqual([
      AF,
      AF | BIT7,
    ]);
  });

  test('a walk without update, and the fetch of a CD, set AF but make nothing dirty', () => {
    const clean = (LEAF & ~BIT7 & ~AF) | DBM;
    const t = nested({ s2: { S2HA: 1, S2HD: 1 }, tables: clean, descriptor: clean });
    expect(t.ask(VA)).toBe(OK);
    const mask = AF | BIT7;
    expect([t.memory.load(t.tableLeaf) & mask, t.memory.load(t.cdLeaf) & mask]).toEqual([AF, AF]);
  });

  test('S2AP without read stops the fetch: TTRnW 1', () => {
    const t = nested({ tables: LEAF & ~(1n << 6n) });
    t.unit.translatePage(SID, -1, Number(VA >> 12n), WRITE, 0);
    expect(t.events()[0]?.[1]).toBe(0x118000000000n);
  });
});

describe('SMMUv3 3.13.3: access flag of table descriptors (HTTU 3)', () => {
  const tableOf = (t: TableRig, root: number) => t.memory.load(root + Number(VA >> 30n) * 8) & AF;
  test.each([
    ['HAFT', HTTU3, { HA: 1, HAFT: 1 }, AF],
    ['no HAFT', HTTU3, { HA: 1 }, 0n],
    ['HTTU 2, where HAFT is reserved', {}, { HA: 1, HAFT: 1 }, 0n],
  ])('stage 1, %s', (_, options, cd, flag) => {
    const t = stage1(RW, cd, options);
    expect([t.ask(VA), tableOf(t, S1_ROOT)]).toEqual([OK, flag]);
  });

  test('stage 2, S2HAFT', () => {
    const t = createTableRig(HTTU3);
    t.stream({ CONFIG: 6, ...t.stage2({ S2HA: 1, S2HAFT: 1 }) });
    t.map(S2_ROOT, VA, PA, LEAF);
    expect([t.ask(VA), tableOf(t, S2_ROOT)]).toEqual([OK, AF]);
  });

  test.each([
    ['S1', { CONFIG: 5 }, { HAFT: 1 }, 'C_BAD_CD'],
    ['S2', { CONFIG: 6, S2HAFT: 1 }, {}, 'C_BAD_STE'],
  ])('%s: without HA it is illegal', (_, ste, cd, event) => {
    const t = createTableRig(HTTU3);
    t.stream({ ...t.stage2(), ...ste });
    t.context(cd);
    expect(t.ask(VA)).toBe(event);
  });

  test.each([
    ['HA', 0, { HA: 1 }, {}],
    ['HD', 1, { HA: 1, HD: 1 }, {}],
    ['S2HA', 0, {}, { S2HA: 1 }],
    ['S2HD', 1, {}, { S2HA: 1, S2HD: 1 }],
  ])('%s with HTTU %i is illegal', (_, HTTU, cd, s2) => {
    const t = createTableRig({ capabilities: { idr0: { HTTU } } });
    const uses2 = Object.keys(s2).length > 0;
    t.stream({ CONFIG: uses2 ? 6 : 5, ...t.stage2(s2) });
    t.context(cd);
    expect(t.ask(VA)).toBe(uses2 ? 'C_BAD_STE' : 'C_BAD_CD');
  });
});

describe('SMMUv3 3.13: updates are compare-and-swap', () => {
  /** Nested tables whose stage-1 leaf somebody changes while stage 2 is walked for the update. */
  const contested = (change: (memory: SparseMemory, at: number, times: number) => void) => {
    const t = nested({ cd: { HA: 1 }, leaf1: RW & ~AF });
    let reads = 0;
    const unit = new SmmuHardware({
      memory: {
        regionAt: (pa) => {
          const region = t.memory.regionAt(pa);
          // The leaf is read once by the walk and once more for the update.
          if (pa === t.at && ++reads % 2 === 0) change(t.memory, t.at, reads / 2);
          return region;
        },
      },
      bus: { raiseMessage: () => undefined },
    });
    unit.writeReg64(0x80, 0x10_0000, 0);
    unit.writeReg32(0x88, 8);
    unit.writeReg64(0xa0, 0xff_0003, 0);
    unit.writeReg32(0x20, 5);
    const frame = unit.translatePage(SID, -1, Number(VA >> 12n), READ, 0);
    return { t, frame, reads: () => reads };
  };

  test('a descriptor that changed meanwhile is walked again: the new one counts', () => {
    const { t, frame } = contested((memory, at, times) => {
      if (times === 1) memory.store(at, (PA & ~0xfffn) | (RW & ~AF) | (1n << 55n) | 3n);
    });
    expect(frame).toBe(Number(PA >> 12n));
    expect(t.memory.load(t.at)).toBe(PA | RW | (1n << 55n) | 3n);
  });

  test('one that became invalid is not touched', () => {
    const { t, frame } = contested((memory, at) => memory.store(at, 0n));
    expect([frame, t.memory.load(t.at)]).toEqual([-1, 0n]);
  });

  test('one that changes every time ends as an external abort, after a bounded number of walks', () => {
    const { t, frame, reads } = contested((memory, at, times) =>
      memory.store(at, PA | (RW & ~AF) | (BigInt(times % 8) << 55n) | 3n),
    );
    expect(frame).toBe(-1);
    expect(Number(t.memory.load(0xff_0000) & 0xffn)).toBe(0x0b);
    expect(reads()).toBeLessThan(1000);
  });
});
