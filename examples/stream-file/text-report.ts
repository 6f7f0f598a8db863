import Table from 'cli-table3';
import pc from 'picocolors';
import type { ExplainedStep } from './explained.ts';
import type { Report } from './report.ts';

const BORDERLESS = {
  chars: {
    top: '',
    'top-mid': '',
    'top-left': '',
    'top-right': '',
    bottom: '',
    'bottom-mid': '',
    'bottom-left': '',
    'bottom-right': '',
    left: '',
    'left-mid': '',
    mid: '',
    'mid-mid': '',
    right: '',
    'right-mid': '',
    middle: ' ',
  },
  style: { head: [], border: [], 'padding-left': 0, 'padding-right': 1 },
};

const heading = (text: string): string => `\n${pc.bold(text)}\n`;

const table = (rows: readonly (readonly string[])[]): string => {
  const lines = new Table(BORDERLESS);
  for (const row of rows) lines.push(row.map((cell, index) => (index === 0 ? `  ${cell}` : cell)));
  return `${lines.toString().replace(/ +$/gm, '')}\n`;
};

/** What is set up, before anything moves. */
export const setupText = (
  report: Pick<Report, 'file' | 'fileBytes' | 'guestMib' | 'setup'>,
): string =>
  heading(
    `Streaming ${report.file} (${mib(report.fileBytes)}) into a guest with ${report.guestMib} MiB`,
  ) + table(report.setup.map(({ call, made, why }) => [call, made, pc.dim(why)]));

/** Figures, one translation, one fault. */
export const resultText = (report: Report): string =>
  heading('What arrived') +
  figures(report) +
  explanation(report) +
  badDma(report) +
  verdict(report);

const figures = ({ stream, hardware, sha256 }: Report): string =>
  table([
    ['bytes', stream.bytes.toLocaleString('en-US')],
    [
      'throughput',
      `${(stream.bytesPerSecond / 1e6).toFixed(0)} MB/s (${stream.seconds.toFixed(3)} s, DMA and hash)`,
    ],
    ['translations', hardware.translations.toLocaleString('en-US')],
    ['IOTLB hit rate', `${(hardware.iotlbHitRate * 100).toFixed(1)} %`],
    ['page requests', `${stream.pageRequests.toLocaleString('en-US')} served`],
    ['SHA-256 guest', sha256.guest],
    ['SHA-256 file', sha256.file],
  ]);

const explanation = ({ explained }: Report): string =>
  heading(`One translation, step by step: ${explained.request}`) +
  explained.steps.map(stepText).join('') +
  `  ${pc.green(explained.verdict)}\n`;

const stepText = ({ what, address, words, fields }: ExplainedStep): string => {
  const indent = what.startsWith('second stage') ? '      ' : '  ';
  if (!words) return `${indent}${pc.dim(what)}\n`;
  const decoded = Object.entries(fields ?? {}).map(([name, value]) => `${name}=${value}`);
  return `${indent}${address}  ${what}\n${indent}    ${pc.dim(decoded.join('  '))}\n`;
};

const badDma = ({ badDma: bad }: Report): string =>
  heading(`One bad DMA: ${bad.attempt}`) +
  table([
    ['bytes written', String(bad.bytesWritten)],
    ...(bad.fault
      ? [
          ['fault reason', `${bad.fault.reason} ${bad.fault.name}`],
          ['fault record', bad.fault.words.join(' ')],
          ...Object.entries(bad.fault.fields).map(([name, value]) => [`  ${name}`, value]),
        ]
      : [['fault', 'none was recorded']]),
  ]);

const verdict = ({ ok, badDma: bad, sha256 }: Report): string => {
  const hashes = sha256.match ? 'the hashes match' : 'THE HASHES DIFFER';
  const stopped = bad.stopped ? 'the bad DMA was stopped' : 'THE BAD DMA WAS NOT STOPPED';
  const text = `\n${hashes}, ${stopped}\n`;
  return ok ? pc.green(text) : pc.red(text);
};

const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
