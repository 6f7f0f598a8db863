import {
  addr,
  decode,
  defineLayout,
  encode,
  enumeration,
  explain,
  flag,
  mbz,
  uint,
} from '@iommukit/bits';
import { describe, expect, test } from 'vitest';

const PASID_ENTRY = defineLayout({
  name: 'PASID_ENTRY',
  bits: 512,
  spec: 'VT-d 9.6',
  doc: 'scalable-mode PASID table entry',
  fields: {
    P: flag(0, 'present'),
    FPD: flag(1, 'fault processing disable'),
    AW: uint(4, 2, 'second-stage address width'),
    PGTT: enumeration(
      8,
      6,
      { FIRST: 1, SECOND: 2, NESTED: 3, PASS_THROUGH: 4 },
      'translation type',
    ),
    SSADE: flag(9, 'second-stage access/dirty enable'),
    SSPTPTR: addr(63, 12, 'second-stage table'),
    DID: uint(79, 64, 'domain identifier'),
    PWSNP: flag(87, 'page-walk snoop'),
    PGSNP: flag(88, 'page snoop'),
    PAT: uint(127, 96, 'page attribute table'),
    SRE: flag(128, 'supervisor requests enable'),
    FSPM: enumeration(131, 130, { LEVELS_4: 0, LEVELS_5: 1 }, 'first-stage paging mode'),
    WPE: flag(132, 'write protect enable'),
    EAFE: flag(135, 'extended accessed flag enable'),
    FSPTPTR: addr(191, 140, 'first-stage table'),
    QW3: mbz(255, 192),
  },
});

const FRCD = defineLayout({
  name: 'FRCD',
  bits: 128,
  spec: 'VT-d 11.4',
  fields: {
    FI: addr(63, 12, 'fault info: page address'),
    SID: uint(79, 64),
    T2: flag(92),
    PRIV: flag(93),
    EXE: flag(94),
    PP: flag(95),
    FR: uint(103, 96),
    PV: uint(123, 104),
    AT: uint(125, 124),
    T1: flag(126),
    F: flag(127),
  },
});

const DTE = defineLayout({
  name: 'DTE',
  bits: 256,
  spec: 'AMD-Vi 2.2.2',
  fields: {
    V: flag(0),
    TV: flag(1),
    HAD: uint(8, 7),
    Mode: uint(11, 9),
    HostPageTableRootPtr: addr(51, 12),
    PPR: flag(52),
    GIoV: flag(54),
    GV: flag(55),
    GLX: uint(57, 56),
    GCR3_14_12: uint(60, 58),
    IR: flag(61),
    IW: flag(62),
    DomainID: uint(79, 64),
    GCR3_30_15: uint(95, 80),
    I: flag(96),
    GCR3_51_31: uint(127, 107),
  },
});

const CMD_PREFETCH = defineLayout({
  name: 'CMD_PREFETCH_ADDR',
  bits: 128,
  spec: 'SMMUv3 4.2',
  fields: {
    Opcode: uint(7, 0),
    SSV: flag(11),
    SubstreamID: uint(31, 12),
    StreamID: uint(63, 32),
    Size: uint(68, 64),
    Address: addr(127, 76),
  },
});

/** 64-bit words, lowest first, as specifications and recordings write an entry. */
function qwords(...words: bigint[]): number[] {
  return words.flatMap((word) => [Number(word & 0xffffffffn), Number(word >> 32n)]);
}

