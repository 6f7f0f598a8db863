import {
  type Access,
  addr,
  decode,
  defineLayout,
  defineRegister,
  diagram,
  encode,
  enumeration,
  explain,
  type FieldSpec,
  flag,
  type Kinds,
  maskOf,
  mbz,
  uint,
  update,
} from '@iommukit/bits';
import { describe, expect, test } from 'vitest';

function declare(fields: Record<string, FieldSpec<Kinds[string]>>, bits = 64) {
  return () => defineLayout<Kinds>({ name: 'L', bits, spec: 'none', fields });
}

describe('defineLayout refuses', () => {
  test.each([
    ['a width of 0', declare({}, 0), 'L: bits is 0, expected 8, 16 or a multiple of 32 up to 512'],
    ['a width of 48', declare({}, 48), 'L: bits is 48, expected'],
    ['a width above 512', declare({}, 544), 'L: bits is 544, expected'],
    ['a width that is no number', declare({}, Number.NaN), 'L: bits is NaN, expected'],
    [
      'two fields on one bit, naming both',
      declare({ A: uint(7, 4), B: flag(4) }),
      /^L: fields (A \[7:4\] and B \[4\]|B \[4\] and A \[7:4\]) overlap at bit 4$/,
    ],
    [
      'a field inside another, whatever the order',
      declare({ X: uint(9, 8), FAR: flag(60), A: uint(40, 0) }),
      'L: fields X [9:8] and A [40:0] overlap at bit 8',
    ],
    [
      'a named reserved run over a field',
      declare({ A: flag(3), Z: mbz(5, 3) }),
      /A \[3\].*overlap|overlap at bit 3/,
    ],
    [
      'a field above the entry',
      declare({ OK: flag(0), A: uint(64, 60) }),
      'L: field A [64:60] is out of range: L has bits 63:0',
    ],
    ['a bit below 0', declare({ A: uint(3, -1) }), 'L: field A [3:-1] is out of range'],
    [
      'hi below lo',
      declare({ A: uint(3, 5) }),
      'L: field A [3:5]: the high bit comes first, expected [5:3]',
    ],
    [
      'a fraction as a bit number',
      declare({ A: flag(1.5) }),
      'L: field A [1.5:1.5]: bit numbers must be integers',
    ],
    [
      'an address over two 64-bit words',
      declare({ A: addr(70, 60) }, 128),
      'L: field A [70:60]: an addr field must lie inside one 64-bit word; split it or use uint',
    ],
    [
      'a flag made wider by hand',
      declare({ A: { ...flag(1), hi: 2 } }),
      'L: flag A has more than one bit; use uint',
    ],
    [
      'an enumeration too wide for numbers',
      declare({ A: enumeration(53, 0, { X: 1 }) }),
      'L: enumeration A [53:0] is 54 bits wide, at most 53 can have symbols',
    ],
    [
      'a symbol that does not fit',
      declare({ A: enumeration(1, 0, { X: 4 }) }),
      'L: enumeration A [1:0]: symbol X is 0x4, expected 0 to 0x3',
    ],
    [
      'a negative symbol',
      declare({ A: enumeration(1, 0, { X: -1 }) }),
      'symbol X is -0x1, expected 0 to 0x3',
    ],
    [
      'two symbols with one code',
      declare({ A: enumeration(1, 0, { X: 1, Y: 1 }) }),
      'L: enumeration A [1:0]: symbols X and Y are both 0x1',
    ],
  ])('%s', (_, run, message) => {
    expect(run).toThrow(RangeError);
    expect(run).toThrow(message);
  });
});

const E = defineLayout({
  name: 'E',
  bits: 128,
  spec: 'none',
  fields: {
    R: flag(0),
    T: enumeration(3, 1, { OFF: 0, ON: 5 }),
    Z: mbz(7, 4),
    ADDR: addr(51, 12),
    WIDE: uint(127, 64),
  },
});

