import { fileURLToPath } from 'node:url';
import {
  addr,
  type Decoded,
  decode,
  defineLayout,
  encode,
  enumeration,
  flag,
  ignored,
  type Layout,
  maskOf,
  mbz,
  uint,
  update,
} from '@iommukit/bits';
import ts from 'typescript';
import { expect, expectTypeOf, test } from 'vitest';

const T = defineLayout({
  name: 'T',
  bits: 512,
  spec: 'none',
  fields: {
    F: flag(0),
    NARROW: uint(53, 1),
    EDGE: uint(181, 128),
    WIDE: uint(511, 200),
    E: enumeration(57, 56, { A: 0, B: 1 }),
    ADDR: addr(127, 76),
    RAW: addr(190 as number, 182),
    Z: mbz(61, 60),
    SW: ignored(75, 64),
  },
});

test('types: wide fields are bigint, others number, reserved ones absent', () => {
  const values = decode(T, new Uint32Array(16));
  expectTypeOf(values.F).toEqualTypeOf<number>();
  expectTypeOf(values.NARROW).toEqualTypeOf<number>();
  expectTypeOf(values.EDGE).toEqualTypeOf<bigint>();
  expectTypeOf(values.WIDE).toEqualTypeOf<bigint>();
  expectTypeOf(values.E).toEqualTypeOf<number>();
  expectTypeOf(values.ADDR).toEqualTypeOf<number>();
  expectTypeOf(values.SW).toEqualTypeOf<number>();
  expectTypeOf(values.RAW).toEqualTypeOf<number | bigint>();
  expectTypeOf<keyof typeof values>().toEqualTypeOf<
    'F' | 'NARROW' | 'EDGE' | 'WIDE' | 'E' | 'ADDR' | 'RAW' | 'SW'
  >();
  const kinds = Object.fromEntries(Object.entries(values).map(([n, v]) => [n, typeof v]));
  expect(kinds).toEqual({
    F: 'number',
    NARROW: 'number',
    EDGE: 'bigint',
    WIDE: 'bigint',
    E: 'number',
    ADDR: 'number',
    RAW: 'number',
    SW: 'number',
  });
});

test('types: wrong names, symbols and values do not compile', () => {
  const words = new Uint32Array(16);
  // @ts-expect-error no such field
  expect(() => encode(T, { FF: 1 })).toThrow();
  // @ts-expect-error no such field
  expect(() => update(T, words, { FF: 1 })).toThrow();
  // @ts-expect-error no such symbol
  expect(() => encode(T, { E: 'C' })).toThrow();
  // @ts-expect-error a symbol for a field without any
  expect(() => encode(T, { F: 'A' })).toThrow();
  // @ts-expect-error reserved
  expect(() => encode(T, { Z: 0 })).toThrow();
  // @ts-expect-error no such field
  expect(() => maskOf(T, 'FF')).toThrow();
  // @ts-expect-error no such field
  expect(T.fields.FF).toBeUndefined();
  // @ts-expect-error no such field
  expect(decode(T, words).FF).toBeUndefined();
  // @ts-expect-error no such symbol
  expect(T.fields.E.symbols?.C).toBeUndefined();
  expect(T.fields.E.symbols?.B).toBe(1);
});

test('types: any layout passes where any layout is asked', () => {
  const nameOf = (layout: Layout) => layout.name;
  const generic = <K extends { F: 'flag' }>(values: Decoded<K>) => values;
  expect(nameOf(T)).toBe('T');
  expect(generic<{ F: 'flag' }>({ F: 1 })).toEqual({ F: 1 });
});

test('the declaration of a layout is short: names and kinds only', () => {
  const file = fileURLToPath(new URL('declared-layouts.ts', import.meta.url));
  const program = ts.createProgram([file], {
    declaration: true,
    emitDeclarationOnly: true,
    strict: true,
    exactOptionalPropertyTypes: true,
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    allowImportingTsExtensions: true,
    types: [],
    skipLibCheck: true,
  });
  expect(ts.getPreEmitDiagnostics(program).map((d) => d.messageText)).toEqual([]);
  let text = '';
  program.emit(program.getSourceFile(file), (name, out) => {
    if (name.endsWith('declared-layouts.d.ts')) text = out;
  });
  expect(text.replaceAll(/\s+/g, ' ')).toBe(
    'export declare const ENTRY: import("../src/layout.ts").Layout<{ P: "flag"; TT: ' +
      'import("../src/fields.ts").Symbols<"OFF" | "ON">; ADDR: "addr"; ID: "wide"; Z: "mbz"; }>; ' +
      'export declare const REGISTER: import("../src/register.ts").Register<{ P: "flag"; N: "uint"; }>; ',
  );
});
