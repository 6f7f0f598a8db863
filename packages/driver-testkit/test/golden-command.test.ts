/** The command that replays recordings, as somebody meets it who has a folder of them. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { replaySequence } from '@iommukit/driver-testkit';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { goldenSequences } from './golden-data.ts';

/** The part of the command that the tests use. */
interface Command {
  main(args: readonly string[], load: () => Promise<object>): Promise<number>;
}

const script = new URL('../scripts/golden.mjs', import.meta.url);
const { main }: Command = await import(/* @vite-ignore */ script.href);

const folder = mkdtempSync(join(tmpdir(), 'golden-'));
afterAll(() => rmSync(folder, { recursive: true }));

const good = goldenSequences('systematic').find(({ name }) => name === '03_map_overlap');
const bad = {
  ...good,
  name: 'bad',
  steps: good?.steps.map((step, at) => (at === 7 ? { ...step, err: 'EIO' } : step)),
};
const noIommu = goldenSequences('noiommu')[0];

const put = (name: string, content: unknown, pack = (text: string): string | Buffer => text) => {
  const path = join(folder, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, pack(typeof content === 'string' ? content : JSON.stringify(content)));
  return path;
};

const run = async (...args: string[]) => {
  const lines: string[] = [];
  const keep = (line: string) => {
    lines.push(line);
  };
  const out = vi.spyOn(console, 'log').mockImplementation(keep);
  const err = vi.spyOn(console, 'error').mockImplementation(keep);
  const status = await main(args, async () => ({ replaySequence }));
  out.mockRestore();
  err.mockRestore();
  return { status, lines, last: lines.at(-1) };
};

const steps = good?.steps.length ?? 0;

describe('golden', () => {
  const plain = put('all/plain.json', good);
  put('all/packed.json.gz', good, gzipSync);
  put('all/lines.jsonl', `${JSON.stringify(good)}\n${JSON.stringify(good)}\n`);
  put('all/structs.json', { DESTROY: {} });
  put('all/notes.md', 'no recording');
  put('all/type1-vtd-legacy/one.json', good);
  const different = put('different.json', bad);
  const broken = put('broken.json', '{');
  const noiommu = put('noiommu/one.json', noIommu);

  it('replays a file', async () => {
    expect(await run(plain)).toMatchObject({
      status: 0,
      lines: [`1 sequences, ${steps} steps, 0 different`],
    });
  });

  it('migrates on the way when asked to', async () => {
    const expected = { status: 0, last: `1 sequences, ${steps} steps, 0 different` };
    expect(await run('--migrate=10', plain)).toMatchObject(expected);
    const { status, last } = await run('--migrate=none', plain);
    expect([status, last]).toEqual([2, expect.stringContaining('expected a number of steps')]);
  });

  it('replays a folder: .json, .gz, .jsonl; passes over what is no recording', async () => {
    const { status, lines } = await run(join(folder, 'all'));
    expect(status).toBe(0);
    expect(lines).toEqual([
      "1 sequences of VFIO's own type1 back end skipped",
      `4 sequences, ${4 * steps} steps, 0 different`,
    ]);
  });

  it('lists differences with file, step, expected and got', async () => {
    const { status, lines, last } = await run(different, plain);
    expect(status).toBe(1);
    expect(lines[0]).toMatch(/different\.json \(bad\) step 7: ioctl IOAS_MAP/);
    expect(lines[0]).toMatch(/\n {2}expected .*EIO.*\n {2}got {6}.*EEXIST/);
    expect(last).toBe(`2 sequences, ${2 * steps} steps, 1 different`);
  });

  it('knows the platform by the folder, or by the option', async () => {
    expect((await run(noiommu)).status).toBe(0);
    expect((await run('--platform', 'mock', noiommu)).status).toBe(1);
  });

  it('is a program', () => {
    const call = () => execFileSync(process.execPath, [script.pathname], { stdio: 'pipe' });
    expect(call).toThrow(/usage: golden/);
  });

  it.each<[string, string[], RegExp]>([
    ['a missing path', [join(folder, 'nowhere')], /nowhere: no such file or folder/],
    ['a file that is no JSON', [broken], /broken\.json: not JSON/],
    ['a file of another kind', [join(folder, 'all/notes.md')], /notes\.md: a recording ends in/],
    ['an unknown platform', ['--platform', 'amd', plain], /no platform 'amd'/],
    ['an unknown option', ['--fast', plain], /usage/],
    ['no path', [], /usage/],
  ])('%s ends with status 2 and says so', async (_title, args, message) => {
    const { status, lines } = await run(...args);
    expect([status, lines.join('\n')]).toEqual([2, expect.stringMatching(message)]);
  });

  it('a folder without recordings ends with status 1 and says so', async () => {
    mkdirSync(join(folder, 'empty'));
    expect(await run(join(folder, 'empty'))).toMatchObject({
      status: 1,
      lines: ['no recordings in empty', '0 sequences, 0 steps, 0 different'],
    });
  });

  it('a sequence with a step nobody knows is a difference', async () => {
    const odd = put('odd.json', { name: 'odd', steps: [{ op: 'dance' }] });
    const { status, lines } = await run(odd);
    expect(status).toBe(1);
    expect(lines[0]).toMatch(/no operation 'dance' is known/);
  });
});
