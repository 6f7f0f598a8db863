import { encode } from '@iommukit/bits';
import { describe, expect, test } from 'vitest';
import { COMMAND, TLBI } from '../../src/spec/index.ts';
import {
  BIT7,
  createTableRig,
  EXEC,
  LEAF,
  PRIV,
  READ,
  S1_PAGE,
  S1_ROOT,
  S2_ROOT,
  WRITE,
} from './table-rig.ts';

const VA = 0x1234_5000n;
const OLD = 0x9_8000n;
const NEW = 0x9_9000n;
const HYP = { idr0: { HYP: 1, VMW: 1 } } as const;
const E2H = 3;
const EL2 = 2;
const AP1 = 1n << 6n;
const PXN = 1n << 53n;
const XN = 1n << 54n;
const NOT_GLOBAL = 1n << 11n;
const UPPER = 0xffff_ff80_0000_0000n;

/** A stage-1 stream of a world, one page mapped. */
const world = (
  name: 'EL1' | 'EL2' | 'EL2-E2H',
  leaf = S1_PAGE,
  cd: object = {},
  ste: object = {},
) => {
  const t = createTableRig({ capabilities: HYP, cr2: name === 'EL2-E2H' ? E2H : EL2 });
  t.stream({ STRW: name === 'EL1' ? 0 : 2, S2VMID: 3, ...ste });
  t.context({ ASID: 1, ...cd });
  t.map(S1_ROOT, VA, OLD, leaf);
  return t;
};

describe('SMMUv3 3.3.4, 5.2: stream worlds', () => {
  test.each([
    ['EL1', 'a page without EL0 access', READ, S1_PAGE & ~AP1, 'F_PERMISSION'],
    ['EL2-E2H', 'a page without EL0 access', READ, S1_PAGE & ~AP1, 'F_PERMISSION'],
    ['EL2', 'a page without EL0 access', READ, S1_PAGE & ~AP1, '0x98000'],
    ['EL2', 'a read-only page', WRITE, S1_PAGE | BIT7, 'F_PERMISSION'],
    ['EL2', 'a page with XN', EXEC, S1_PAGE | XN, 'F_PERMISSION'],
    ['EL2', 'a page with PXN', EXEC | PRIV, S1_PAGE | PXN | BIT7, '0x98000'],
    ['EL2-E2H', 'a page with PXN', EXEC | PRIV, S1_PAGE | PXN | BIT7, 'F_PERMISSION'],
    ['EL1', 'a page with PXN', EXEC | PRIV, S1_PAGE | PXN | BIT7, 'F_PERMISSION'],
    ['EL2', 'a user page for privileged code', EXEC | PRIV, S1_PAGE, '0x98000'],
    [
      'EL2-E2H',
      'a page that users write, for privileged code',
      EXEC | PRIV,
      S1_PAGE,
      'F_PERMISSION',
    ],
  ] as const)('%s: %s', (name, _, access, leaf, result) => {
    expect(world(name, leaf).ask(VA, access)).toBe(result);
  });

  test.each([
    ['EL1', 'F_PERMISSION'],
    ['EL2-E2H', 'F_PERMISSION'],
    ['EL2', '0x98000'],
  ] as const)('%s: PAN', (name, result) => {
    expect(world(name, S1_PAGE, { PAN: 1 }).ask(VA, READ | PRIV)).toBe(result);
  });

  test.each([
    ['EL1', '0x98000'],
    ['EL2-E2H', '0x98000'],
    ['EL2', 'F_TRANSLATION'],
  ] as const)('%s: the upper half', (name, result) => {
    const t = world(name, S1_PAGE, { EPD1: 0, T1SZ: 25, TG1: 2, TTB1: S1_ROOT });
    expect(t.ask(UPPER | VA)).toBe(result);
  });

  test('EL2 has one table base: EPD0 does not switch it off, nor is TTB1 looked at', () => {
    const t = world('EL2', S1_PAGE, { EPD0: 1, EPD1: 0, TG1: 0, T1SZ: 63 });
    expect(t.ask(VA)).toBe('0x98000');
    expect(world('EL1', S1_PAGE, { EPD0: 1 }).ask(VA)).toBe('F_TRANSLATION');
    expect(world('EL1', S1_PAGE, { EPD1: 0, TG1: 0 }).ask(VA)).toBe('C_BAD_CD');
  });

  test.each([
    ['EL1', 'C_BAD_CD'],
    ['EL2-E2H', 'C_BAD_CD'],
    ['EL2', '0x98000'],
  ] as const)('%s: an ASID of more than 8 bits in a unit with 8-bit ASIDs', (name, result) => {
    const t = createTableRig({
      capabilities: { idr0: { HYP: 1, ASID16: 0 } },
      cr2: name === 'EL2-E2H' ? E2H : EL2,
    });
    t.stream({ STRW: name === 'EL1' ? 0 : 2 });
    t.context({ ASID: 0x100 });
    t.map(S1_ROOT, VA, OLD, S1_PAGE);
    expect(t.ask(VA)).toBe(result);
  });

  test.each([
    ['odd', HYP, 1, 'C_BAD_STE'],
    ['odd', HYP, 3, 'C_BAD_STE'],
    ['without HYP it is not looked at', {}, 3, '0x98000'],
  ])('STRW %s', (_, capabilities, STRW, result) => {
    const t = createTableRig({ capabilities });
    t.stream({ STRW });
    t.context();
    t.map(S1_ROOT, VA, OLD, S1_PAGE);
    expect(t.ask(VA)).toBe(result);
  });
});

