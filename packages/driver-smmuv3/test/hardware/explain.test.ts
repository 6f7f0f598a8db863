import { ACCESS } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import { type ExplainStep, formatExplanation, SmmuHardware } from '../../src/hardware/index.ts';
import { EVENT } from '../../src/spec/index.ts';
import { SparseMemory } from '../sparse-memory.ts';
import { loadVectors } from '../vector-data.ts';
import { ALL_ON, createRig, type Rig, VECTOR_PROFILE } from './rig.ts';

interface Walk {
  readonly name: string;
  readonly regs: Readonly<Record<string, string>>;
  readonly memory: Readonly<Record<string, string>>;
  readonly request: {
    readonly sid: string;
    readonly va: string;
    readonly write?: boolean;
    readonly ssid?: string;
    readonly priv?: string;
  };
  readonly result: string;
  readonly pa?: string;
  readonly event: readonly string[] | null;
  readonly reads: readonly { readonly kind: string; readonly addr: string }[];
  readonly writes?: readonly { readonly addr: string; readonly value: string }[];
  readonly externalAbortPages?: readonly string[];
}

const WALKS = loadVectors<{ walks: readonly Walk[] }>().walks;

const boot = ({ memory: image, regs, externalAbortPages = [] }: Walk) => {
  const memory = new SparseMemory();
  for (const [pa, value] of Object.entries(image)) memory.store(Number(pa), BigInt(value));
  const holes = new Set(externalAbortPages.map(Number));
  const unit = new SmmuHardware({
    capabilities: VECTOR_PROFILE,
    memory: { regionAt: (pa) => (holes.has(pa - (pa % 4096)) ? undefined : memory.regionAt(pa)) },
  });
  const table = BigInt(regs['STRTAB'] ?? 0);
  unit.writeReg64(0x80, Number(table & 0xffff_ffffn), Number(table >> 32n));
  const shape = (Number(regs['SPLIT']) << 6) | (Number(regs['FMT']) << 16);
  unit.writeReg32(0x88, Number(regs['LOG2SIZE']) | shape);
  unit.writeReg32(0x2c, Number(regs['RECINVSID'] ?? 0) << 1);
  unit.writeReg32(0x20, Number(regs['SMMUEN']));
  return { unit, memory };
};

/** Names of reads as the worked examples have them. */
const readNames = (steps: readonly ExplainStep[]): { kind: string; addr: string }[] =>
  steps.flatMap((step) => {
    if (step.kind !== 'read') return [];
    const level = /stage (\d), level (-?\d)/.exec(step.what);
    const kind = level ? `S${level[1]} L${level[2]}` : step.structure;
    return [{ kind, addr: `0x${step.address.toString(16)}` }];
  });

describe('explain: the worked translations', () => {
  test.each(WALKS.map((walk) => [walk.name, walk] as const))(
    '%s: the same reads in the same order, nothing changed',
    (_, walk) => check(walk),
  );
});

const pageOf = (addr: string): string => `0x${(BigInt(addr) & ~0xfffn).toString(16)}`;

const changedBits = ({ memory }: Walk, write: { addr: string; value: string }): number[] => {
  const before = BigInt(memory[write.addr] ?? 0);
  return [Number(write.addr), Number(before ^ BigInt(write.value))];
};

const check = (walk: Walk): void => {
  const { unit, memory } = boot(walk);
  const { sid, va, write, ssid, priv } = walk.request;
  const explanation = unit.explain({
    rid: Number(sid),
    pasid: ssid === undefined ? -1 : Number(ssid),
    iova: BigInt(va),
    access: (write === true ? ACCESS.WRITE : ACCESS.READ) | (priv === undefined ? 0 : ACCESS.PRIV),
  });
  const holes = walk.externalAbortPages ?? [];
  const answered = walk.reads.filter(({ addr }) => !holes.includes(pageOf(addr)));
  expect(readNames(explanation.steps)).toEqual(answered);
  expect(explanation.recorded).toBe(walk.event !== null);
  if (walk.event !== null)
    expect(explanation.reason).toBe(Number(BigInt(walk.event[0] ?? 0) & 0xffn));
  expect(explanation.pfn !== undefined).toBe(walk.result === 'ok');
  if (walk.result === 'raz/wi') expect(explanation.verdict).toContain('terminated without error');
  if (walk.result === 'ok') {
    expect(BigInt(explanation.pfn ?? 0) << 12n).toBe(BigInt(walk.pa ?? 0) & ~0xfffn);
  }
  expect(explanation.stalled).toBe(walk.result === 'stall');
  const updates = explanation.steps.flatMap((step) =>
    step.kind === 'update' ? [[step.address, step.bits]] : [],
  );
  expect(updates).toEqual((walk.writes ?? []).map((write) => changedBits(walk, write)));
  for (const [pa, value] of Object.entries(walk.memory))
    expect(memory.load(Number(pa))).toBe(BigInt(value));
  expect([...unit.caches.tlb.entries()]).toEqual([]);
  expect(unit.readReg32(0x100a8)).toBe(0);
};

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
const SID = 0x17;
const VA = 0x7f00_0000_1010n;

