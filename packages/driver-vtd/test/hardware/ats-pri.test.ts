import { ACCESS, ATS_STATUS, createAtsCompletion, type PageRequest } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import { FAULT_CONDITIONS, faultCondition } from '../../src/spec/index.ts';
import { BenchUnit, REG, toPfn } from './bench-unit.ts';
import { FAULT_CASES } from './fault-cases.ts';
import {
  FS_ENTRY,
  firstStage,
  IOVA,
  LEGACY,
  legacy,
  NESTED_ENTRY,
  nestedTables,
  PASID,
  PT_ENTRY,
  pasidEntry,
  RID,
  SCALABLE,
  SS_ENTRY,
  scalable,
  secondStage,
  VA,
} from './tables.ts';

const RW = ACCESS.READ | ACCESS.WRITE;

function ask(bench: BenchUnit, address: bigint, pasid = -1, access: number = RW) {
  const completion = createAtsCompletion();
  bench.unit.translationRequest(RID, pasid, toPfn(address), access, completion);
  return completion;
}

describe('translation requests (VT-d 4.2.4)', () => {
  it.each([
    ['NW=0', RW, { status: 0, read: 0, write: 1, untranslatedOnly: 1 }],
    ['NW=1', ACCESS.READ, { status: 0, read: 0, write: 0, untranslatedOnly: 0 }],
  ])('FEEx_xxxxh without PASID, %s: answered without address tables', (_, access, answer) => {
    for (const [rtaddr, words] of [
      [SCALABLE, scalable()],
      [LEGACY, legacy(0x1_0005n)],
    ] as const) {
      const bench = new BenchUnit().poke(words).enable(rtaddr);
      expect(ask(bench, 0xfee0_0000n, -1, access)).toMatchObject(answer);
      expect(bench.unit.stats().faults).toBe(0);
    }
  });

  it.each([
    ['abort mode', 0x3c00n, {}, 0x33],
    ['no root entry', SCALABLE, {}, 0x39],
    ['DTE=0', SCALABLE, scalable(0x2_0e09n), 0x44],
    ['no legacy root entry', LEGACY, {}, 0x01],
    ['TT=0', LEGACY, legacy(0x1_0001n), 0x0d],
  ])('FEEx_xxxxh without PASID, %s: refused like any address', (_, rtaddr, words, reason) => {
    const [asked, other] = [0xfee0_0000n, 0x1000n].map((address) => {
      const bench = new BenchUnit().poke(words).enable(rtaddr);
      const { status, write, untranslatedOnly } = ask(bench, address);
      return { status, write, untranslatedOnly, record: bench.record() };
    });
    const lo = 0xfee0_0000n;
    expect(other?.record).toMatchObject({ lo: 0x1000n, reason });
    expect(asked).toEqual({ ...other, record: { ...other?.record, lo } });
    expect(asked).toMatchObject({ write: 0, untranslatedOnly: 0 });
  });

  it.each([
    ['1 GiB below HAW', 0x4000_1000n, 30, 0x40000],
    ['2 MiB beside the interrupt range', 0xfec0_1000n, 21, 0xfec00],
    ['4 KiB inside its 2 MiB', 0xfef0_0000n, 21, 0xfef00],
  ])('pass-through, %s', (_, address, sizeLg2, pfn) => {
    const bench = new BenchUnit()
      .poke({ ...scalable(), ...pasidEntry(0, PT_ENTRY) })
      .enable(SCALABLE);
    const size = address === 0xfef0_0000n ? 12 : sizeLg2;
    expect(ask(bench, address)).toMatchObject({ status: 0, read: 1, write: 1, sizeLg2: size, pfn });
  });

  it('nested: size is the smaller of both stages, permission the AND', () => {
    const bench = new BenchUnit();
    const entry = pasidEntry(PASID, NESTED_ENTRY, 9n, 0x3_0000n);
    bench.poke({ ...scalable(), ...entry, ...nestedTables(0x1_0000_0083n, 0x1_8000_0081n) });
    bench.enable(SCALABLE);
    expect(ask(bench, VA, PASID)).toMatchObject({
      status: 0,
      read: 1,
      write: 0,
      sizeLg2: 12,
      pfn: 0x180123,
    });
    expect(bench.memory.read64(0x1_0003_3b38)).toBe(0x4012_3027n);
  });

  it('PGSNP sets N', () => {
    const bench = new BenchUnit();
    const entry = pasidEntry(PASID, FS_ENTRY, 7n, 0x3_0000n, 0x180_0000n);
    bench.poke({ ...scalable(), ...entry, ...firstStage() }).enable(SCALABLE);
    expect(ask(bench, VA, PASID)).toMatchObject({ noSnoop: 1 });
  });

  it('without NWFS a read-only request sets the dirty bit too', () => {
    for (const [NWFS, leaf] of [
      [0, 0x5500_0067n],
      [1, 0x5500_0027n],
    ] as const) {
      const bench = new BenchUnit({ capabilities: { ecap: { NWFS } } });
      const entry = pasidEntry(PASID, FS_ENTRY, 7n, 0x3_0000n);
      bench.poke({ ...scalable(), ...entry, ...firstStage() }).enable(SCALABLE);
      ask(bench, VA, PASID, ACCESS.READ);
      expect(bench.memory.read64(0x3_3b38)).toBe(leaf);
    }
  });

  it('off: Unsupported Request without a record', () => {
    const bench = new BenchUnit();
    expect(ask(bench, IOVA).status).toBe(ATS_STATUS.UNSUPPORTED_REQUEST);
    expect(bench.unit.stats().faults).toBe(0);
  });

  const asked = FAULT_CASES.filter(
    ({ reason, name }) =>
      faultCondition(reason)?.translation !== '-' &&
      !name.startsWith('translation') &&
      reason !== 0x29,
  ).filter(({ reason }) => ![0x34, 0x5c].includes(reason));
  it.each(asked.map((test) => [test.condition, test.name, test] as const))(
    '%s %s: the answer of the table',
    (_, __, test) => {
      const bench = new BenchUnit(test.options);
      for (const [base, size] of test.readOnly ?? []) bench.memory.readOnly.push({ base, size });
      bench.poke(test.memory).enable(test.rtaddr);
      const pasid = /^(SFS|SGN.10)/.test(test.condition) ? PASID : -1;
      const completion = ask(bench, pasid < 0 ? IOVA : VA, pasid);
      const answer = faultCondition(test.reason)?.translation;
      const recorded = bench.record(0, bench.unit.features.frcdOffset);
      if (answer === 'ok0') {
        expect(completion).toMatchObject({ status: 0, read: 0, write: 0 });
        expect(recorded.hi >> 63n).toBe(test.reason === 0x91 ? 1n : 0n);
      } else {
        expect(completion.status).toBe(answer === 'CA' ? 1 : 2);
        expect([recorded.reason, recorded.hi >> 63n]).toEqual([test.reason, 1n]);
        if (bench.unit.features.deviceTlb) expect((recorded.hi >> 60n) & 3n).toBe(1n);
      }
    },
  );
});

