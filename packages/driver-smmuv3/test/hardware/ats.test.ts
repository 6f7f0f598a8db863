import { encode } from '@iommukit/bits';
import { ACCESS, ATS_STATUS, type AtsCompletion, createAtsCompletion } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import { CFGI, COMMAND, TLBI } from '../../src/spec/index.ts';
import { loadVectors } from '../vector-data.ts';
import { ALL_ON, createRig, type Rig, type RigOptions } from './rig.ts';

interface AtsVector {
  readonly name: string;
  readonly request: {
    readonly sid: string;
    readonly va: string;
    readonly ssid: string | null;
    readonly nw: number;
  };
  readonly regs: Readonly<Record<'SMMUEN' | 'ATSCHK' | 'REC_CFG_ATS', number>>;
  readonly memory: Readonly<Record<string, string>>;
  readonly completion: 'Success' | 'UR' | 'CA';
  readonly R: number | null;
  readonly W: number | null;
  readonly address: string | null;
  readonly size: string | null;
  readonly event: readonly string[] | null;
}

const VECTORS = loadVectors<{ ats: readonly AtsVector[] }>().ats;
const CA = ATS_STATUS.COMPLETER_ABORT;
const UR = ATS_STATUS.UNSUPPORTED_REQUEST;
const OK = ATS_STATUS.SUCCESS;
const STATUS = { Success: OK, CA, UR } as const;
const SID = 0x17;
const { READ, WRITE, EXEC, PRIV } = ACCESS;

const ask = (rig: Rig, va: bigint, access: number = READ | WRITE, pasid = -1): AtsCompletion => {
  const completion = createAtsCompletion();
  rig.unit.translationRequest(SID, pasid, Number(va >> 12n), access, completion);
  return completion;
};

describe('SMMUv3 3.9.1.2: worked translation requests', () => {
  test.each(VECTORS)('$name', (vector) => checkVector(vector));
});

const checkVector = (vector: AtsVector): void => {
  const { request, regs } = vector;
  const off = (regs.SMMUEN === 1 ? 0 : 1) | (regs.ATSCHK === 1 ? 0 : 16);
  const rig = createRig({ cr0: ALL_ON & ~off, cr2: regs.REC_CFG_ATS << 3 });
  rig.store(vector.memory);
  const completion = createAtsCompletion();
  const pfn = Number(BigInt(request.va) >> 12n);
  const access = request.nw === 1 ? READ : READ | WRITE;
  const ssid = request.ssid === null ? -1 : Number(request.ssid);
  rig.unit.translationRequest(Number(request.sid), ssid, pfn, access, completion);
  expect(completion.status).toBe(STATUS[vector.completion]);
  expect(rig.events()).toEqual(vector.event === null ? [] : [vector.event.map(BigInt)]);
  expect([completion.read, completion.write]).toEqual([vector.R ?? 0, vector.W ?? 0]);
  const dirty =
    vector.name === 'DBM page, write wanted' ? { '0x100033008': '0x8000000009f43' } : {};
  for (const [pa, value] of Object.entries({ ...vector.memory, ...dirty }))
    expect(rig.memory.load(Number(pa))).toBe(BigInt(value));
  if (vector.address === null) return;
  expect(completion.pfn * 4096).toBe(Number(vector.address));
  expect(2 ** completion.sizeLg2).toBe(Number(vector.size));
};

/** The nested image of the worked examples. */
const NESTED = {
  '0x1005c0': '0x6000f',
  '0x1005c8': '0x10080000',
  '0x1005d0': '0x44d355900000007',
  '0x1005d8': '0x200000000',
  '0x1000307f0': '0x31003',
  '0x100031000': '0x32003',
  '0x100032000': '0x33003',
  '0x100033008': '0x9f43',
  '0x100060000': '0x1e205c0003510',
  '0x100060008': '0x30000',
  '0x200000000': '0x1000007fd',
} as const;
const VA = 0x7f00_0000_1000n;
/** STE word 1 with EATS. */
const eats = (value: number, others = 0x8_0000) => BigInt(value) * 2n ** 28n + BigInt(others);
/** STE word 0 of a linear table of 16 CDs at IPA 0x60000. */
const SIXTEEN_CDS = 0x2000_0000_0006_000fn;
const CD_5 = { '0x100060140': '0x1e205c0003510', '0x100060148': '0x30000' };