const nested = (changes: Readonly<Record<string, string>> = {}, options = {}): Rig => {
  const rig = createRig(options);
  rig.store({ ...NESTED, ...changes });
  return rig;
};

const rules = (steps: readonly ExplainStep[]): string[] =>
  steps.flatMap((step) => (step.kind === 'rule' ? [step.text] : []));
const caches = (steps: readonly ExplainStep[]) =>
  steps.flatMap((step) => (step.kind === 'cache' ? [[step.name, step.hit]] : []));

describe('explain: rules, caches and verdicts', () => {
  test('says where a fault was met, and that it would be recorded', () => {
    const rig = nested({ '0x100033008': '0x40000f43' });
    const seen = rig.unit.explain({ rid: SID, iova: VA });
    expect(seen).toMatchObject({
      pfn: undefined,
      reason: EVENT.F_TRANSLATION,
      reasonName: 'F_TRANSLATION',
      recorded: true,
      verdict: 'untranslated request refused: F_TRANSLATION',
    });
    expect(rules(seen.steps)).toEqual([
      'STE.Config=7: stage 1 and then stage 2 translate',
      'S1CDMax=0: the only CD',
      'F_TRANSLATION, stage 2: nothing is mapped there',
    ]);
    expect(rig.events()).toEqual([]);
  });

  test('the text shows fields, addresses and words', () => {
    const text = formatExplanation(nested().unit.explain({ rid: SID, iova: VA }));
    expect(text).toContain('0x1005c0: configuration STE 0006000f 00000000');
    expect(text).toContain('S2VMID [143:128] = 0x7  VMID');
    expect(text).toContain('0x100033008: stage 1, level 3 S1_LEAF 00009f43');
    expect(text).toContain('stage 2, level 1, of a stage 1 descriptor S2_LEAF');
    expect(text.split('\n').at(-1)).toBe('untranslated request goes to 0x100009000');
  });

  test('cache hits are shown and not caused; cached: false looks past them', () => {
    const rig = nested();
    const before = rig.unit.explain({ rid: SID, iova: VA });
    expect(caches(before.steps)).toEqual([
      ['STE cache', false],
      ['CD cache', false],
      ['TLB', false],
    ]);
    expect(caches(rig.unit.explain({ rid: SID, iova: VA }).steps)).toEqual(caches(before.steps));
    rig.unit.translatePage(SID, -1, Number(VA >> 12n), 1);
    const counted = rig.unit.caches.tlb.statistics;
    rig.store({ '0x100033008': '0xaf43' });
    const after = rig.unit.explain({ rid: SID, iova: VA });
    expect(caches(after.steps)).toEqual([
      ['STE cache', true],
      ['CD cache', true],
      ['TLB', true],
    ]);
    expect(after.pfn).toBe(0x10_0009);
    expect(rig.unit.explain({ rid: SID, iova: VA, cached: false })).toMatchObject({
      pfn: 0x10_000a,
    });
    expect(rig.unit.caches.tlb.statistics).toEqual(counted);
  });

  test('a cached entry without the right is a miss', () => {
    const rig = nested({ '0x100033008': '0x9fc3' });
    rig.unit.translatePage(SID, -1, Number(VA >> 12n), 1);
    const write = rig.unit.explain({ rid: SID, iova: VA, access: ACCESS.WRITE });
    expect(caches(write.steps).at(-1)).toEqual(['TLB', false]);
    expect(write.reasonName).toBe('F_PERMISSION');
  });

  test.each([
    [
      'an STE that aborts',
      { '0x1005c0': '0x1' },
      -1,
      'STE.Config 0 to 3: aborts, and nothing is recorded',
    ],
    ['bypass', { '0x1005c0': '0x9' }, -1, 'STE.Config=4: both stages are bypassed'],
    ['a bad STE', { '0x1005c0': '0x0' }, -1, 'the STE breaks a rule of validity'],
    ['a bad CD', { '0x100060000': '0x0' }, -1, 'the CD breaks a rule of validity'],
    ['a SubstreamID too many', {}, 3, 'S1CDMax=0: no SubstreamID is allowed'],
    [
      'a SubstreamID without stage 1',
      { '0x1005c0': '0xd' },
      3,
      'a SubstreamID where stage 1 does not translate',
    ],
    ['a SubstreamID', { '0x1005c0': '0x200000000006000f' }, 0, 'SubstreamID 0x0 selects CD 0x0'],
    [
      'S1DSS=0',
      { '0x1005c0': '0x200000000006000f' },
      -1,
      'S1DSS=0: a request without SubstreamID is refused',
    ],
    [
      'S1DSS=1',
      { '0x1005c0': '0x200000000006000f', '0x1005c8': '0x1' },
      -1,
      'S1DSS=1: without SubstreamID stage 1 is bypassed',
    ],
    [
      'S1DSS=2',
      { '0x1005c0': '0x200000000006000f', '0x1005c8': '0x2' },
      -1,
      'S1DSS=2: without SubstreamID CD 0',
    ],
    [
      'S1DSS=2 with SSID 0',
      { '0x1005c0': '0x200000000006000f', '0x1005c8': '0x2' },
      0,
      'S1DSS=2: SubstreamID 0 is refused',
    ],
    [
      'a SubstreamID beyond',
      { '0x1005c0': '0x200000000006000f' },
      16,
      'S1CDMax=4: SubstreamID 0x10 is beyond the table',
    ],
  ])('names the rule: %s', (_, changes, pasid, text) => {
    const rig = nested(changes);
    expect(rules(rig.unit.explain({ rid: SID, pasid, iova: VA }).steps)).toContain(text);
  });

  test.each([
    ['passes', 0, 'CR0.SMMUEN=0, GBPA.ABORT=0: the request passes', 0x7_f000_0001],
    ['aborts', 0x8010_0000, 'CR0.SMMUEN=0, GBPA.ABORT=1: the request aborts', undefined],
  ])('SMMUEN=0: %s', (_, gbpa, text, pfn) => {
    const rig = nested({}, { cr0: 0 });
    rig.unit.writeReg32(0x44, gbpa);
    const seen = rig.unit.explain({ rid: SID, iova: VA & 0xff_ffff_ffffn });
    expect(rules(seen.steps)).toEqual([text]);
    expect(seen.pfn === undefined).toBe(pfn === undefined);
  });

  test('bus errors', () => {
    const rig = nested({}, { holes: [0x1_0003_1000] });
    const seen = rig.unit.explain({ rid: SID, iova: VA });
    expect(seen.steps).toContainEqual({
      kind: 'bus-error',
      structure: 'S1_LEAF',
      address: 0x1_0003_1000,
    });
    expect(seen.reasonName).toBe('F_WALK_EABT');
  });
});

