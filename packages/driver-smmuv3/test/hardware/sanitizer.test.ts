import { encode } from '@iommukit/bits';
import { ACCESS, createAtsCompletion, INVALIDATION_ANSWER } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import type { SanitizerFinding } from '../../src/hardware/index.ts';
import { ATC_INV, CFGI, CFGI_RANGE, COMMAND, TLBI } from '../../src/spec/index.ts';
import { createRig, type Rig, type RigOptions, VECTOR_PROFILE } from './rig.ts';

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
/** The same tables without stage 2: ASID 1, VMID 9. */
const STAGE1 = {
  '0x1005c0': '0x10006000b',
  '0x1005d0': '0x9',
  '0x100060000': '0x1e205c0003510',
  '0x100060008': '0x100030000',
  '0x1000307f0': '0x100031003',
  '0x100031000': '0x100032003',
  '0x100032000': '0x100033003',
  '0x100033008': '0x100009f43',
} as const;
const STAGE2 = { ...NESTED, '0x1005c0': '0xd' };
const SID = 0x17;
const VA = 0x7f00_0000_1000n;
const PFN = Number(VA >> 12n);
const { READ, WRITE } = ACCESS;

type Words = Readonly<Record<string, string>>;

const watched = (image: Words, options: RigOptions = {}): Rig => {
  const rig = createRig({ sanitize: true, ...options });
  rig.store(image);
  return rig;
};
const findings = (rig: Rig): readonly SanitizerFinding[] => rig.unit.sanitizer?.findings ?? [];
const audit = (rig: Rig): readonly SanitizerFinding[] => rig.unit.sanitizer?.audit() ?? [];
const superfluous = (rig: Rig) => rig.unit.sanitizer?.superfluous;
const read = (rig: Rig, pfn = PFN, access: number = READ) =>
  rig.unit.translatePage(SID, -1, pfn, access);

const tlbi = (OPCODE: number, values: object) => encode(TLBI, { OPCODE, ...values });
const cfgi = (OPCODE: number, values: object = {}) => encode(CFGI, { OPCODE, SID, ...values });
const ADDR = Number(VA);

