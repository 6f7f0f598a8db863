/**
 * Bit diagrams: text, Markdown, SVG.
 * @module
 */
import { type Span, spansOf } from './explain.ts';
import { bitRange, type Layout } from './layout.ts';

/** What {@link diagram} takes besides the layout. */
export interface DiagramOptions {
  /** Bits per row. Left out: 64, or 32, if no line then exceeds 100 columns; otherwise 16. */
  readonly rowBits?: number;
}

const MAX_COLUMNS = 100;

/** The cells of each row, lowest row first; a field that crosses rows has a cell in each. */
export function rowsOf(layout: Layout, rowBits: number): Span[][] {
  const rows: Span[][] = [];
  for (let base = 0; base < layout.bits; base += rowBits) {
    const top = Math.min(base + rowBits, layout.bits) - 1;
    const cells = spansOf(layout).filter((span) => span.hi >= base && span.lo <= top);
    rows.push(
      cells.map((span) => ({ ...span, hi: Math.min(span.hi, top), lo: Math.max(span.lo, base) })),
    );
  }
  return rows;
}

/** Name of a cell; with the part of the field it shows when the field crosses rows. */
export function cellName({ hi, lo, field }: Span): string {
  if (field === undefined) return 'reserved';
  const whole = hi === field.hi && lo === field.lo;
  return whole ? field.name : `${field.name}[${bitRange(hi - field.lo, lo - field.lo)}]`;
}

function center(text: string, width: number): string {
  const left = (width - text.length) >> 1;
  return ' '.repeat(left) + text + ' '.repeat(width - text.length - left);
}

function bitNumbers({ hi, lo }: Span, width: number): string {
  return hi === lo ? center(`${hi}`, width) : `${hi}${`${lo}`.padStart(width - `${hi}`.length)}`;
}

function rowText(cells: readonly Span[]): string[] {
  const widths = cells.map((cell) =>
    Math.max(cellName(cell).length, bitRange(cell.hi, cell.lo).length),
  );
  const rule = `+${widths.map((width) => '-'.repeat(width + 2)).join('+')}+`;
  const numbers = cells.map((cell, i) => ` ${bitNumbers(cell, widths[i] as number)} `).join(' ');
  const names = cells.map((cell, i) => ` ${center(cellName(cell), widths[i] as number)} `);
  return [` ${numbers}`.trimEnd(), rule, `|${names.join('|')}|`, rule];
}

function linesOf(layout: Layout, rowBits: number): string[] {
  return rowsOf(layout, rowBits).flatMap(rowText);
}

function linesThatFit(layout: Layout): string[] {
  for (const rowBits of [64, 32]) {
    const lines = linesOf(layout, rowBits);
    if (lines.every((line) => line.length <= MAX_COLUMNS)) return lines;
  }
  return linesOf(layout, 16);
}

/**
 * The layout as boxes of text, highest bit at the left, lowest row first.
 * @throws {RangeError} when `rowBits` is not a positive integer
 */
export function diagram(layout: Layout, { rowBits }: DiagramOptions = {}): string {
  if (rowBits !== undefined && (!Number.isInteger(rowBits) || rowBits < 1))
    throw new RangeError(`diagram: rowBits is ${rowBits}, expected an integer above 0`);
  const lines = rowBits === undefined ? linesThatFit(layout) : linesOf(layout, rowBits);
  const title = `${layout.name}, ${layout.bits} bits, ${layout.spec}`;
  return `${[title, ...lines].join('\n')}\n`;
}

function escapeCell(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('|', '\\|').replaceAll('\n', ' ');
}

function meaning({ field }: Span): string {
  if (field === undefined) return 'reserved, must be zero';
  const codes = Object.entries(field.symbols ?? {}).map(([symbol, code]) => `${code} = ${symbol}`);
  return [field.doc, codes.join(', ')].filter((part) => part !== '').join(': ');
}

/** The layout as a Markdown table (bits, field, kind, meaning), highest bits first. */
export function markdownTable(layout: Layout): string {
  const rows = spansOf(layout).map((span) =>
    [
      bitRange(span.hi, span.lo),
      span.field ? `\`${span.field.name}\`` : 'reserved',
      span.field?.kind ?? 'mbz',
      escapeCell(meaning(span)),
    ].join(' | '),
  );
  return `${['Bits | Field | Kind | Meaning', '---: | --- | --- | ---', ...rows]
    .map((row) => `| ${row} |`)
    .join('\n')}\n`;
}