describe('translated requests (VT-d 4.2.3)', () => {
  const translated = (bench: BenchUnit, pfn: number, pasid = -1) =>
    bench.unit.translatedPage(RID, pasid, pfn, ACCESS.READ);

  it('legacy: TT=01 passes an address below HAW, refuses beyond and the interrupt range', () => {
    const bench = new BenchUnit().poke(legacy(0x1_0005n)).enable(LEGACY);
    expect(translated(bench, 0x44000)).toBe(0x44000);
    expect(translated(bench, 0x4_0000_0000)).toBe(-4);
    expect(translated(bench, 0xfee00)).toBe(-0xe);
  });

  it.each([
    ['without EPTR', 0x2_0e1dn, PASID, -0x49],
    ['with EPTR', 0x2_0e5dn, PASID, 0x44000],
    ['equal to RID_PASID', 0x2_0e5dn, 0, -0x48],
    ['beyond PDTS', 0x2_005dn, 0x2000, -0x46],
    ['without DTE', 0x2_0e09n, -1, -0x44],
  ])('scalable, PASID %s', (_, context, pasid, result) => {
    const bench = new BenchUnit({ capabilities: { ecap: { PTRS: 1 } } });
    bench.poke(scalable(context)).enable(SCALABLE);
    expect(translated(bench, 0x44000, pasid)).toBe(result);
  });
});

const request = (changes: Partial<PageRequest> = {}): PageRequest => ({
  rid: RID,
  pasid: PASID,
  addressPfn: toPfn(VA),
  read: true,
  write: true,
  exec: false,
  priv: false,
  last: true,
  prgi: 0x15,
  ...changes,
});

