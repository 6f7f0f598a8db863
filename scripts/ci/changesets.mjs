import { cpSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { tools } from '../lib/tools.mjs';
import { followVersionInPeers, peerRange } from '../lib/versions.mjs';
import { publishablePackages, ROOT, workspacePackages } from '../lib/workspace.mjs';
import { must, mustRun } from './report.mjs';

/**
 * Tries the pending changesets, and one more minor change of core, on a copy of all manifests:
 * the whole group must move to one version without leaving its major.
 *
 * @param {import('./report.mjs').Report} report
 * @param {string} dir scratch directory to create
 * @param {NodeJS.ProcessEnv} env
 */
export async function checkChangesets(report, dir, env) {
  const run = (/** @type {string[]} */ command) => mustRun(command, { cwd: dir, env });
  await report.check('changeset status', async () => {
    copyManifests(dir);
    await run(['git', 'init', '-q', '-b', 'main']);
    await run(['git', 'add', '-A']);
    const who = ['-c', 'user.name=ci', '-c', 'user.email=ci@localhost'];
    await run(['git', ...who, 'commit', '-q', '-m', 'manifests']);
    await run([...tools.changeset, 'status']);
  });
  await report.check('changeset version keeps one version and the major', async () => {
    const before = publishablePackages(dir);
    const minor = '---\n"@iommukit/core": minor\n---\n\nTrial.\n';
    writeFileSync(join(dir, '.changeset', 'ci-trial.md'), minor);
    await run([...tools.changeset, 'version']);
    followVersionInPeers(dir);
    judgeVersions(before, publishablePackages(dir));
  });
}

/** @typedef {ReturnType<typeof publishablePackages>} Packages */

/**
 * @param {Packages} before
 * @param {Packages} after
 */
function judgeVersions(before, after) {
  const old = before[0]?.manifest.version ?? '';
  const versions = [...new Set(after.map(({ manifest }) => manifest.version))];
  must(versions.length === 1, `the packages got different versions: ${versions.join(', ')}`);
  const [version = ''] = versions;
  const [oldMajor, oldMinor] = old.split('.').map(Number);
  const wanted = `${oldMajor}.${Number(oldMinor) + 1}.0`;
  must(version === wanted, `a minor change took ${old} to ${version} instead of ${wanted}`);
  for (const { manifest } of after) {
    for (const [name, range] of Object.entries(manifest.peerDependencies ?? {})) {
      if (!name.startsWith('@iommukit/')) continue;
      const right = range === peerRange(version);
      must(right, `${manifest.name}: peer ${name} is ${range} at version ${version}`);
    }
  }
}

/** @param {string} dir */
function copyManifests(dir) {
  const files = ['package.json', 'pnpm-workspace.yaml', 'pnpm-lock.yaml']
    .concat(readdirSync(join(ROOT, '.changeset')).map((name) => `.changeset/${name}`))
    .concat(workspacePackages().map((one) => `${one.dir}/package.json`));
  for (const file of files.filter((name) => existsSync(join(ROOT, name)))) {
    mkdirSync(dirname(join(dir, file)), { recursive: true });
    cpSync(join(ROOT, file), join(dir, file));
  }
}
