import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT, workspacePackages } from '../scripts/lib/workspace.mjs';
import { IMPORT_RULES, importProblems } from './checks/import-rules.ts';
import { trackedTextFiles } from './checks/repository.ts';

const sources = trackedTextFiles().filter(({ path }) => /^packages\/[^/]+\/src\//.test(path));

test('every package imports only what the design lets it import', () => {
  expect(sources.length).toBeGreaterThan(0);
  expect(importProblems(sources)).toEqual([]);
});

test('every package has its row of rules', () => {
  const names = workspacePackages()
    .map(({ dir }) => dir)
    .filter((dir) => dir.startsWith('packages/'))
    .filter((dir) => existsSync(join(ROOT, dir, 'src')))
    .map((dir) => dir.slice('packages/'.length));
  expect(names.filter((name) => !IMPORT_RULES[name])).toEqual([]);
});

test.each([
  ['core', "import { vtd } from '@iommukit/driver-vtd';", 'allowed here: bits'],
  ['core', "export * from '@iommukit/pgtable-fast';", 'allowed here: bits'],
  ['core', "const x = await import('@iommukit/driver-smmuv3');", 'allowed here: bits'],
  ['core', "import type { X } from '@iommukit/driver-amdvi';", 'allowed here: bits'],
  ['core', "type X = import('@iommukit/driver-vtd').X;", 'allowed here: bits'],
  ['bits', "import '@iommukit/core';", 'allowed here: no package at all'],
  ['driver-vtd', "import '@iommukit/driver-amdvi';", 'allowed here: bits, pgtable-fast, core'],
  ['vfio-compat', "import '@iommukit/bits';", 'allowed here: core'],
  ['pgtable-fast', "import { readFileSync } from 'node:fs';", 'without node:*'],
  ['driver-vtd', "import x from 'lodash';", 'allowed here: bits, pgtable-fast, core'],
  ['core', "import '../../bits/src/index.ts';", 'stay inside packages/core/src'],
  ['core', "import './errors';", 'carry the .ts extension'],
  ['nobody', "import './x.ts';", 'no row in IMPORT_RULES'],
])('in %s, `%s` is reported', (name, text, problem) => {
  const found = importProblems([{ path: `packages/${name}/src/index.ts`, text }]);
  expect(found).toHaveLength(1);
  expect(found[0]).toContain(problem);
});

test.each([
  ['host/domain.ts', '../hardware/iommu.ts', 1],
  ['hardware/iommu.ts', '../host/unit.ts', 1],
  ['hardware/iommu.ts', '../spec/registers.ts', 0],
  ['index.ts', './hardware/iommu.ts', 0],
])('driver file %s importing %s gives %i problem(s)', (path, target, count) => {
  const text = `import type { X } from '${target}';`;
  expect(importProblems([{ path: `packages/driver-vtd/src/${path}`, text }])).toHaveLength(count);
});