/** A unit whose queue of 128 requests lies at 200000h. */
function withQueue(context = 0x2_0e1dn) {
  const bench = new BenchUnit();
  bench.poke({
    ...scalable(context),
    ...pasidEntry(0, SS_ENTRY),
    ...pasidEntry(PASID, FS_ENTRY, 7n, 0x3_0000n),
    ...firstStage(),
    ...secondStage(),
  });
  bench.unit.writeRegister64(REG.PQA, 0x20_0000n);
  return bench.setRoot(SCALABLE).enableQueue().enable(SCALABLE);
}
const tail = (bench: BenchUnit) => Number(bench.unit.readRegister64(REG.PQT));

describe('page requests (VT-d 7.4)', () => {
  it('are written to the queue, set PPR and send one message', () => {
    const bench = withQueue();
    bench.unit.writeReg32(REG.PECTL + 8, 0xfee0_3000);
    bench.unit.writeReg32(REG.PECTL, 0);
    bench.unit.pageRequest(request());
    bench.unit.pageRequest(request({ pasid: -1, addressPfn: 0x80006, write: false, prgi: 1 }));
    expect(tail(bench)).toBe(0x40);
    expect(bench.memory.read64(0x20_0000)).toBe(0x1_2345_0020_0101n);
    expect(bench.memory.read64(0x20_0008)).toBe(0x7f12_3456_70afn);
    expect(bench.memory.read64(0x20_0020)).toBe(0x20_0001n);
    expect(bench.memory.read64(0x20_0028)).toBe(0x8000_600dn);
    expect(bench.unit.readReg32(REG.PRS)).toBe(1);
    expect(bench.bus.messages).toEqual([[0xfee0_3000, 0]]);
    bench.unit.writeReg32(REG.PRS, 1);
    bench.unit.pageRequest(request());
    expect(bench.bus.messages).toHaveLength(2);
  });

  it('a full queue overflows: PRO, automatic success for the last of a group only', () => {
    const bench = withQueue();
    for (let i = 0; i < 127; i++) bench.unit.pageRequest(request({ last: false }));
    expect([tail(bench), bench.unit.readReg32(REG.PRS)]).toEqual([127 * 32, 1]);
    bench.unit.pageRequest(request({ last: false }));
    expect(bench.unit.readReg32(REG.PRS)).toBe(3);
    bench.unit.pageRequest(request({ prgi: 7 }));
    expect(bench.bus.responses).toEqual([{ rid: RID, pasid: PASID, prgi: 7, code: 0 }]);
    bench.unit.writeRegister64(REG.PQH, 64n);
    bench.unit.pageRequest(request({ last: false }));
    expect(tail(bench)).toBe(127 * 32);
    bench.unit.writeReg32(REG.PRS, 2);
    bench.unit.pageRequest(request());
    expect(tail(bench)).toBe(0);
    expect(bench.unit.stats()).toMatchObject({ pageRequestsOverflowed: 3 });
  });

  it.each([
    ['PRE=0', 0x2_0e0dn, {}, 0x47],
    ['PASIDE=0', 0x2_0e15n, {}, 0x45],
    ['PASID equal to RID_PASID', 0x2_0e1dn, { pasid: 0 }, 0x48],
    ['PASID entry missing', 0x2_0e1dn, { pasid: 0x12346 }, 0x59],
  ])('%s: invalid request and a record of type 01', (_, context, changes, reason) => {
    const bench = withQueue(context);
    bench.unit.pageRequest(request(changes));
    expect(bench.bus.responses.map(({ code }) => code)).toEqual([1]);
    const { hi } = bench.record();
    expect([bench.record().reason, (hi >> 62n) & 1n, (hi >> 28n) & 1n]).toEqual([reason, 0n, 1n]);
    bench.unit.pageRequest(request({ ...changes, last: false }));
    expect(bench.bus.responses).toHaveLength(1);
    expect(tail(bench)).toBe(0);
  });

  it.each([
    ['abort mode', 0xc00n, 0x33],
    ['reserved mode', 0x800n, 0x30],
    ['legacy mode', 0x1000n, 0x32],
  ])('%s: invalid request', (_, rtaddr, reason) => {
    const bench = new BenchUnit().enable(rtaddr);
    bench.unit.pageRequest(request());
    expect([bench.record().reason, bench.bus.responses[0]?.code]).toEqual([reason, 1]);
  });

  it('makes the unit forget the whole domain when nested', () => {
    const bench = new BenchUnit();
    const entry = pasidEntry(PASID, NESTED_ENTRY, 9n, 0x3_0000n);
    const sameDomain = pasidEntry(0, SS_ENTRY, 9n);
    bench.poke({ ...scalable(), ...entry, ...sameDomain, ...nestedTables() }).enable(SCALABLE);
    bench.unit.writeRegister64(REG.PQA, 0x20_0000n);
    expect(bench.read(RID, VA, PASID)).toBe(0x180123);
    expect(bench.read(RID, 0x4000_0000n)).toBe(0x180000);
    bench.poke({ 73728: 0x2_0000_0083n });
    bench.unit.pageRequest(request({ addressPfn: toPfn(VA) + 1 }));
    expect(bench.read(RID, VA, PASID)).toBe(0x200123);
    expect(bench.read(RID, 0x4000_0000n)).toBe(0x200000);
  });

  it('makes the unit forget the page (first stage, second stage), not its neighbour', () => {
    const bench = withQueue();
    expect(bench.read(RID, VA, PASID)).toBe(0x55000);
    expect(bench.read(RID, IOVA)).toBe(0x44000);
    bench.poke({ 211768: 0x5600_0067n, 77864: 0x4500_0003n });
    bench.unit.pageRequest(request({ addressPfn: toPfn(VA) + 1 }));
    expect(bench.read(RID, VA, PASID)).toBe(0x55000);
    bench.unit.pageRequest(request());
    expect(bench.read(RID, VA, PASID)).toBe(0x56000);
    bench.unit.pageRequest(request({ pasid: -1, addressPfn: toPfn(IOVA) }));
    expect(bench.read(RID, IOVA)).toBe(0x45000);
  });

  it('a stop marker is queued and forgets nothing when ECAP.SMS is set', () => {
    for (const SMS of [0, 1]) {
      const bench = new BenchUnit({ capabilities: { ecap: { SMS } } });
      const entry = pasidEntry(PASID, FS_ENTRY, 7n, 0x3_0000n);
      bench.poke({ ...scalable(), ...entry, ...firstStage() }).enable(SCALABLE);
      bench.unit.writeRegister64(REG.PQA, 0x20_0000n);
      bench.read(RID, VA, PASID);
      bench.poke({ 211768: 0x5600_0067n });
      bench.unit.pageRequest(request({ read: false, write: false }));
      expect(bench.memory.read64(0x20_0008) & 0xfffn).toBe(0xacn);
      expect(bench.read(RID, VA, PASID)).toBe(SMS === 1 ? 0x55000 : 0x56000);
    }
  });

  it.each([
    [0, [0], 2],
    [1, [], 0],
  ])(
    'a stop marker that overflows is answered only where ECAP.SMS=%i knows it not',
    (SMS, codes, status) => {
      const bench = new BenchUnit({ capabilities: { ecap: { SMS } } });
      bench.poke({ ...scalable(), ...pasidEntry(PASID, FS_ENTRY, 7n, 0x3_0000n), ...firstStage() });
      bench.enable(SCALABLE).unit.writeRegister64(REG.PQA, 0x20_0000n);
      bench.unit.writeRegister64(REG.PQH, 32n);
      bench.unit.pageRequest(request({ read: false, write: false }));
      expect(bench.bus.responses.map(({ code }) => code)).toEqual(codes);
      expect(bench.unit.readReg32(REG.PRS)).toBe(status);
    },
  );

  it('a queue where nothing answers refuses the request', () => {
    const bench = withQueue();
    bench.unit.writeRegister64(REG.PQA, 0x80_0000_0000n);
    bench.unit.pageRequest(request());
    expect(bench.bus.responses.map(({ code }) => code)).toEqual([1]);
    expect(tail(bench)).toBe(0);
  });

  it('translation off: dropped without a record', () => {
    const bench = new BenchUnit();
    bench.unit.pageRequest(request());
    expect([bench.bus.responses, bench.unit.stats().faults]).toEqual([[], 0]);
  });
});

it('every condition that a page request can meet has a row with IR', () => {
  expect(FAULT_CONDITIONS.filter(({ pageRequest }) => pageRequest === 'IR').length).toBe(21);
});
