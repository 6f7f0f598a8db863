import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { peerRange } from '../scripts/lib/versions.mjs';
import {
  publishablePackages,
  ROOT,
  readManifest,
  workspacePackages,
  yamlBlock,
} from '../scripts/lib/workspace.mjs';
import { dependencyProblems, versionProblems } from './checks/dependencies.ts';
import { trackedTextFiles } from './checks/repository.ts';

const files = trackedTextFiles();
const root = readManifest(ROOT);
const packages = workspacePackages();
const version = publishablePackages()[0]?.manifest.version ?? '';

test.each(packages)('$manifest.name declares exactly what it imports', ({ dir, manifest }) => {
  const own = files.filter(({ path }) => path.startsWith(`${dir}/`));
  const rootDev = Object.keys(root.devDependencies ?? {});
  expect(dependencyProblems({ dir, manifest, files: own }, rootDev)).toEqual([]);
});

test('versions stand in the catalog only, and peers follow the version of the group', () => {
  const manifests = [root, ...packages.map(({ manifest }) => manifest)];
  expect(manifests.flatMap((manifest) => versionProblems(manifest, version))).toEqual([]);
});

test('all published packages have one version', () => {
  const versions = publishablePackages().map(({ manifest }) => manifest.version);
  expect(new Set(versions).size).toBe(1);
});

test('every catalog row names one exact version and is used', () => {
  const text = readFileSync(join(ROOT, 'pnpm-workspace.yaml'), 'utf8');
  const rows = yamlBlock(text, 'catalog').map((row) => row.replaceAll('"', '').split(/: /));
  const used = new Set(
    [root, ...packages.map(({ manifest }) => manifest)].flatMap((manifest) =>
      Object.keys({ ...manifest.dependencies, ...manifest.devDependencies }),
    ),
  );
  expect(rows.length).toBeGreaterThan(5);
  expect(rows.filter(([name = '']) => !used.has(name))).toEqual([]);
  expect(rows.filter(([, exact = '']) => !/^(npm:[\w@/-]+@)?\d+\.\d+\.\d+$/.test(exact))).toEqual(
    [],
  );
});

const manifest = { name: '@iommukit/x', version: '0.2.0' };
const source = (text: string) => ({ path: 'packages/x/src/index.ts', text });
const testFile = (text: string) => ({ path: 'packages/x/test/x.test.ts', text });
const CORE = '@iommukit/core';

test.each([
  ['an undeclared import of the sources', {}, source(`import '${CORE}';`), 'no dependency or peer'],
  [
    'an undeclared import of a test',
    {},
    testFile("import 'left-pad';"),
    '"left-pad" is imported but not declared',
  ],
  [
    'a dependency that only a test uses',
    { dependencies: { [CORE]: 'workspace:^' } },
    testFile(`import '${CORE}';`),
    'is declared but never imported',
  ],
  [
    'a peer that is not installed for development',
    { peerDependencies: { [CORE]: '>=0.2.0 <1' } },
    source(`import '${CORE}';`),
    'is missing from devDependencies',
  ],
])('%s is reported', (_, declared, file, problem) => {
  const own = { dir: 'packages/x', manifest: { ...manifest, ...declared }, files: [file] };
  expect(dependencyProblems(own, ['vitest']).join('\n')).toContain(problem);
});

test('tests may use the devDependencies of the root', () => {
  const own = { dir: 'packages/x', manifest, files: [testFile("import 'vitest';")] };
  expect(dependencyProblems(own, ['vitest'])).toEqual([]);
});

test.each([
  ['a version outside the catalog', { devDependencies: { vitest: '4.1.12' } }],
  ['a workspace package by version', { dependencies: { [CORE]: '^0.2.0' } }],
  ['a workspace: peer', { peerDependencies: { [CORE]: 'workspace:^' } }],
  ['a peer range of an older version', { peerDependencies: { [CORE]: '>=0.1.0 <1' } }],
])('%s is reported', (_, declared) => {
  expect(versionProblems({ ...manifest, ...declared }, '0.2.0')).toHaveLength(1);
});

test('the peer range of a version', () => {
  expect(peerRange('0.2.7')).toBe('>=0.2.0 <1');
  expect(peerRange('1.4.0')).toBe('>=1.4.0 <2');
});
