import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { tools } from '../scripts/lib/tools.mjs';
import { ROOT } from '../scripts/lib/workspace.mjs';

const [program = '', ...args] = tools.biome;
let dir = '';

/** A scratch repository with our lint configuration, into which snippets are written. */
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'iommukit-lint-'));
  cpSync(join(ROOT, 'biome.json'), join(dir, 'biome.json'));
  cpSync(join(ROOT, 'tooling/lint'), join(dir, 'tooling/lint'), { recursive: true });
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** Lints one snippet at a path of the repository. */
function lint(path: string, text: string): Promise<{ status: number; output: string }> {
  mkdirSync(dirname(join(dir, path)), { recursive: true });
  writeFileSync(join(dir, path), text);
  return new Promise((resolve) => {
    execFile(
      program,
      [...args, 'lint', '--vcs-enabled=false', path],
      { cwd: dir },
      (error, stdout, stderr) => {
        resolve({ status: error ? Number(error.code) : 0, output: stdout + stderr });
      },
    );
  });
}

const BIGINT = '64-bit bigint truncation';
const NODE = 'Package sources run in browsers';

test.each([
  ['export const a = BigInt.asUintN(64, 3n);'],
  ['export const a = BigInt.asIntN(64, 3n);'],
  ["export const a = BigInt['asUintN'](64, 3n);"],
  ['export const { asUintN } = BigInt;'],
  ['export const a = globalThis.BigInt?.asIntN(64, 3n);'],
  ['export const a = new BigUint64Array(4);'],
  ['export const a = new BigInt64Array(4);'],
  ['export let a: BigUint64Array | undefined;'],
])('biome fails on `%s`, everywhere', async (text) => {
  for (const path of ['packages/core/src/a.ts', 'scripts/a.mjs', 'packages/core/test/a.test.ts']) {
    if (path.endsWith('.mjs') && text.includes('let a:')) continue;
    const { status, output } = await lint(path, `${text}\n`);
    expect(output).toContain(BIGINT);
    expect(status).toBe(1);
  }
});

test.each([
  ["import { readFileSync } from 'node:fs';\nexport const a = readFileSync;"],
  ["import type { Stats } from 'node:fs';\nexport type A = Stats;"],
  ["export * from 'node:path';"],
  ["export const a = import('node:os');"],
  ["export type A = import('node:fs').Stats;"],
])('biome fails on `%s` in package sources, and only there', async (text) => {
  const bad = await lint('packages/core/src/b.ts', `${text}\n`);
  expect(bad.output).toContain(NODE);
  expect(bad.status).toBe(1);
  const fine = await lint('packages/core/test/b.test.ts', `${text}\n`);
  expect(fine.output).not.toContain(NODE);
  expect(fine.status).toBe(0);
});

test('a bare builtin name in package sources fails too', async () => {
  const { status } = await lint('packages/core/src/c.ts', "export * from 'fs';\n");
  expect(status).toBe(1);
});

test('ordinary bigint code passes', async () => {
  const text = 'export const low = (x: bigint): number => Number(x & 0xffffffffn);\n';
  const { status, output } = await lint('packages/core/src/d.ts', text);
  expect(output).not.toContain('plugin');
  expect(status).toBe(0);
});