describe('explain: other kinds of requests', () => {
  test('a translation request: its completion, and nothing changed', () => {
    const rig = nested();
    const seen = rig.unit.explain({ rid: SID, iova: VA, kind: 'translation', access: 3 });
    expect(seen.completion).toMatchObject({ status: 0, read: 1, write: 1, pfn: 0x10_0009 });
    expect(seen.verdict).toBe('translation request goes to 0x100009000');
    expect([...rig.unit.caches.tlb.entries()]).toEqual([]);
  });

  test('a hole is no event for a translation request', () => {
    const rig = nested({ '0x100033008': '0x0' });
    const seen = rig.unit.explain({ rid: SID, iova: VA, kind: 'translation' });
    expect(seen).toMatchObject({ reasonName: 'F_TRANSLATION', recorded: false });
    expect(seen.completion).toMatchObject({ status: 0, read: 0 });
  });

  test('a translated request', () => {
    const rig = nested();
    const request = { rid: SID, iova: 0x1_0000_9000, kind: 'translated' } as const;
    expect(rig.unit.explain(request).pfn).toBe(0x10_0009);
    const open = nested({ '0x1005c0': '0x0' }, { cr0: ALL_ON & ~16 });
    const seen = open.unit.explain(request);
    expect(rules(seen.steps)).toEqual(['CR0.ATSCHK=0: nobody looks at the address']);
    expect(seen.pfn).toBe(0x10_0009);
  });

  test.each([
    ['there is room in the page request queue', ALL_ON, 0],
    ['the page request queue is full or has overflowed: automatic answer', ALL_ON, 8],
    ['the page request queue is closed: automatic failure', ALL_ON & ~2, 0],
  ])('a page request: %s', (text, cr0, queued) => {
    const rig = nested({}, { cr0 });
    for (let prgi = 0; prgi < queued; prgi++) {
      const request = { rid: SID, pasid: -1, addressPfn: 1, exec: false, priv: false };
      rig.unit.pageRequest({ ...request, read: true, write: false, last: true, prgi });
    }
    const seen = rig.unit.explain({ rid: SID, iova: VA, kind: 'page-request' });
    expect(rules(seen.steps)).toEqual([text]);
    expect([rig.pageRequests().length, rig.responses.length]).toEqual([queued, 0]);
  });
});
