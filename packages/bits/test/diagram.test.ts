import {
  addr,
  defineLayout,
  diagram,
  diagramSvg,
  enumeration,
  flag,
  ignored,
  markdownTable,
  uint,
} from '@iommukit/bits';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { layouts } from './arbitraries.ts';

const ENTRY = defineLayout({
  name: 'ENTRY',
  bits: 64,
  spec: 'none 1.2',
  fields: {
    P: flag(0, 'present'),
    TT: enumeration(3, 2, { OFF: 0, ON: 1 }, 'translation | type'),
    ADDR: addr(51, 12, 'table'),
    SW: ignored(63, 62),
  },
});

test('text: highest bit left, reserved runs shown', () => {
  expect(diagram(ENTRY)).toBe(
    [
      'ENTRY, 64 bits, none 1.2',
      '  63 62   61    52   51 12   11     4   3 2      1       0',
      '+-------+----------+-------+----------+-----+----------+---+',
      '|  SW   | reserved | ADDR  | reserved | TT  | reserved | P |',
      '+-------+----------+-------+----------+-----+----------+---+',
      '',
    ].join('\n'),
  );
});

test('text: a field over two rows is shown in both with its own bits', () => {
  const wide = defineLayout({ name: 'W', bits: 64, spec: 'x', fields: { ID: uint(40, 4) } });
  expect(diagram(wide, { rowBits: 32 })).toBe(
    [
      'W, 64 bits, x',
      '  31     4   3      0',
      '+----------+----------+',
      '| ID[27:0] | reserved |',
      '+----------+----------+',
      '  63    41   40     32',
      '+----------+-----------+',
      '| reserved | ID[36:28] |',
      '+----------+-----------+',
      '',
    ].join('\n'),
  );
});

test('text: no line exceeds 100 columns unless 16 bits alone do', () => {
  const names = Array.from({ length: 64 }, (_, bit) => [`F${bit}`, flag(bit)] as const);
  const fields = Object.fromEntries(names);
  const full = defineLayout({ name: 'FULL', bits: 64, spec: 'x', fields });
  const lines = diagram(full).split('\n');
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(100);
  expect(lines.length).toBe(1 + 4 * 4 + 1);
});

test('text: every row is complete and aligned on random layouts', () => {
  fc.assert(
    fc.property(layouts, fc.constantFrom(8, 16, 32, 64), (layout, rowBits) => {
      const lines = diagram(layout, { rowBits }).trimEnd().split('\n').slice(1);
      expect(lines.length).toBe(4 * Math.ceil(layout.bits / rowBits));
      for (let row = 0; row < lines.length; row += 4) {
        const [numbers, rule, cells, again] = lines.slice(row, row + 4) as [
          string,
          string,
          string,
          string,
        ];
        expect([cells.length, again]).toEqual([rule.length, rule]);
        const shown = numbers.trim().split(/\s+/).map(Number);
        const top = Math.min((row / 4 + 1) * rowBits, layout.bits) - 1;
        expect([shown[0], shown.at(-1)]).toEqual([top, (row / 4) * rowBits]);
        expect([...rule].map((c) => c === '+')).toEqual([...cells].map((c) => c === '|'));
      }
    }),
    { numRuns: 150 },
  );
});

test('markdown: one row per run of bits, codes listed, bars escaped', () => {
  expect(markdownTable(ENTRY)).toBe(
    [
      '| Bits | Field | Kind | Meaning |',
      '| ---: | --- | --- | --- |',
      '| 63:62 | `SW` | ignored |  |',
      '| 61:52 | reserved | mbz | reserved, must be zero |',
      '| 51:12 | `ADDR` | addr | table |',
      '| 11:4 | reserved | mbz | reserved, must be zero |',
      '| 3:2 | `TT` | enumeration | translation \\| type: 0 = OFF, 1 = ON |',
      '| 1 | reserved | mbz | reserved, must be zero |',
      '| 0 | `P` | flag | present |',
      '',
    ].join('\n'),
  );
});

test('svg: well-formed, every bit drawn once, text escaped', () => {
  const odd = defineLayout({
    name: 'ODD',
    bits: 64,
    spec: 'a<b & c',
    fields: { A: uint(40, 8, 'x < y'), B: flag(0) },
  });
  const svg = diagramSvg(odd);
  expect(svg).toContain('<title>ODD, 64 bits, a&lt;b &amp; c</title>');
  expect(svg).toContain('<title>A[32:24] [40:32] x &lt; y</title>');
  const boxes = [...svg.matchAll(/<rect x="(\d+)" y="(\d+)" width="(\d+)"/g)];
  const drawn = boxes.flatMap(([, x, y, width]) =>
    Array.from({ length: Number(width) / 14 }, (_, i) => `${y}:${Number(x) + i * 14}`),
  );
  expect(new Set(drawn).size).toBe(64);
  expect(drawn.length).toBe(64);
  const opened = [...svg.matchAll(/<(\w+)[^>]*?(\/?)>/g)].filter((tag) => tag[2] === '');
  expect(opened.length).toBe([...svg.matchAll(/<\/\w+>/g)].length);
});
