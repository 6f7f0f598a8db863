import { decode, encode, explain, type Field, maskOf, update } from '@iommukit/bits';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { entries, layouts } from './arbitraries.ts';
import { entryOf, getBits, setBits, wordsOf } from './reference.ts';

const RUNS = 2800;
const compared = { fields: 0, crossU32: 0, crossU64: 0, wide: 0, addresses: 0 };

function count(field: Field): void {
  compared.fields++;
  if (field.hi >> 5 !== field.lo >> 5) compared.crossU32++;
  if (field.hi >> 6 !== field.lo >> 6) compared.crossU64++;
  if (field.width > 53) compared.wide++;
  if (field.kind === 'addr') compared.addresses++;
}

/** The value the reference expects: a bigint, shifted for an address. */
function expectedValue(field: Field, entry: bigint): bigint {
  const value = getBits(entry, field.hi, field.lo);
  return field.kind === 'addr' ? value << BigInt(field.lo % 64) : value;
}

/** The reference's value in the type that the library promises. */
function typed(field: Field, value: bigint): number | bigint {
  return field.width > 53 ? value : Number(value);
}

test('decode, explain and encode agree with a bigint reference on random layouts and entries', () => {
  const property = fc.property(layouts, entries, fc.nat(5), (layout, random, at) => {
    const entry = getBits(random, layout.words * 32 - 1, 0);
    const words = new Int32Array([...new Array(at).fill(-1), ...wordsOf(entry, layout.words), -1]);
    const decoded = decode(layout, words, at);
    const rows = new Map(explain(layout, words, at).map((row) => [row.bits, row]));
    const fields = layout.list.filter((field) => field.kind !== 'mbz');
    let wanted = 0n;
    for (const field of fields) {
      count(field);
      const value = typed(field, expectedValue(field, entry));
      expect(decoded[field.name]).toBe(value);
      const range = field.width === 1 ? `${field.lo}` : `${field.hi}:${field.lo}`;
      expect(rows.get(range)).toMatchObject({ name: field.name, value });
      wanted = setBits(wanted, field.hi, field.lo, getBits(entry, field.hi, field.lo));
    }
    expect(Object.keys(decoded)).toEqual(fields.map((field) => field.name));
    expect([...encode(layout, decoded)]).toEqual(wordsOf(wanted, layout.words));
    const big = fields.map((field) => [field.name, expectedValue(field, entry)]);
    expect([...encode(layout, Object.fromEntries(big))]).toEqual(wordsOf(wanted, layout.words));
  });
  fc.assert(property, { numRuns: RUNS });
});

test('masks and reserved masks agree with the reference', () => {
  const property = fc.property(layouts, (layout) => {
    let free = (1n << BigInt(layout.bits)) - 1n;
    for (const field of layout.list) {
      const mask = setBits(0n, field.hi, field.lo, -1n);
      if (field.kind !== 'mbz') free = setBits(free, field.hi, field.lo, 0n);
      expect(field.masks).toEqual(wordsOf(mask, layout.words));
      expect(field.mask).toBe(field.masks[field.word]);
      expect([field.word * 32 + field.shift, field.width]).toEqual([
        field.lo,
        field.hi - field.lo + 1,
      ]);
    }
    expect(layout.reservedMasks).toEqual(wordsOf(free, layout.words));
    const some = layout.list.filter((_, i) => i % 3 !== 1);
    const union = some.reduce((mask, f) => setBits(mask, f.hi, f.lo, -1n), 0n);
    expect(maskOf(layout, ...some.map((f) => f.name))).toEqual(wordsOf(union, layout.words));
  });
  fc.assert(property, { numRuns: 400 });
});

test('update replaces the named fields and leaves every other bit', () => {
  const property = fc.property(layouts, entries, entries, fc.nat(3), (layout, old, fresh, at) => {
    const before = getBits(old, layout.words * 32 - 1, 0);
    const words = new Uint32Array([...new Array(at).fill(7), ...wordsOf(before, layout.words), 9]);
    const chosen = layout.list.filter((field, i) => field.kind !== 'mbz' && i % 2 === 0);
    const values = chosen.map((f) => [f.name, typed(f, expectedValue(f, fresh))]);
    update(layout, words, Object.fromEntries(values), at);
    const after = chosen.reduce(
      (entry, f) => setBits(entry, f.hi, f.lo, getBits(fresh, f.hi, f.lo)),
      before,
    );
    expect(entryOf(words.subarray(at, at + layout.words))).toBe(after);
    expect([...words.subarray(0, at), words[at + layout.words]]).toEqual([
      ...new Array(at).fill(7),
      9,
    ]);
  });
  fc.assert(property, { numRuns: 400 });
});

test('a value one above a field is refused and changes no word', () => {
  const property = fc.property(layouts, entries, (layout, old) => {
    const words = Uint32Array.from(wordsOf(old, 16));
    const first = layout.list.find((field) => field.kind !== 'mbz');
    for (const field of layout.list.filter((f) => f.kind !== 'mbz')) {
      const scale = field.kind === 'addr' ? BigInt(field.lo % 64) : 0n;
      const above = (1n << BigInt(field.width)) << scale;
      const values = { [(first as Field).name]: 0, [field.name]: above };
      expect(() => update(layout, words, values)).toThrow('does not fit');
      if (scale > 0n)
        expect(() => update(layout, words, { [field.name]: 1n << (scale - 1n) })).toThrow(
          'multiple',
        );
    }
    expect([...words]).toEqual(wordsOf(old, 16));
  });
  fc.assert(property, { numRuns: 200 });
});

test('the random fields above were many, and crossed u32 and u64 borders', () => {
  expect(compared.fields).toBeGreaterThanOrEqual(20_000);
  expect(compared.crossU32).toBeGreaterThan(4000);
  expect(compared.crossU64).toBeGreaterThan(1000);
  expect(compared.wide).toBeGreaterThan(500);
  expect(compared.addresses).toBeGreaterThan(2000);
});
