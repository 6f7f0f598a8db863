import type { Manifest } from '../../scripts/lib/workspace.mjs';

/** One tsup output. */
export interface BuiltEntry {
  /** `index` is `.`, any other name is `./name`. */
  readonly name: string;
  /** Built as ESM alone. */
  readonly esmOnly?: boolean;
}

/** The exports entry that belongs to one tsup output. */
const entryFor = ({ name, esmOnly }: BuiltEntry) => ({
  import: { types: `./dist/${name}.d.ts`, default: `./dist/${name}.js` },
  ...(!esmOnly && {
    require: { types: `./dist/${name}.d.cts`, default: `./dist/${name}.cjs` },
  }),
});

const MAIN_FIELDS = {
  main: './dist/index.cjs',
  module: './dist/index.js',
  types: './dist/index.d.ts',
} as const;

/** Where a published package.json and its tsup entries disagree. */
export function exportsProblems(manifest: Manifest, entries: readonly BuiltEntry[]): string[] {
  const wanted: Record<string, unknown> = { './package.json': './package.json' };
  for (const entry of entries) {
    wanted[entry.name === 'index' ? '.' : `./${entry.name}`] = entryFor(entry);
  }
  const actual = manifest.exports ?? {};
  const problems = [...new Set([...Object.keys(wanted), ...Object.keys(actual)])]
    .filter((key) => JSON.stringify(wanted[key]) !== JSON.stringify(actual[key]))
    .map((key) => `exports["${key}"] ${difference(actual[key], wanted[key])}`);
  for (const [field, value] of Object.entries(MAIN_FIELDS)) {
    const found = manifest[field as keyof typeof MAIN_FIELDS];
    if (found !== value) problems.push(`${field} is ${found}, the build makes ${value}`);
  }
  for (const dir of ['dist', 'src']) {
    if (!manifest.files?.includes(dir)) problems.push(`files lacks "${dir}"`);
  }
  return problems.map((problem) => `${manifest.name}: ${problem}`);
}

function difference(actual: unknown, wanted: unknown): string {
  if (wanted === undefined) return 'has no tsup entry';
  if (actual === undefined) return 'is missing, tsup builds it';
  return `is ${JSON.stringify(actual)}, the build makes ${JSON.stringify(wanted)}`;
}