const nested = (changes: Readonly<Record<string, string | bigint>> = {}, options?: RigOptions) => {
  const rig = createRig(options);
  rig.store({ ...NESTED, ...changes });
  return rig;
};

describe('SMMUv3 3.9.1.2: configuration errors are CA, recorded with CR2.REC_CFG_ATS only', () => {
  const cases: readonly (readonly [string, Record<string, string | bigint>, number, number])[] = [
    ['C_BAD_STE', { '0x1005c0': '0x0' }, -1, 0x04],
    ['C_BAD_SUBSTREAMID', {}, 3, 0x08],
    ['F_STREAM_DISABLED', { '0x1005c0': SIXTEEN_CDS }, -1, 0x06],
    ['C_BAD_CD', { '0x100060000': '0x0' }, -1, 0x0a],
    ['F_CD_FETCH', { '0x200000000': '0x4000007fd' }, -1, 0x09],
    ['F_WALK_EABT', { '0x1005d8': '0x400000000' }, -1, 0x0b],
  ];
  const holes = [0x4_0000_0000, 0x4_0006_0000];
  test.each(cases)('%s', (_, changes, pasid, code) => {
    const quiet = nested(changes, { cr2: 2, holes });
    expect(ask(quiet, VA, READ, pasid).status).toBe(CA);
    expect(quiet.events()).toEqual([]);
    const recording = nested(changes, { cr2: 8 | 2, holes });
    expect(ask(recording, VA, READ, pasid).status).toBe(CA);
    expect(recording.events().map(([w0]) => Number((w0 as bigint) & 0xffn))).toEqual([code]);
  });

  test('F_STE_FETCH and C_BAD_STREAMID, the latter with RECINVSID too', () => {
    const holes = [0x10_0000];
    const codes = (cr2: number, sid: number) => {
      const rig = nested({}, { cr2, holes });
      const completion = createAtsCompletion();
      rig.unit.translationRequest(sid, -1, 1, READ, completion);
      expect(completion.status).toBe(CA);
      return rig.events().map(([w0]) => Number((w0 as bigint) & 0xffn));
    };
    expect([codes(8, SID), codes(0, SID)]).toEqual([[0x03], []]);
    expect([codes(8, 0x100), codes(8 | 2, 0x100), codes(2, 0x100)]).toEqual([[], [0x02], []]);
  });

  test('REC_CFG_ATS needs IDR0.ATSRECERR', () => {
    const rig = createRig({ cr2: 8, capabilities: { idr0: { ATSRECERR: 0 } } });
    expect(ask(rig, VA).status).toBe(CA);
    expect(rig.events()).toEqual([]);
  });
});

describe('SMMUv3 3.9.1.2: walk faults are a completion without rights', () => {
  test.each([
    ['F_TRANSLATION of stage 1', { '0x100033008': '0x0' }],
    ['F_TRANSLATION of stage 2', { '0x100033008': '0x40000f43' }],
    ['F_TRANSLATION while the CD is read', { '0x1005c0': '0x4006000f' }],
    ['F_ADDR_SIZE', { '0x100033008': '0xfff000009f43' }],
    ['F_ACCESS of stage 1', { '0x100033008': '0x9b43' }],
    ['F_ACCESS of stage 2', { '0x200000000': '0x1000003fd' }],
    ['F_PERMISSION: privileged only', { '0x100033008': '0x9f03' }],
  ])('%s', (_, changes) => {
    const rig = nested(changes, { cr2: 8 | 2 });
    expect(ask(rig, VA)).toMatchObject({ status: OK, read: 0, write: 0, exec: 0, sizeLg2: 12 });
    expect(rig.events()).toEqual([]);
  });
});