const GLOBAL = S1_PAGE & ~NOT_GLOBAL;
const command = (OPCODE: number, fields: object = {}) =>
  encode(TLBI, { OPCODE, ...fields } as never);
const at = (address: bigint) => ({ ADDR: Number(address) });

describe('SMMUv3 4.4: what each TLBI reaches', () => {
  const WORLDS = ['EL1', 'EL2', 'EL2-E2H'] as const;
  type Reach = Readonly<Record<(typeof WORLDS)[number], 'drops' | 'keeps' | 'ill'>>;
  const only = (name: (typeof WORLDS)[number]): Reach => ({
    EL1: 'keeps',
    EL2: 'keeps',
    'EL2-E2H': 'keeps',
    [name]: 'drops',
  });
  const none: Reach = { EL1: 'keeps', EL2: 'keeps', 'EL2-E2H': 'keeps' };
  const el2: Reach = { EL1: 'keeps', EL2: 'drops', 'EL2-E2H': 'drops' };
  test.each([
    ['NH_ALL', command(COMMAND.TLBI_NH_ALL, { VMID: 3 }), S1_PAGE, only('EL1')],
    ['NH_ALL of another VMID', command(COMMAND.TLBI_NH_ALL, { VMID: 2 }), S1_PAGE, none],
    ['NH_ASID', command(COMMAND.TLBI_NH_ASID, { VMID: 3, ASID: 1 }), S1_PAGE, only('EL1')],
    ['NH_ASID of another', command(COMMAND.TLBI_NH_ASID, { VMID: 3, ASID: 2 }), S1_PAGE, none],
    ['NH_ASID, global page', command(COMMAND.TLBI_NH_ASID, { VMID: 3, ASID: 1 }), GLOBAL, none],
    ['NH_VA', command(COMMAND.TLBI_NH_VA, { VMID: 3, ASID: 1, ...at(VA) }), S1_PAGE, only('EL1')],
    [
      'NH_VA, global page',
      command(COMMAND.TLBI_NH_VA, { VMID: 3, ASID: 9, ...at(VA) }),
      GLOBAL,
      only('EL1'),
    ],
    [
      'NH_VA of another page',
      command(COMMAND.TLBI_NH_VA, { VMID: 3, ASID: 1, ...at(NEW) }),
      S1_PAGE,
      none,
    ],
    ['NH_VAA', command(COMMAND.TLBI_NH_VAA, { VMID: 3, ...at(VA) }), S1_PAGE, only('EL1')],
    ['EL2_ALL', command(COMMAND.TLBI_EL2_ALL), S1_PAGE, el2],
    ['EL2_ASID', command(COMMAND.TLBI_EL2_ASID, { ASID: 1 }), S1_PAGE, only('EL2-E2H')],
    ['EL2_ASID of another', command(COMMAND.TLBI_EL2_ASID, { ASID: 2 }), S1_PAGE, none],
    ['EL2_ASID, global page', command(COMMAND.TLBI_EL2_ASID, { ASID: 1 }), GLOBAL, none],
    ['EL2_VA', command(COMMAND.TLBI_EL2_VA, { ASID: 1, ...at(VA) }), S1_PAGE, el2],
    [
      'EL2_VA of another ASID',
      command(COMMAND.TLBI_EL2_VA, { ASID: 2, ...at(VA) }),
      S1_PAGE,
      only('EL2'),
    ],
    [
      'EL2_VA of another page',
      command(COMMAND.TLBI_EL2_VA, { ASID: 1, ...at(NEW) }),
      S1_PAGE,
      none,
    ],
    ['EL2_VAA', command(COMMAND.TLBI_EL2_VAA, at(VA)), S1_PAGE, el2],
    ['S12_VMALL', command(COMMAND.TLBI_S12_VMALL, { VMID: 3 }), S1_PAGE, only('EL1')],
    ['S2_IPA', command(COMMAND.TLBI_S2_IPA, { VMID: 3, ...at(VA) }), S1_PAGE, none],
    ['NSNH_ALL', command(COMMAND.TLBI_NSNH_ALL), S1_PAGE, only('EL1')],
  ])('%s', (_, words, leaf, reach) => {
    for (const name of WORLDS) {
      for (const ASET of [0, 1]) {
        const t = world(name, leaf, { ASET });
        t.ask(VA);
        t.map(S1_ROOT, VA, NEW, leaf);
        t.run(words);
        const after = reach[name] === 'drops' ? '0x99000' : '0x98000';
        expect([name, ASET, t.ask(VA), t.commandError()]).toEqual([name, ASET, after, 0]);
      }
    }
  });

  test('worlds with one address and ASID do not share entries', () => {
    const t = world('EL2-E2H', S1_PAGE, {}, { STRW: 0, S2VMID: 0 });
    expect(t.ask(VA)).toBe('0x98000');
    t.map(S1_ROOT, VA, NEW, S1_PAGE);
    t.stream({ STRW: 2, S2VMID: 0 });
    t.run(Uint32Array.of(COMMAND.CFGI_STE_RANGE, 0, 31, 0));
    expect(t.ask(VA)).toBe('0x99000');
  });

  test.each([0x20, 0x21, 0x22, 0x23, 0x18, 0x1a, 0x50, 0x58, 0x60])(
    'opcode 0x%s is illegal without HYP, or always',
    (opcode) => {
      const t = createTableRig({ capabilities: opcode < 0x20 || opcode > 0x23 ? HYP : {} });
      t.run(Uint32Array.of(opcode, 0, 0, 0));
      expect(t.commandError()).toBe(1);
    },
  );

  test.each([
    [0, 4, false],
    [1, 2, true],
    [1, 4, false],
    [2, 0, true],
    [2, 4, false],
    [4, 12, true],
    [5, 2, false],
  ])('SMMUv3 6.3.9.5, VMW %i: NH_ALL of VMID %i reaches VMID 3: %s', (VMW, VMID, reaches) => {
    const t = world('EL1');
    t.unit.writeReg32(0x20, 0x1f | (VMW << 6));
    t.ask(VA);
    t.map(S1_ROOT, VA, NEW, S1_PAGE);
    t.run(command(COMMAND.TLBI_NH_ALL, { VMID }));
    expect(t.ask(VA)).toBe(reaches ? '0x99000' : '0x98000');
  });

  test('SCALE has a sixth bit with DS only', () => {
    for (const [DS, after] of [
      [0, '0x98000'],
      [1, '0x99000'],
    ] as const) {
      const t = createTableRig({ capabilities: { idr5: { DS } } });
      t.stream({ S2VMID: 3 });
      t.context();
      t.map(S1_ROOT, VA, OLD, S1_PAGE);
      t.ask(VA);
      t.map(S1_ROOT, VA, NEW, S1_PAGE);
      t.run(command(COMMAND.TLBI_NH_VAA, { VMID: 3, TG: 1, NUM: 1, SCALE: 32, ADDR: 0 }));
      expect(t.ask(VA)).toBe(after);
    }
  });

  test('an entry of a contiguous group goes with any page of it', () => {
    const CONTIGUOUS = 1n << 52n;
    const t = createTableRig({ caches: { contiguousGroups: true } });
    t.stream({ CONFIG: 6, ...t.stage2() });
    for (let n = 0n; n < 16n; n++)
      t.map(S2_ROOT, 0x10_0000n + n * 0x1000n, 0x20_0000n + n * 0x1000n, LEAF | CONTIGUOUS);
    expect(t.ask(0x10_3000n)).toBe('0x203000');
    for (let n = 0n; n < 16n; n++)
      t.map(S2_ROOT, 0x10_0000n + n * 0x1000n, 0x30_0000n + n * 0x1000n, LEAF | CONTIGUOUS);
    expect(t.ask(0x10_f000n)).toBe('0x20f000');
    t.run(command(COMMAND.TLBI_S2_IPA, { VMID: 3, ...at(0x10_7000n) }));
    expect(t.ask(0x10_f000n)).toBe('0x30f000');
  });
});
