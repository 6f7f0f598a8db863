import { peerRange } from '../../scripts/lib/versions.mjs';
import type { Manifest } from '../../scripts/lib/workspace.mjs';
import { importsOf, packageNameOf } from './imports.ts';
import type { TextFile } from './repository.ts';

/** One workspace package with the files git tracks in it. */
export interface PackageFiles {
  readonly dir: string;
  readonly manifest: Manifest;
  readonly files: readonly TextFile[];
}

const CODE = /\.[cm]?[tj]s$/;

/** Names of packages that the given files import. */
function importedPackages(files: readonly TextFile[]): Set<string> {
  const names = files.filter(({ path }) => CODE.test(path)).flatMap((file) => importsOf(file));
  return new Set(names.map(packageNameOf).filter((name) => name !== undefined));
}

/**
 * Where a package's imports and its declared dependencies disagree. Shipped sources need
 * `dependencies` or `peerDependencies`, and each of those must be imported; everything else
 * (tests, scripts, benchmarks, private packages) may also use `devDependencies` and the root's.
 *
 * @param rootDev names in the root package's devDependencies
 */
export function dependencyProblems(
  { dir, manifest, files }: PackageFiles,
  rootDev: readonly string[],
): string[] {
  const runtime = Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies });
  const development = Object.keys(manifest.devDependencies ?? {});
  const used = importedPackages(files.filter(({ path }) => path.startsWith(`${dir}/src/`)));
  const usedAnywhere = importedPackages(files);
  const available = new Set([...runtime, ...development, ...rootDev, manifest.name]);
  return [
    ...[...used]
      .filter((name) => !runtime.includes(name) && !manifest.private)
      .map((name) => `sources import "${name}", which is no dependency or peer`),
    ...[...usedAnywhere]
      .filter((name) => !available.has(name))
      .map((name) => `"${name}" is imported but not declared`),
    ...runtime
      .filter((name) => !used.has(name) && !manifest.private)
      .map((name) => `"${name}" is declared but never imported`),
    ...Object.keys(manifest.peerDependencies ?? {})
      .filter((name) => !development.includes(name))
      .map((name) => `peer "${name}" is missing from devDependencies`),
  ].map((problem) => `${manifest.name}: ${problem}`);
}

/**
 * Where a manifest names a version itself: only the catalog of pnpm-workspace.yaml may. Peer
 * ranges of workspace packages are spelled out, and follow the group's one version.
 *
 * @param version of every published package (they are one fixed group)
 */
export function versionProblems(manifest: Manifest, version: string): string[] {
  const installed = {
    ...manifest.dependencies,
    ...manifest.devDependencies,
    ...manifest.optionalDependencies,
  };
  const ours = (name: string) => /^@iommukit(-internal)?\//.test(name);
  return [
    ...Object.entries(installed)
      .filter(([name, range]) => !(ours(name) ? /^workspace:[*^]$/ : /^catalog:$/).test(range))
      .map(
        ([name, range]) =>
          `"${name}": "${range}" must be ${ours(name) ? 'workspace:' : 'catalog:'}`,
      ),
    ...Object.entries(manifest.peerDependencies ?? {})
      .filter(([name, range]) => ours(name) && range !== peerRange(version))
      .map(([name, range]) => `peer "${name}": "${range}" must be "${peerRange(version)}"`),
  ].map((problem) => `${manifest.name}: ${problem}`);
}