describe('sanitizer: translations', () => {
  test('silent when the invalidation comes before the use', () => {
    const rig = watched(NESTED);
    expect(read(rig)).toBe(0x10_0009);
    rig.store({ '0x100033008': '0xaf43' });
    rig.run(tlbi(COMMAND.TLBI_NH_VA, { VMID: 7, ASID: 1, ADDR }));
    expect(read(rig)).toBe(0x10_000a);
    expect([audit(rig), findings(rig), superfluous(rig)]).toEqual([[], [], 0]);
  });

  test('a use of a stale entry: the entry, who changed what, what was due', () => {
    const rig = watched(NESTED);
    read(rig);
    rig.store({ '0x100033008': '0xaf43' });
    expect(read(rig)).toBe(0x10_0009);
    expect(findings(rig)).toHaveLength(1);
    expect(findings(rig)[0]).toMatchObject({
      kind: 'stale-translation',
      verdict: 'missing',
      found: 'use',
      rid: SID,
      pasid: -1,
      iovaPfn: PFN,
      vmid: 7,
      asid: 1,
      cached: '0x100009000',
      fresh: '0x10000a000',
      change: {
        structure: 'S1_LEAF',
        address: 0x1_0003_3008,
        oldWords: [0x9f43, 0],
        newWords: [0xaf43, 0],
        what: 'stage 1, level 3',
      },
      due: ['TLBI_NH_VA page 0x7f0000001000 VMID 7 ASID 1'],
      seen: [],
    });
    expect(findings(rig)[0]?.text).toContain('missing: TLBI_NH_VA page');
    read(rig);
    expect(findings(rig)).toHaveLength(1);
  });

  test('late: the command came after the use; partial: another of the same VMID came', () => {
    const rig = watched(NESTED);
    read(rig);
    rig.store({ '0x100033008': '0xaf43' });
    rig.run(tlbi(COMMAND.TLBI_NH_VA, { VMID: 8, ASID: 1, ADDR }));
    rig.run(tlbi(COMMAND.TLBI_NH_VA, { VMID: 7, ASID: 1, ADDR: ADDR + 0x5000 }));
    read(rig);
    expect(findings(rig)[0]).toMatchObject({
      verdict: 'partial',
      seen: ['TLBI_NH_VA page 0x7f0000006000 VMID 7 ASID 1'],
    });
    expect(superfluous(rig)).toBe(2);
    rig.run(tlbi(COMMAND.TLBI_NH_ALL, { VMID: 7 }));
    expect(findings(rig)[0]?.verdict).toBe('late');
    expect(superfluous(rig)).toBe(2);
  });

  const cases: readonly (readonly [string, Words, Words, number, readonly string[]])[] = [
    [
      'a table of stage 1',
      NESTED,
      { '0x100032000': '0x0' },
      PFN,
      ['TLBI_NH_VA page 0x7f0000001000 VMID 7 ASID 1 Leaf=0'],
    ],
    [
      'stage 2 under stage 1',
      NESTED,
      { '0x200000000': '0x1400007fd' },
      PFN,
      ['TLBI_S2_IPA VMID 7', 'TLBI_NH_ALL VMID 7'],
    ],
    ['stage 2 alone', STAGE2, { '0x200000000': '0x1400007fd' }, 9, ['TLBI_S2_IPA page 0x0 VMID 7']],
    [
      'stage 1 alone',
      STAGE1,
      { '0x100033008': '0x0' },
      PFN,
      ['TLBI_NH_VA page 0x7f0000001000 VMID 9 ASID 1'],
    ],
    [
      'a global page',
      { ...STAGE1, '0x100033008': '0x100009743' },
      { '0x100033008': '0x0' },
      PFN,
      ['TLBI_NH_VAA page 0x7f0000001000 VMID 9'],
    ],
    [
      'the CD, which a CFGI_CD reached',
      NESTED,
      { '0x100060008': '0x40000' },
      PFN,
      ['CFGI_CD SID 0x17 SSID 0x0', 'TLBI_NH_ASID VMID 7 ASID 1'],
    ],
    [
      'a right that is gone',
      NESTED,
      { '0x100033008': '0x9fc3' },
      PFN,
      ['TLBI_NH_VA page 0x7f0000001000 VMID 7 ASID 1'],
    ],
  ];
  test.each(cases)('%s: what was due', (_, image, change, pfn, due) => {
    const rig = watched(image);
    expect(read(rig, pfn, WRITE)).toBeGreaterThan(0);
    rig.store(change);
    // Configuration alone does not reach the TLB.
    rig.run(encode(CFGI_RANGE, { OPCODE: COMMAND.CFGI_STE_RANGE, RANGE: 31 }));
    const found = audit(rig).filter(({ kind }) => kind === 'stale-translation');
    expect(found.map((finding) => finding.due)).toEqual([due]);
    expect(found[0]?.found).toBe('audit');
  });

  test('an EL2 stream', () => {
    const el2 = { ...STAGE1, '0x1005c8': String(0x8000_0000), '0x100060000': '0x1e201c0003510' };
    const rig = watched(el2, { capabilities: VECTOR_PROFILE });
    expect(read(rig)).toBe(0x10_0009);
    rig.store({ '0x100033008': '0x0' });
    expect(audit(rig).map(({ due }) => due)).toEqual([['TLBI_EL2_VAA page 0x7f0000001000']]);
  });

  test('access flags that hardware sets are no change; dirty state that software takes back is', () => {
    const image = { ...NESTED, '0x100033008': '0x8000000009b43', '0x100060000': '0x1ee05c0003510' };
    const rig = watched(image, { capabilities: VECTOR_PROFILE });
    expect(read(rig, PFN, WRITE)).toBe(0x10_0009);
    expect(audit(rig)).toEqual([]);
    rig.store({ '0x100033008': '0x8000000009fc3' });
    expect(read(rig, PFN, WRITE)).toBe(0x10_0009);
    expect(findings(rig)).toMatchObject([
      { kind: 'stale-dirty', fresh: 'the page is clean', change: { structure: 'S1_LEAF' } },
    ]);
    expect(read(rig, PFN, READ)).toBe(0x10_0009);
    expect(findings(rig)).toHaveLength(1);
  });

  test('an access flag that hardware set is not taken for the change', () => {
    const s2ha = { '0x1005d0': '0x54d355900000007', '0x200000000': '0x1000003fd' };
    const rig = watched({ ...NESTED, ...s2ha }, { capabilities: VECTOR_PROFILE });
    expect(read(rig)).toBe(0x10_0009);
    expect(rig.memory.load(0x2_0000_0000)).toBe(0x1_0000_07fdn);
    rig.store({ '0x100033008': '0x0' });
    expect(audit(rig).map(({ change }) => change?.structure)).toEqual(['S1_LEAF']);
  });

  test('more rights need no invalidation', () => {
    const rig = watched({ ...NESTED, '0x100033008': '0x60000000009fc3' });
    read(rig);
    rig.store({ '0x100033008': '0x60000000009f43' });
    expect(audit(rig)).toEqual([]);
    expect(read(rig, PFN, WRITE)).toBe(0x10_0009);
    expect(findings(rig)).toEqual([]);
  });

  test('Leaf=1 where a table went is wrong, though this TLB has no walk cache', () => {
    const rig = watched(NESTED);
    read(rig);
    rig.store({ '0x100032000': '0x0' });
    rig.run(tlbi(COMMAND.TLBI_NH_VA, { VMID: 7, ASID: 1, ADDR, LEAF: 1 }));
    expect(findings(rig)).toMatchObject([
      {
        kind: 'wrong-leaf',
        found: 'command',
        change: { structure: 'TABLE_DESCRIPTOR', address: 0x1_0003_2000 },
        due: ['TLBI_NH_VA page 0x7f0000001000 VMID 7 ASID 1 Leaf=0'],
      },
    ]);
  });

  test('what a stream no longer leads to is judged by the tables it was made of', () => {
    const rig = watched(STAGE2);
    read(rig, 9);
    rig.store({ '0x1005d0': '0x44d355900000008', '0x1005d8': '0x300000000' });
    rig.store({ '0x300000000': '0x1400007fd' });
    rig.run(cfgi(COMMAND.CFGI_STE));
    expect(read(rig, 9)).toBe(0x14_0009);
    expect(audit(rig)).toEqual([]);
    rig.store({ '0x200000000': '0x0' });
    expect(audit(rig)).toMatchObject([
      { vmid: 7, due: ['CFGI_STE SID 0x17', 'TLBI_S12_VMALL VMID 7'] },
    ]);
    rig.run(tlbi(COMMAND.TLBI_S12_VMALL, { VMID: 7 }));
    expect(audit(rig)).toEqual([]);
  });
});

