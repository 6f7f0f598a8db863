import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { isNodeSupported, OLDEST_NODE } from '../scripts/lib/check-node.mjs';
import { toolEnvironment } from '../scripts/lib/environment.mjs';
import { installFingerprint } from '../scripts/lib/install.mjs';
import { findPnpm } from '../scripts/lib/pnpm.mjs';
import { capture } from '../scripts/lib/run.mjs';
import { publishablePackages, ROOT, readManifest, yamlBlock } from '../scripts/lib/workspace.mjs';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'iommukit scripts-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test.each([
  ['12.22.0', false],
  ['18.20.1', false],
  ['20.18.9', false],
  ['20.19.0', true],
  ['20.20.2', true],
  ['22.0.0', true],
])('Node %s is supported: %s', (version, supported) => {
  expect(isNodeSupported(version)).toBe(supported);
});

test('the oldest Node is the one that every package.json names', () => {
  const manifests = [readManifest(ROOT), ...publishablePackages().map(({ manifest }) => manifest)];
  const engines = manifests.map(({ engines }) => engines?.node);
  expect(new Set(engines)).toEqual(new Set([`>=${OLDEST_NODE.replace(/\.0$/, '')}`]));
});

test('the tools see no trace of the npm that started us, and cannot ask', () => {
  const env = toolEnvironment({
    PATH: 'p',
    npm_config_local_prefix: 'x',
    npm_config_json: 'true',
    npm_package_name: 'x',
    npm_lifecycle_event: 'start',
    npm_config_proxy: 'kept',
  });
  expect(env).toMatchObject({ PATH: 'p', CI: '1', TURBO_TELEMETRY_DISABLED: '1' });
  expect(Object.keys(env).filter((name) => name.startsWith('npm_'))).toEqual(
    env.npm_config_cache ? ['npm_config_proxy', 'npm_config_cache'] : ['npm_config_proxy'],
  );
});

test('capture keeps both streams, all lines and the status', async () => {
  const program =
    'console.log("a"); console.error("b"); process.stdout.write("c"); process.exitCode = 3';
  const lines: string[] = [];
  const onLine = (line: string) => lines.push(line);
  const ended = await capture([process.execPath, '-e', program], { onLine });
  expect(ended).toMatchObject({ status: 3, stdout: 'a\nc' });
  expect(ended.output).toContain('b\n');
  expect(lines).toContain('a');
});

test('yamlBlock reads one block of a flat YAML file', () => {
  const text = 'packages:\n  - a/*\n\n# between\n  - b\ncatalog:\n  x: 1\n';
  expect(yamlBlock(text, 'packages')).toEqual(['- a/*', '- b']);
  expect(yamlBlock(text, 'nothing')).toEqual([]);
});

describe('findPnpm', () => {
  function fakePnpm(name: string, version: string): string {
    const bin = join(dir, name, 'bin');
    mkdirSync(bin, { recursive: true });
    writeFileSync(join(dir, name, 'package.json'), JSON.stringify({ name: 'pnpm', version }));
    writeFileSync(join(bin, 'pnpm.cjs'), '');
    return join(bin, 'pnpm.cjs');
  }
  function pathWith(name: string, target: string): string {
    mkdirSync(join(dir, name));
    symlinkSync(target, join(dir, name, 'pnpm'));
    return join(dir, name);
  }

  test('takes the right version behind a wrong one', () => {
    const right = fakePnpm('right', '10.0.1');
    const path = [
      pathWith('first', fakePnpm('wrong', '9.0.0')),
      join(dir, 'no such directory'),
      pathWith('second', right),
    ].join(delimiter);
    expect(findPnpm('10.0.1', path)).toBe(right);
    expect(findPnpm('10.0.2', path)).toBeUndefined();
  });

  test('never runs what it finds', () => {
    const shim = join(dir, 'shims');
    mkdirSync(shim);
    writeFileSync(join(shim, 'pnpm'), `#!/bin/sh\ntouch "${join(dir, 'ran')}"\necho 10.0.1\n`);
    chmodSync(join(shim, 'pnpm'), 0o755);
    expect(findPnpm('10.0.1', shim)).toBeUndefined();
  });
});

describe('installFingerprint', () => {
  const files: Record<string, string> = {
    'package.json': '{}',
    'pnpm-lock.yaml': 'lock',
    'pnpm-workspace.yaml': 'packages:\n  - packages/*\n',
    'packages/a/package.json': '{}',
  };
  const write = () => {
    mkdirSync(join(dir, 'packages/a'), { recursive: true });
    for (const [path, text] of Object.entries(files)) writeFileSync(join(dir, path), text);
    return installFingerprint(dir);
  };

  test.each(Object.keys(files))('changes with %s, and only with content', (path) => {
    const before = write();
    expect(write()).toBe(before);
    writeFileSync(join(dir, path), `${files[path]}\n`);
    expect(installFingerprint(dir)).not.toBe(before);
  });
});