describe('SMMUv3 3.9.1: what a completion says', () => {
  test.each([
    ['both stages writable', {}, READ | WRITE, [1, 1]],
    ['stage 1 read only', { '0x100033008': '0x9fc3' }, READ | WRITE, [1, 0]],
    ['stage 2 read only', { '0x200000000': '0x10000077d' }, READ | WRITE, [1, 0]],
    ['NW=1', {}, READ, [1, 0]],
    ['NW=1, whatever else is asked for', {}, READ | ACCESS.ATOMIC, [1, 0]],
  ])('rights are those of both stages: %s', (_, changes, access, rights) => {
    const completion = ask(nested(changes), VA, access);
    expect([completion.read, completion.write]).toEqual(rights);
  });

  test.each([
    ['stage 1 block of 2 MiB over stage 2 of 1 GiB', { '0x100032000': '0x200f41' }, 21, 0x10_0200],
    ['stage 1 page over stage 2 of 1 GiB', {}, 12, 0x10_0009],
  ])('the size is the smaller of both leaves: %s', (_, changes, sizeLg2, pfn) => {
    expect(ask(nested(changes), VA + 0x3000n * (sizeLg2 > 12 ? 1n : 0n))).toMatchObject({
      sizeLg2,
      pfn,
    });
  });

  test('execute and privileged count with a PASID, and only when asked for', () => {
    const changes = { '0x1005c0': SIXTEEN_CDS, ...CD_5 };
    const rig = nested(changes);
    const look = (access: number, pasid: number) => {
      const { exec, priv, read } = ask(rig, VA, access, pasid);
      return { exec, priv, read };
    };
    expect(look(READ, 5)).toEqual({ exec: 0, priv: 0, read: 1 });
    expect(look(READ | EXEC, 5)).toEqual({ exec: 1, priv: 0, read: 1 });
    // Writable for EL0: no privileged execute.
    expect(look(READ | EXEC | PRIV, 5)).toEqual({ exec: 0, priv: 1, read: 1 });
    const plain = nested();
    expect(ask(plain, VA, READ | EXEC | PRIV)).toMatchObject({ exec: 0, priv: 0, read: 1 });
  });

  test('a privileged page is there for a privileged request only', () => {
    const rig = nested({ '0x1005c0': SIXTEEN_CDS, ...CD_5, '0x100033008': '0x9f03' });
    expect(ask(rig, VA, READ | WRITE, 5)).toMatchObject({ status: OK, read: 0, priv: 0 });
    expect(ask(rig, VA, READ | WRITE | PRIV, 5)).toMatchObject({ read: 1, write: 1, priv: 1 });
  });

  test('where stage 1 allows nothing, stage 2 has no part', () => {
    const rig = nested({ '0x100033008': '0x9f03' });
    const { steps } = rig.unit.explain({ rid: SID, iova: VA, kind: 'translation' });
    const reads = steps.flatMap((step) => (step.kind === 'read' ? [step.what] : []));
    expect(reads.at(-1)).toBe('stage 1, level 3');
    expect(ask(rig, VA)).toMatchObject({ status: OK, read: 0 });
    expect([...rig.unit.caches.tlb.entries()]).toEqual([]);
  });

  test('S1DSS=1, stage 1 only: identity with every right', () => {
    const rig = nested({ '0x1005c0': '0x200000000006000b', '0x1005c8': eats(1, 1) });
    expect(ask(rig, 0x1234_5000n)).toMatchObject({ status: OK, pfn: 0x12345, read: 1, write: 1 });
    expect(ask(rig, 2n ** 50n)).toMatchObject({ status: OK, read: 0, write: 0 });
    expect(rig.events()).toEqual([]);
  });

  test.each([
    ['EATS=1 with S1DSS=1: stage 2 makes a PA of it', 1, 0x10_0009],
    ['EATS=2 with S1DSS=1: identity with the rights of stage 2', 2, 9],
  ])('%s', (_, mode, pfn) => {
    const changes = { '0x1005c0': SIXTEEN_CDS, '0x1005c8': eats(mode, 1) };
    const readOnly = { '0x200000000': '0x10000077d' };
    expect(ask(nested(changes), 0x9000n)).toMatchObject({ read: 1, write: 1, sizeLg2: 30 });
    const limited = ask(nested({ ...changes, ...readOnly }), 0x9000n);
    expect(limited).toMatchObject({ status: OK, read: 1, write: 0 });
    expect(limited.pfn + (9 % 2 ** (limited.sizeLg2 - 12))).toBe(pfn);
  });

  test('stage 2 only (Config 6): PA', () => {
    const rig = nested({ '0x1005c0': '0xd' });
    expect(ask(rig, 0x9000n)).toMatchObject({ status: OK, pfn: 0x10_0000, sizeLg2: 30 });
  });

  test('EATS=3 acts as 0', () => {
    const rig = nested({ '0x1005c8': eats(3) });
    expect(ask(rig, VA).status).toBe(UR);
    expect(rig.events()).toHaveLength(1);
  });

  test('F_BAD_ATS_TREQ says what was asked for', () => {
    const rig = nested({ '0x1005c0': SIXTEEN_CDS, '0x1005c8': eats(0), ...CD_5 });
    expect(ask(rig, VA, READ | EXEC | PRIV, 5).status).toBe(UR);
    expect(rig.events()).toEqual([[0x17_0000_5805n, 0xb000_0001n, VA, 0n]]);
  });

  test('a cached translation answers until it is invalidated, a write of a read-only one walks', () => {
    const rig = nested();
    expect(ask(rig, VA).pfn).toBe(0x10_0009);
    rig.store({ '0x100033008': '0xaf43' });
    expect(ask(rig, VA).pfn).toBe(0x10_0009);
    rig.run(
      encode(TLBI, { OPCODE: COMMAND.TLBI_NH_VA, VMID: 7, ASID: 1, ADDR: Number(VA) }),
      encode(TLBI, { OPCODE: COMMAND.TLBI_NH_ALL, VMID: 7 }),
    );
    expect(ask(rig, VA).pfn).toBe(0x10_000a);
    rig.store({ '0x100033008': '0xafc3' });
    rig.run(encode(TLBI, { OPCODE: COMMAND.TLBI_NH_ALL, VMID: 7 }));
    expect(ask(rig, VA)).toMatchObject({ read: 1, write: 0 });
    rig.store({ '0x100033008': '0xaf43' });
    expect(ask(rig, VA, READ)).toMatchObject({ read: 1, write: 0 });
    expect(ask(rig, VA)).toMatchObject({ read: 1, write: 1 });
  });

  test('an STE is cached for ATS as for everything else', () => {
    const rig = nested();
    ask(rig, VA);
    rig.store({ '0x1005c8': eats(0) });
    expect(ask(rig, VA).status).toBe(OK);
    rig.run(encode(CFGI, { OPCODE: COMMAND.CFGI_STE, SID, LEAF: 1 }));
    expect(ask(rig, VA).status).toBe(UR);
  });
});