describe('sanitizer: configuration', () => {
  test.each([
    ['STE', { '0x1005c0': '0x1' }, 'stale-stream', ['CFGI_STE SID 0x17']],
    ['CD', { '0x100060000': '0x0' }, 'stale-context', ['CFGI_CD SID 0x17 SSID 0x0']],
  ])('a changed %s is found at its use, and in an audit', (structure, change, kind, due) => {
    const rig = watched(NESTED);
    read(rig);
    rig.store(change);
    expect(read(rig)).toBe(0x10_0009);
    expect(findings(rig).map((finding) => finding.kind)).toContain(kind);
    const found = findings(rig).find((finding) => finding.kind === kind);
    expect(found).toMatchObject({ verdict: 'missing', change: { structure }, due });
    const other = watched(NESTED);
    read(other);
    other.store(change);
    expect(audit(other).map((finding) => finding.kind)).toContain(kind);
  });

  test('level 1 of the stream table wants Leaf=0', () => {
    const rig = createRig({ sanitize: true, cr0: 0 });
    rig.store({ '0x100000': '0x110007', '0x1105c0': '0x9', '0x1205c0': '0x1' });
    rig.unit.writeReg32(0x88, 8 | (6 << 6) | (1 << 16));
    rig.unit.writeReg32(0x20, 0x1f);
    expect(read(rig)).toBe(PFN);
    rig.store({ '0x100000': '0x120007' });
    expect(audit(rig)).toMatchObject([
      { kind: 'stale-stream', change: { structure: 'L1STD' }, due: ['CFGI_STE SID 0x17 Leaf=0'] },
    ]);
    rig.run(cfgi(COMMAND.CFGI_STE));
    expect([audit(rig), findings(rig)[0]?.verdict]).toEqual([[], 'late']);
  });

  test('a stream table that moved without CFGI_ALL', () => {
    const rig = watched(NESTED);
    read(rig);
    rig.unit.writeReg32(0x20, 0x1e);
    rig.unit.writeReg64(0x80, 0x11_0000, 0);
    rig.unit.writeReg32(0x20, 0x1f);
    const found = audit(rig).find(({ kind }) => kind === 'stale-stream');
    expect(found).toMatchObject({ change: undefined, due: ['CFGI_ALL'] });
    expect(found?.text).toContain('the stream table moved');
  });

  test('partial: a CFGI_CD where the STE had changed', () => {
    const rig = watched(NESTED);
    read(rig);
    rig.store({ '0x1005c0': '0x1' });
    rig.run(cfgi(COMMAND.CFGI_CD));
    expect(audit(rig)).toMatchObject([
      { kind: 'stale-stream', verdict: 'partial', seen: ['CFGI_CD SID 0x17 SSID 0x0'] },
    ]);
  });

  test('bits that say nothing are no change', () => {
    const rig = watched(NESTED);
    read(rig);
    rig.store({ '0x1005c8': String(0x1008_0000 | (1 << 20)), '0x100060030': '0x1234' });
    expect(audit(rig)).toEqual([]);
  });
});

