/**
 * Bit diagrams as SVG.
 * @module
 */
import { cellName, rowsOf } from './diagram.ts';
import type { Span } from './explain.ts';
import { bitRange, type Layout } from './layout.ts';

/** Pixels of a drawing; 14 per bit holds a two-digit bit number. */
const BIT_WIDTH = 14;
const ROW_HEIGHT = 52;
const BOX_HEIGHT = 28;
const MARGIN = 8;
const CHAR_WIDTH = 7;
const ROW_BITS = 32;

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;' };

function escapeText(text: string): string {
  return text.replace(/[&<>]/g, (char) => ENTITIES[char] as string);
}

function cellSvg(cell: Span, top: number, y: number): string {
  const x = MARGIN + (top - cell.hi) * BIT_WIDTH;
  const width = (cell.hi - cell.lo + 1) * BIT_WIDTH;
  const name = cellName(cell);
  const fits = name.length * CHAR_WIDTH <= width;
  const middle = x + width / 2;
  const boxY = y + ROW_HEIGHT - BOX_HEIGHT - MARGIN;
  const title = `${name} [${bitRange(cell.hi, cell.lo)}] ${cell.field?.doc ?? ''}`.trim();
  const spread = fits ? '' : ` textLength="${width - 2}" lengthAdjust="spacingAndGlyphs"`;
  return [
    `<g><title>${escapeText(title)}</title>`,
    `<rect x="${x}" y="${boxY}" width="${width}" height="${BOX_HEIGHT}"${cell.field ? '' : ' class="reserved"'}/>`,
    `<text x="${middle}" y="${boxY + 18}"${spread}>${escapeText(name)}</text>`,
    `<text x="${middle}" y="${boxY - 3}" class="bit">${bitNumber(cell)}</text></g>`,
  ].join('');
}

function bitNumber({ hi, lo }: Span): string {
  return hi - lo < 3 && hi !== lo ? `${hi}` : bitRange(hi, lo);
}

/** The layout as one SVG drawing, 32 bits per row, lowest row first, each field with its doc as title. */
export function diagramSvg(layout: Layout): string {
  const perRow = Math.min(ROW_BITS, layout.bits);
  const rows = rowsOf(layout, ROW_BITS);
  const width = perRow * BIT_WIDTH + 2 * MARGIN;
  const height = rows.length * ROW_HEIGHT + MARGIN;
  const cells = rows.flatMap((row, index) =>
    row.map((cell) => cellSvg(cell, index * ROW_BITS + perRow - 1, index * ROW_HEIGHT)),
  );
  const label = escapeText(`${layout.name}, ${layout.bits} bits, ${layout.spec}`);
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" role="img">`,
    `<title>${label}</title>`,
    '<style>rect{fill:#fff;stroke:#333}rect.reserved{fill:#ddd}' +
      'text{font:12px monospace;text-anchor:middle}text.bit{font-size:9px}</style>',
    ...cells,
    '</svg>',
  ].join('\n')}\n`;
}
