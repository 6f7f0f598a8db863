import {
  addr,
  defineLayout,
  type FieldSpec,
  flag,
  ignored,
  type Kinds,
  type Layout,
  mbz,
  uint,
} from '@iommukit/bits';
import fc from 'fast-check';

type AnyKind = Kinds[string];

/** Place on a run of bits every kind of field it can hold. */
function specsFor(hi: number, lo: number): FieldSpec<AnyKind>[] {
  const specs: FieldSpec<AnyKind>[] = [uint(hi, lo), uint(hi, lo), ignored(hi, lo), mbz(hi, lo)];
  if (hi >> 6 === lo >> 6) specs.push(addr(hi, lo), addr(hi, lo));
  if (hi === lo) specs.push(flag(lo));
  return specs;
}

/** Layouts whose fields tile the entry in random pieces, a few of which stay undeclared. */
export const layouts: fc.Arbitrary<Layout<Kinds>> = fc
  .record({
    bits: fc.oneof(
      fc.constantFrom(8, 16),
      fc.integer({ min: 1, max: 16 }).map((words) => words * 32),
      fc.constantFrom(256, 512),
    ),
    cuts: fc.array(fc.nat(511), { minLength: 1, maxLength: 40, size: 'max' }),
    picks: fc.infiniteStream(fc.nat(1000)),
  })
  .map(({ bits, cuts, picks }) => {
    const starts = [...new Set([0, ...cuts.map((cut) => cut % bits)])].sort((a, b) => a - b);
    const fields: Record<string, FieldSpec<AnyKind>> = {};
    const order = starts.map((lo, i) => ({
      lo,
      hi: (starts[i + 1] ?? bits) - 1,
      pick: next(picks),
    }));
    for (const { lo, hi, pick } of order.sort((a, b) => a.pick - b.pick)) {
      const specs = specsFor(hi, lo);
      if (next(picks) % 6 !== 0)
        fields[`F${lo}`] = specs[pick % specs.length] as FieldSpec<AnyKind>;
    }
    return defineLayout<Kinds>({ name: 'RANDOM', bits, spec: 'none', fields });
  });

function next(stream: Iterator<number>): number {
  return stream.next().value as number;
}

/** A 512-bit entry, ends favoured: all zeros and all ones occur. */
export const entries: fc.Arbitrary<bigint> = fc.oneof(
  { weight: 8, arbitrary: fc.bigInt({ min: 0n, max: (1n << 512n) - 1n }) },
  { weight: 1, arbitrary: fc.constantFrom(0n, (1n << 512n) - 1n) },
);
