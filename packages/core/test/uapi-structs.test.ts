/** The struct table against the sizes and offsets that a C compiler printed for Linux 7.3.4. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { commandFrom, decodeStruct, encodeStruct, fieldsOf } from '../src/uapi/codec.ts';
import { camelCase, type StructSpec, widthOf } from '../src/uapi/struct-table.ts';
import { IOMMU_STRUCTS, type IommuCommandName } from '../src/uapi/structs.ts';

interface Recorded {
  readonly ioctl: string;
  readonly size: number;
  readonly min: number;
  readonly fields: Readonly<Record<string, readonly [number, number, string]>>;
}

const recorded = JSON.parse(
  readFileSync(new URL('data/uapi-structs.json', import.meta.url), 'utf8'),
) as Record<string, Recorded>;

const names = Object.keys(IOMMU_STRUCTS) as IommuCommandName[];

describe('struct table', () => {
  it('has all 22 public ioctls, 0x3b80 to 0x3b95, without a hole', () => {
    const numbers = names.map((name) => IOMMU_STRUCTS[name].ioctl).sort();
    expect(numbers).toEqual(Array.from({ length: 22 }, (_unused, index) => 0x3b80 + index));
  });

  it.each(names)('%s has the size, minimum and fields of <linux/iommufd.h>', (name) => {
    const spec: StructSpec = IOMMU_STRUCTS[name];
    const expected = recorded[name.replace('IOMMU_', '')] as Recorded;
    expect([spec.ioctl, spec.size, spec.min]).toEqual([
      Number(expected.ioctl),
      expected.size,
      expected.min,
    ]);
    const { size: _size, ...fields } = expected.fields;
    const ours = Object.entries(spec.fields).map(([field, { at, kind }]) => [
      field,
      at,
      widthOf(kind),
    ]);
    const theirs = Object.entries(fields).map(([field, [at, width]]) => [field, at, width]);
    expect(ours.sort()).toEqual(theirs.sort());
  });

  it.each(names)('%s: the camelCase names of its fields are all different', (name) => {
    const keys = Object.keys(IOMMU_STRUCTS[name].fields).map(camelCase);
    expect(new Set(keys).size).toBe(keys.length);
  });
});

describe('codec', () => {
  it('decodes and encodes every byte of every struct (random bytes)', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...names),
        fc.uint8Array({ minLength: 48, maxLength: 48 }),
        (name, bytes) => {
          const spec: StructSpec = IOMMU_STRUCTS[name];
          const out = new Uint8Array(48);
          encodeStruct(spec, decodeStruct(spec, bytes), out);
          const covered = new Set<number>();
          for (const { at, kind } of fieldsOf(spec)) {
            for (let i = 0; i < widthOf(kind); i++) covered.add(at + i);
          }
          for (let at = 4; at < spec.size; at++) {
            expect(covered.has(at)).toBe(true);
            expect(out[at]).toBe(bytes[at]);
          }
        },
      ),
    );
  });

  it.each([
    [{ flags: 2 ** 32 }, 'flags is 4294967296'],
    [{ flags: -1 }, 'flags is -1'],
    [{ flags: 1.5 }, 'flags is 1.5'],
    [{ iova: 1n << 64n }, 'iova is 18446744073709551616'],
    [{ iova: 2 ** 53 }, 'as bigint from 2^53 on'],
    [{ userVA: 1 }, "no field 'userVA'; the struct has flags, ioasId, reserved, userVa"],
  ])('typed input %o is refused and says why', (input, message) => {
    expect(() => commandFrom(IOMMU_STRUCTS.IOMMU_IOAS_MAP, input)).toThrow(message);
  });
});
