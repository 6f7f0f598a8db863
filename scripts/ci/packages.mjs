import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tools } from '../lib/tools.mjs';
import { publishablePackages, ROOT, readManifest } from '../lib/workspace.mjs';
import { npm } from './commands.mjs';
import { must, mustRun } from './report.mjs';

/** @typedef {import('./report.mjs').Report} Report */
/** @typedef {import('../lib/workspace.mjs').Manifest} Manifest */
/** @typedef {{ specifier: string, esmOnly: boolean }} Entry */
/** @typedef {{ tarball: string, manifest: Manifest, entries: Entry[] }} Packed */

/**
 * Packs every published package and judges the tarballs: by publint, by attw, and by installing
 * them all with npm into an empty project that imports, requires and type checks them.
 *
 * @param {Report} report
 * @param {string} scratch
 * @param {string} pnpm entry file of pnpm
 * @param {NodeJS.ProcessEnv} env
 */
export async function checkPackages(report, scratch, pnpm, env) {
  /** @type {Packed[]} */
  const packed = [];
  for (const { path, manifest } of publishablePackages()) {
    const { name } = manifest;
    const tarball = join(
      scratch,
      `${name.replace('@', '').replace('/', '-')}-${manifest.version}.tgz`,
    );
    const pack = [process.execPath, pnpm, 'pack', '--pack-destination', scratch];
    if (!(await report.check(`pack ${name}`, () => mustRun(pack, { cwd: path, env })))) continue;
    const entries = entriesOf(manifest);
    packed.push({ tarball, manifest, entries });
    await report.check(`publint ${name}`, () =>
      mustRun([...tools.publint, 'run', tarball, '--strict'], { env }),
    );
    await report.check(`attw ${name}`, () =>
      mustRun([...tools.attw, tarball, ...attwOptions(name, entries)], { env }),
    );
  }
  await checkConsumer(report, join(scratch, 'consumer'), packed, env);
}

/**
 * @param {Manifest} manifest
 * @returns {Entry[]}
 */
function entriesOf({ name, exports = {} }) {
  return Object.entries(exports).flatMap(([key, target]) =>
    typeof target === 'string'
      ? []
      : [
          {
            specifier: name + key.slice(1),
            esmOnly: !('require' in /** @type {object} */ (target)),
          },
        ],
  );
}

/**
 * @param {string} name
 * @param {Entry[]} entries
 */
function attwOptions(name, entries) {
  const excluded = entries.flatMap(({ specifier, esmOnly }) =>
    esmOnly ? [`.${specifier.slice(name.length)}`] : [],
  );
  const exclusion = excluded.length > 0 ? ['--exclude-entrypoints', ...excluded] : [];
  return ['--profile', 'node16', '--no-emoji', '--no-color', ...exclusion];
}

/**
 * @param {Report} report
 * @param {string} dir
 * @param {Packed[]} packed
 * @param {NodeJS.ProcessEnv} env
 */
async function checkConsumer(report, dir, packed, env) {
  mkdirSync(dir);
  const dependencies = Object.fromEntries([
    ...packed.flatMap(({ manifest }) => optionalPeers(manifest)),
    ...packed.map(({ manifest, tarball }) => [manifest.name, `file:${tarball}`]),
  ]);
  writeFileSync(join(dir, 'package.json'), JSON.stringify({ private: true, dependencies }));
  const install = [...npm(), 'install', '--prefer-offline', '--no-audit', '--no-fund'];
  const installed = await report.check('install the tarballs with npm', () =>
    mustRun(install, { cwd: dir, env }),
  );
  if (!installed) return;
  const entries = packed.flatMap((one) => one.entries);
  for (const entry of entries) {
    const how = entry.esmOnly ? 'import' : 'import and require';
    await report.check(`${how} ${entry.specifier}`, () => checkLoads(dir, entry, env));
  }
  writeConsumerSources(dir, entries);
  for (const [version, tsc] of Object.entries({ 6: tools.tsc6, 7: tools.tsc7 })) {
    await report.check(`TypeScript ${version} accepts the published types, ESM and CJS`, () =>
      mustRun([...tsc, '-p', dir], { cwd: dir, env }),
    );
  }
}

/**
 * Optional peers of a package at the versions that this repository uses, for a consumer that
 * loads every entry.
 *
 * @param {Manifest} manifest
 * @returns {[name: string, version: string][]}
 */
function optionalPeers({ peerDependenciesMeta = {} }) {
  return Object.keys(peerDependenciesMeta).map((name) => [
    name,
    readManifest(join(ROOT, 'node_modules', name)).version,
  ]);
}

/**
 * Loads one entry in each way it has, in a process each; all must give the same names.
 *
 * @param {string} dir
 * @param {Entry} entry
 * @param {NodeJS.ProcessEnv} env
 */
async function checkLoads(dir, { specifier, esmOnly }, env) {
  const load = async (/** @type {string} */ type, /** @type {string} */ expression) => {
    const program = `const names = (m) => Object.keys(m).filter((n) => n !== 'default').sort();
      Promise.resolve(${expression}).then((m) => console.log(JSON.stringify(names(m))));`;
    return mustRun([process.execPath, `--input-type=${type}`, '-e', program], { cwd: dir, env });
  };
  const imported = await load('module', `import('${specifier}')`);
  must(JSON.parse(imported).length > 0, `import('${specifier}') exports nothing`);
  if (esmOnly) return;
  const required = await load('commonjs', `require('${specifier}')`);
  must(imported === required, `import gives ${imported}require gives ${required}`);
}

/**
 * @param {string} dir
 * @param {Entry[]} entries
 */
function writeConsumerSources(dir, entries) {
  const write = (/** @type {string} */ file, /** @type {Entry[]} */ imported) => {
    const lines = imported.map(({ specifier }, i) => `import * as m${i} from '${specifier}';`);
    const all = `export const all = [${imported.map((_, i) => `m${i}`)}];`;
    writeFileSync(join(dir, file), `${[...lines, all].join('\n')}\n`);
  };
  write('esm.mts', entries);
  write(
    'cjs.cts',
    entries.filter(({ esmOnly }) => !esmOnly),
  );
  const compilerOptions = {
    module: 'NodeNext',
    target: 'ES2022',
    lib: ['ES2022'],
    types: [],
    strict: true,
    skipLibCheck: false,
    noEmit: true,
  };
  writeFileSync(
    join(dir, 'tsconfig.json'),
    JSON.stringify({ compilerOptions, files: ['esm.mts', 'cjs.cts'] }),
  );
}