describe('SMMUv3 5.2.2: EATS in the validity of an STE', () => {
  test.each([
    ['EATS=2 needs Config 7', { '0x1005c0': '0xd', '0x1005c8': eats(2) }, {}],
    ['EATS=2 needs NS1ATS=0', { '0x1005c8': eats(2) }, { idr0: { NS1ATS: 1 } }],
    ['EATS=1 with S2S=1', { '0x1005d0': '0x64d355900000007' }, {}],
    ['EATS=2 with S2S=1', { '0x1005c8': eats(2), '0x1005d0': '0x64d355900000007' }, {}],
  ])('%s is C_BAD_STE', (_, changes, capabilities) => {
    const rig = nested(changes, { capabilities });
    expect(rig.unit.translatePage(SID, -1, Number(VA >> 12n), READ)).toBeLessThan(0);
    expect(rig.events().map(([w0]) => Number((w0 as bigint) & 0xffn))).toEqual([0x04]);
  });

  test('without IDR0.ATS the field says nothing', () => {
    const changes = { '0x1005c0': '0xd', '0x1005c8': eats(2) };
    const rig = nested(changes, { capabilities: { idr0: { ATS: 0 } } });
    expect(rig.unit.translatePage(SID, -1, 9, READ)).toBe(0x10_0009);
  });
});