describe('sanitizer: caches of devices', () => {
  const ask = (rig: Rig, pasid = -1) => {
    const completion = createAtsCompletion();
    rig.unit.translationRequest(SID, pasid, PFN, READ | WRITE, completion);
    return completion.pfn;
  };
  const atc = (values: object) => encode(ATC_INV, { OPCODE: COMMAND.ATC_INV, SID, ...values });

  test('a translated request after an unmap without ATC_INV', () => {
    const rig = watched(NESTED);
    const pfn = ask(rig);
    rig.unit.translatedPage(SID, -1, pfn, READ);
    expect(findings(rig)).toEqual([]);
    rig.store({ '0x100033008': '0x0' });
    rig.run(tlbi(COMMAND.TLBI_NH_VA, { VMID: 7, ASID: 1, ADDR }));
    rig.unit.translatedPage(SID, -1, pfn, READ);
    expect(findings(rig)).toMatchObject([
      {
        kind: 'stale-device-tlb',
        rid: SID,
        iovaPfn: PFN,
        cached: '0x100009000',
        fresh: 'nothing is mapped',
        change: { structure: 'S1_LEAF' },
        due: ['ATC_INV SID 0x17 page 0x7f0000001000'],
      },
    ]);
    rig.run(atc({ SIZE: 52 }));
    expect(findings(rig)[0]?.verdict).toBe('late');
    expect(superfluous(rig)).toBe(0);
  });

  test('ATC_INV before the use: silent; one that no device answered: not', () => {
    for (const answer of [INVALIDATION_ANSWER.COMPLETE, INVALIDATION_ANSWER.NONE]) {
      const rig = watched(NESTED);
      const pfn = ask(rig);
      rig.store({ '0x100033008': '0x0' });
      rig.run(tlbi(COMMAND.TLBI_NH_VA, { VMID: 7, ASID: 1, ADDR }));
      rig.device.answer = answer;
      rig.run(atc({ SIZE: 0, ADDR }));
      rig.unit.translatedPage(SID, -1, pfn, READ);
      expect(findings(rig)).toHaveLength(answer === INVALIDATION_ANSWER.COMPLETE ? 0 : 1);
    }
  });

  test('ATC_INV between TLBI and SYNC is too early if the device asks again before the TLBI', () => {
    const rig = watched(NESTED);
    ask(rig);
    rig.store({ '0x100033008': '0x0' });
    rig.run(atc({ SIZE: 52 }));
    // The TLB still has it: the device gets the stale translation once more.
    const pfn = ask(rig);
    expect(pfn).toBe(0x10_0009);
    rig.run(tlbi(COMMAND.TLBI_NH_VA, { VMID: 7, ASID: 1, ADDR }));
    rig.unit.translatedPage(SID, -1, pfn, READ);
    expect(findings(rig).map(({ kind, verdict }) => [kind, verdict])).toEqual([
      ['stale-translation', 'late'],
      ['stale-device-tlb', 'missing'],
    ]);
  });

  test('with a SubstreamID only its entries go', () => {
    const image = {
      ...NESTED,
      '0x1005c0': String(0x2000_0000_0006_000fn),
      '0x100060140': '0x1e205c0003510',
      '0x100060148': '0x30000',
    };
    const rig = watched(image);
    const pfn = ask(rig, 5);
    rig.store({ '0x100033008': '0x0' });
    rig.run(tlbi(COMMAND.TLBI_NH_ALL, { VMID: 7 }), atc({ SSV: 1, SSID: 6, SIZE: 52 }));
    rig.unit.translatedPage(SID, -1, pfn, READ);
    expect(findings(rig)).toMatchObject([
      { pasid: 5, verdict: 'partial', due: ['ATC_INV SID 0x17 SSID 0x5 page 0x7f0000001000'] },
    ]);
    expect(superfluous(rig)).toBe(1);
  });
});

test('a unit without sanitizer has none', () => {
  expect(createRig().unit.sanitizer).toBeUndefined();
});

test('a watched unit translates as any other', () => {
  for (const image of [NESTED, STAGE1, STAGE2]) {
    const plain = createRig();
    plain.store(image);
    const rig = watched(image);
    for (const pfn of [PFN, PFN, 9, 9, PFN + 1])
      for (const access of [READ, WRITE]) {
        expect(read(rig, pfn, access)).toBe(read(plain, pfn, access));
      }
    expect(rig.events()).toEqual(plain.events());
    expect(findings(rig)).toEqual([]);
  }
});