describe('entries equal the words computed for them elsewhere', () => {
  test.each([
    [
      'second stage, table 0x10000, 4 levels, domain 7',
      { P: 1, AW: 2, PGTT: 'SECOND', SSPTPTR: 0x10000, DID: 7, PWSNP: 1 } as const,
      [0x10089n, 0x800007n, 0n, 0n, 0n, 0n, 0n, 0n],
    ],
    [
      'first stage, 5 levels, SRE, WPE, EAFE',
      {
        P: 1,
        PGTT: 'FIRST',
        DID: 8,
        PWSNP: 1,
        SRE: 1,
        FSPM: 'LEVELS_5',
        WPE: 1,
        EAFE: 1,
        FSPTPTR: 0x30000,
      } as const,
      [0x41n, 0x800008n, 0x30095n, 0n, 0n, 0n, 0n, 0n],
    ],
    [
      'nested, second stage 0x10000, first stage at GPA 0x30000',
      {
        P: 1,
        AW: 2,
        PGTT: 'NESTED',
        SSPTPTR: 0x10000,
        DID: 9,
        PWSNP: 1,
        SRE: 1,
        FSPTPTR: 0x30000,
      } as const,
      [0x100c9n, 0x800009n, 0x30001n, 0n, 0n, 0n, 0n, 0n],
    ],
    [
      'pass-through',
      { P: 1, AW: 2, PGTT: 'PASS_THROUGH', DID: 1, PWSNP: 1 } as const,
      [0x109n, 0x800001n, 0n, 0n, 0n, 0n, 0n, 0n],
    ],
  ])('VT-d 9.6 PASID entry: %s', (_, values, words) => {
    expect([...encode(PASID_ENTRY, values)]).toEqual(qwords(...words));
  });

  test('VT-d 11.4 FRCD: read with PASID 0x12345, reason 0x79', () => {
    const words = qwords(0x80006000n, 0xc123457980000020n);
    expect(decode(FRCD, words)).toEqual({
      FI: 0x80006000,
      SID: 0x20,
      T2: 0,
      PRIV: 0,
      EXE: 0,
      PP: 1,
      FR: 0x79,
      PV: 0x12345,
      AT: 0,
      T1: 1,
      F: 1,
    });
  });

  test('AMD-Vi 2.2.2 DTE: nested, host root 0x123456000, GCR3 root 0x876543000', () => {
    const gcr3 = 0x876543n; // frame number
    const words = encode(DTE, {
      V: 1,
      TV: 1,
      Mode: 4,
      HostPageTableRootPtr: 0x123456000,
      PPR: 1,
      GIoV: 1,
      GV: 1,
      GLX: 1,
      GCR3_14_12: gcr3 & 7n,
      GCR3_30_15: (gcr3 >> 3n) & 0xffffn,
      GCR3_51_31: gcr3 >> 19n,
      IR: 1,
      IW: 1,
      DomainID: 0x13,
      I: 1,
    });
    expect([...words]).toEqual(qwords(0x6dd0000123456803n, 0x00008001eca80013n, 0n, 0n));
  });

  test('SMMUv3 4.2 CMD_PREFETCH_ADDR', () => {
    const words = encode(CMD_PREFETCH, {
      Opcode: 2,
      SSV: 1,
      SubstreamID: 5,
      StreamID: 0x17,
      Size: 3,
      Address: 0x7f0000001000n,
    });
    expect([...words]).toEqual(qwords(0x1700005802n, 0x7f0000001003n));
  });
});

describe('explain', () => {
  const rows = explain(PASID_ENTRY, qwords(0x100e9n, 0n, 0n, 1n, 0n, 0n, 0n, 0n));
  const row = (bits: string) => rows.find((each) => each.bits === bits);

  test('a field has its value, hexadecimal text and meaning, and no reserved mark', () => {
    expect(row('63:12')).toEqual({
      bits: '63:12',
      name: 'SSPTPTR',
      value: 0x10000,
      text: '0x10000',
      doc: 'second-stage table',
    });
  });

  test('a code with a name has the name', () => {
    expect(row('8:6')).toMatchObject({ value: 3, symbol: 'NESTED' });
  });

  test('a code without a name has none', () => {
    const [odd] = explain(PASID_ENTRY, qwords(7n << 6n, 0n, 0n, 0n, 0n, 0n, 0n, 0n)).filter(
      (each) => each.name === 'PGTT',
    );
    expect(odd).toEqual({
      bits: '8:6',
      name: 'PGTT',
      value: 7,
      text: '0x7',
      doc: 'translation type',
    });
  });

  test('reserved bits, undeclared or named, say whether one is set', () => {
    expect(row('5')).toEqual({
      bits: '5',
      name: 'reserved',
      value: 1,
      text: '0x1',
      doc: 'reserved, must be zero',
      reservedBitsSet: true,
    });
    expect(row('255:192')).toMatchObject({ name: 'QW3', value: 1n, reservedBitsSet: true });
    expect(row('11:10')).toMatchObject({ name: 'reserved', value: 0, reservedBitsSet: false });
    expect(row('511:256')).toMatchObject({ value: 0n, reservedBitsSet: false });
  });

  test('rows go from the highest bit to bit 0 without a gap', () => {
    const ends = rows.map(({ bits }) => bits.split(':').map(Number));
    expect(ends[0]?.[0]).toBe(511);
    expect(ends.at(-1)?.at(-1)).toBe(0);
    for (let i = 1; i < ends.length; i++)
      expect((ends[i] as number[])[0]).toBe(((ends[i - 1] as number[]).at(-1) as number) - 1);
  });
});