describe('SMMUv3 3.9.1.1: translated requests', () => {
  const send = (rig: Rig, pfn: number, access: number = READ, sid = SID) =>
    rig.unit.translatedPage(sid, -1, pfn, access);
  const codes = (rig: Rig) => rig.events().map(([w0]) => Number((w0 as bigint) & 0xffn));
  const NO_ATSCHK = ALL_ON & ~16;

  test('SMMUEN=0: abort, F_TRANSL_FORBIDDEN', () => {
    const rig = nested({}, { cr0: ALL_ON & ~1 });
    expect(send(rig, 0x9)).toBeLessThan(0);
    expect(rig.events()).toEqual([[0x17_0000_0007n, 0x8n * 2n ** 32n, 0x9000n, 0n]]);
  });

  test('ATSCHK=0: the address is taken as it is, up to OAS', () => {
    const rig = nested({ '0x1005c0': '0x0' }, { cr0: NO_ATSCHK });
    expect([send(rig, 0x9), send(rig, 2 ** 36)]).toEqual([9, -1]);
    expect(rig.events()).toEqual([]);
  });

  test.each([
    ['C_BAD_STE', { '0x1005c0': '0x0' }, 0x04],
    ['C_BAD_STREAMID', {}, 0x02],
  ])('%s aborts, and is recorded with REC_CFG_ATS only', (_, changes, code) => {
    const sid = code === 0x02 ? 0x100 : SID;
    const quiet = nested(changes);
    expect(send(quiet, 9, READ, sid)).toBeLessThan(0);
    const recording = nested(changes, { cr2: 10 });
    expect(send(recording, 9, READ, sid)).toBeLessThan(0);
    expect([codes(quiet), codes(recording)]).toEqual([[], [code]]);
  });

  test.each([
    ['Config 0xx aborts without record', { '0x1005c0': '0x1' }, []],
    ['Config 4 is F_TRANSL_FORBIDDEN', { '0x1005c0': '0x9' }, [0x07]],
    ['EATS=0 is F_TRANSL_FORBIDDEN', { '0x1005c8': eats(0) }, [0x07]],
    ['EATS=3 is F_TRANSL_FORBIDDEN', { '0x1005c8': eats(3) }, [0x07]],
  ])('%s', (_, changes, expected) => {
    const rig = nested(changes);
    expect(send(rig, 9, WRITE)).toBeLessThan(0);
    expect(codes(rig)).toEqual(expected);
  });

  test('EATS=1: the PA passes, up to OAS; a PASID is ignored', () => {
    const rig = nested();
    expect(send(rig, 2 ** 36)).toBeLessThan(0);
    expect(send(rig, 0x10_0009)).toBe(0x10_0009);
    expect(rig.unit.translatedPage(SID, 77, 0x10_0009, READ)).toBe(0x10_0009);
    expect(rig.events()).toEqual([]);
  });

  test('EATS=2: the IPA goes through stage 2, cached like any other', () => {
    const rig = nested({ '0x1005c8': eats(2) });
    expect(send(rig, 9, WRITE)).toBe(0x10_0009);
    rig.store({ '0x200000000': '0x1400007fd' });
    expect(send(rig, 9, WRITE)).toBe(0x10_0009);
    rig.run(encode(TLBI, { OPCODE: COMMAND.TLBI_S2_IPA, VMID: 7, ADDR: 0x9000 }));
    expect(send(rig, 9, WRITE)).toBe(0x14_0009);
  });

  test('EATS=2: faults of stage 2 are recorded as ever, an IPA beyond IAS is F_ADDR_SIZE', () => {
    const rig = nested({ '0x1005c8': eats(2), '0x200000000': '0x10000077d' });
    expect(send(rig, 9, WRITE)).toBeLessThan(0);
    expect(send(rig, 2 ** 20, READ)).toBeLessThan(0);
    expect(send(rig, 2 ** 36, READ)).toBeLessThan(0);
    expect(rig.events()).toEqual([
      [0x17_0000_0013n, 0x280n * 2n ** 32n, 0x9000n, 0x9000n],
      [0x17_0000_0010n, 0x288n * 2n ** 32n, 2n ** 32n, 2n ** 32n],
      [0x17_0000_0011n, 0x208n * 2n ** 32n, 2n ** 48n, 0n],
    ]);
  });

  test('EATS=2 with ATSCHK=0 acts as 0 for translation requests, and nobody looks at the rest', () => {
    const rig = nested({ '0x1005c8': eats(2) }, { cr0: NO_ATSCHK });
    expect([ask(rig, VA).status, send(rig, 9)]).toEqual([UR, 9]);
  });

  test('a unit without ATS: F_UUT for both kinds', () => {
    const rig = nested({}, { capabilities: { idr0: { ATS: 0 } } });
    expect([ask(rig, VA).status, send(rig, 9)]).toEqual([UR, -1]);
    expect(codes(rig)).toEqual([0x01, 0x01]);
    expect(rig.unit.readReg32(0x20) & 16).toBe(0);
    expect(rig.unit.readReg32(0x00) & 0x1_0400).toBe(0);
  });
});