describe('encode refuses', () => {
  test.each<[string, object, string]>([
    ['an unknown field', { Q: 1 }, 'E has no field Q; its fields are R, T, Z, ADDR, WIDE'],
    ['a name every object has', { toString: 1 }, 'E has no field toString'],
    ['2 in a flag', { R: 2 }, 'E.R [0]: 0x2 does not fit, expected 0 to 0x1'],
    ['a negative number', { T: -1 }, 'E.T [3:1]: -0x1 does not fit, expected 0 to 0x7'],
    ['a negative bigint', { T: -1n }, 'E.T [3:1]: -0x1 does not fit, expected 0 to 0x7'],
    ['a fraction', { T: 1.5 }, 'E.T [3:1]: 1.5 does not fit'],
    ['NaN', { T: Number.NaN }, 'E.T [3:1]: NaN does not fit'],
    ['a boolean', { R: true }, 'E.R [0]: true does not fit'],
    ['undefined', { R: undefined }, 'E.R [0]: undefined does not fit'],
    ['an unknown symbol', { T: 'on' }, "E.T [3:1]: no symbol 'on', expected OFF, ON or 0 to 0x7"],
    ['a symbol every object has', { T: 'valueOf' }, "E.T [3:1]: no symbol 'valueOf'"],
    ['a string for a number', { R: '1' }, "E.R [0]: '1' is a string, expected 0 to 0x1"],
    [
      'a value for reserved bits',
      { Z: 0 },
      'E.Z [7:4] is reserved and must stay zero; leave it out',
    ],
    [
      'an address with an offset',
      { ADDR: 0x1800 },
      'E.ADDR [51:12]: 0x1800 does not fit, expected a multiple of 0x1000 up to 0xffffffffff000',
    ],
    ['an address with an offset, bigint', { ADDR: 0x1001n }, 'expected a multiple of 0x1000'],
    ['an address too high', { ADDR: 2 ** 52 }, 'E.ADDR [51:12]: 0x10000000000000 does not fit'],
    ['an inexact number', { WIDE: 2 ** 53 }, 'E.WIDE [127:64]: 0x20000000000000 does not fit'],
    [
      'a bigint too high',
      { WIDE: 1n << 64n },
      'E.WIDE [127:64]: 0x10000000000000000 does not fit, expected 0 to 0xffffffffffffffff',
    ],
  ])('%s, and update changes no word', (_, values, message) => {
    expect(() => encode(E, values)).toThrow(RangeError);
    expect(() => encode(E, values)).toThrow(message);
    const words = Uint32Array.of(1, 2, 3, 4);
    expect(() => update(E, words, { R: 0, ...values })).toThrow(message);
    expect([...words]).toEqual([1, 2, 3, 4]);
  });
});

describe('an entry that is not wholly inside the words is refused', () => {
  test.each([-1, 0.5, 2, Number.NaN])('at index %d of 5', (at) => {
    const words = new Uint32Array(5);
    const message = `E: 4 words at index ${at} do not lie inside the 5 given`;
    expect(() => decode(E, words, at)).toThrow(message);
    expect(() => explain(E, words, at)).toThrow(message);
    expect(() => update(E, words, { R: 1 }, at)).toThrow(message);
    expect([...words]).toEqual([0, 0, 0, 0, 0]);
  });
});

describe('defineRegister refuses', () => {
  const register = (change: object) => () =>
    defineRegister<Kinds>({
      name: 'REG',
      offset: 0x10,
      bits: 32,
      spec: 'none',
      fields: { A: { ...uint(7, 0), access: 'RW' } },
      ...change,
    });

  test.each<[string, object, string]>([
    ['an unaligned offset', { offset: 6 }, 'REG: offset is 0x6, expected a multiple of 4 bytes'],
    ['a negative offset', { offset: -4 }, 'REG: offset is -0x4'],
    ['a width of 96', { bits: 96 }, 'REG: a register of 96 bits, expected 32, 64 or 128'],
    [
      'a field without access',
      { fields: { A: uint(7, 0) } },
      'REG: field A has access undefined, expected RO, RW, RW1C, WO',
    ],
    [
      'an unknown access',
      { fields: { A: { ...uint(7, 0), access: 'W1C' as Access } } },
      'REG: field A has access W1C, expected RO, RW, RW1C, WO',
    ],
    [
      'an unknown access of reserved bits',
      { fields: { Z: { ...mbz(7, 0), access: 'W1C' as Access } } },
      'REG: field Z has access W1C',
    ],
    [
      'a reset value too wide',
      { reset: 2 ** 32 },
      'REG: reset 0x100000000 does not fit its 32 bits',
    ],
    ['a negative reset value', { reset: -1 }, 'REG: reset -0x1 does not fit its 32 bits'],
    ['an inexact reset value', { reset: 2 ** 53 }, 'pass a bigint above 2^53 - 1'],
    [
      'a reset value in reserved bits',
      { reset: 0x1ff },
      'REG: reset 0x1ff sets reserved bits 0x100 of u32 0; declare them or clear them',
    ],
    ['an unknown field in the reset value', { reset: { B: 1 } }, 'REG has no field B'],
    ['overlapping fields', { fields: { A: flag(1), B: flag(1) } }, 'overlap at bit 1'],
  ])('%s', (_, change, message) => {
    expect(register(change)).toThrow(RangeError);
    expect(register(change)).toThrow(message);
  });
});

test('maskOf refuses an unknown field', () => {
  // @ts-expect-error no such field
  expect(() => maskOf(E, 'R', 'Q')).toThrow('E has no field Q; its fields are R, T, Z, ADDR, WIDE');
});

test.each([0, -1, 1.5, Number.NaN])('diagram refuses %d bits per row', (rowBits) => {
  expect(() => diagram(E, { rowBits })).toThrow(
    `diagram: rowBits is ${rowBits}, expected an integer above 0`,
  );
});
