import { posix } from 'node:path';
import { importsOf, packageNameOf } from './imports.ts';
import { packageOf, type TextFile } from './repository.ts';

interface Rule {
  /** Workspace packages (short names) that the sources may import. */
  readonly workspace: readonly string[];
  /** Other packages that the sources may import. */
  readonly external?: readonly string[];
  /** Whether the sources may use Node's own modules; without it they run in browsers. */
  readonly node?: true;
}

const LIBRARIES = [
  'bits',
  'pgtable-fast',
  'core',
  'driver-vtd',
  'driver-smmuv3',
  'driver-amdvi',
  'vfio-compat',
  'driver-testkit',
];

const DRIVER: Rule = { workspace: ['bits', 'pgtable-fast', 'core'] };

/** Who may import whom. A package that is not listed here breaks the check. */
export const IMPORT_RULES: Readonly<Record<string, Rule>> = {
  bits: { workspace: [] },
  'pgtable-fast': { workspace: ['bits'] },
  core: { workspace: ['bits'] },
  'driver-vtd': DRIVER,
  'driver-smmuv3': DRIVER,
  'driver-amdvi': DRIVER,
  'vfio-compat': { workspace: ['core'] },
  'driver-testkit': { workspace: ['bits', 'core'], external: ['vitest', 'fast-check'] },
  lab: { workspace: LIBRARIES, node: true },
};

/** Every import in a package's `src` that the rules forbid, one line each. */
export function importProblems(files: readonly TextFile[]): string[] {
  return files
    .filter(({ path }) => /^packages\/[^/]+\/src\/.*\.[cm]?[tj]s$/.test(path))
    .flatMap((file) => importsOf(file).flatMap((name) => importProblem(file.path, name)));
}

function importProblem(path: string, specifier: string): string[] {
  const owner = packageOf(path) ?? '';
  const rule = IMPORT_RULES[owner];
  if (!rule) return [`${path}: package "${owner}" has no row in IMPORT_RULES`];
  const complaint = specifier.startsWith('.')
    ? relativeComplaint(path, owner, specifier)
    : foreignComplaint(rule, specifier);
  return complaint ? [`${path}: imports "${specifier}": ${complaint}`] : [];
}

function relativeComplaint(path: string, owner: string, specifier: string): string | undefined {
  const target = posix.join(posix.dirname(path), specifier);
  if (!target.startsWith(`packages/${owner}/src/`)) {
    return `relative imports stay inside packages/${owner}/src`;
  }
  if (!/\.(ts|json)$/.test(specifier)) return 'relative imports carry the .ts extension';
  return halvesMeet(path, target)
    ? 'host/ and hardware/ of a driver meet only in memory and registers'
    : undefined;
}

/** Whether one side is in a driver's `src/host` and the other in its `src/hardware`. */
function halvesMeet(path: string, target: string): boolean {
  const half = (file: string) =>
    /^packages\/driver-[^/]+\/src\/(host|hardware)\//.exec(file)?.[1] ?? '';
  const [from, to] = [half(path), half(target)];
  return from !== '' && to !== '' && from !== to;
}

function foreignComplaint(rule: Rule, specifier: string): string | undefined {
  if (specifier.startsWith('node:')) {
    return rule.node ? undefined : 'package sources run in browsers, without node:*';
  }
  const name = packageNameOf(specifier) ?? specifier;
  const short = name.replace(/^@iommukit\//, '');
  const allowed = name === short ? (rule.external ?? []) : rule.workspace;
  if (allowed.includes(short)) return undefined;
  const list = [...rule.workspace, ...(rule.external ?? [])].join(', ');
  return `allowed here: ${list || 'no package at all'}`;
}
