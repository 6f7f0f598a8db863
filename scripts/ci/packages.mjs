import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tools } from '../lib/tools.mjs';
import { publishablePackages } from '../lib/workspace.mjs';
import { npm } from './commands.mjs';
import { must, mustRun } from './report.mjs';

/** @typedef {import('./report.mjs').Report} Report */
/** @typedef {{ name: string, tarball: string, specifiers: string[] }} Packed */

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
    packed.push({ name, tarball, specifiers: specifiersOf(name, manifest.exports ?? {}) });
    await report.check(`publint ${name}`, () =>
      mustRun([...tools.publint, 'run', tarball, '--strict'], { env }),
    );
    await report.check(`attw ${name}`, () =>
      mustRun([...tools.attw, tarball, '--profile', 'node16', '--no-emoji', '--no-color'], { env }),
    );
  }
  await checkConsumer(report, join(scratch, 'consumer'), packed, env);
}

/**
 * @param {string} name
 * @param {Record<string, unknown>} exports
 */
function specifiersOf(name, exports) {
  return Object.keys(exports)
    .filter((key) => !key.endsWith('.json'))
    .map((key) => name + key.slice(1));
}

/**
 * @param {Report} report
 * @param {string} dir
 * @param {Packed[]} packed
 * @param {NodeJS.ProcessEnv} env
 */
async function checkConsumer(report, dir, packed, env) {
  mkdirSync(dir);
  const dependencies = Object.fromEntries(
    packed.map(({ name, tarball }) => [name, `file:${tarball}`]),
  );
  writeFileSync(join(dir, 'package.json'), JSON.stringify({ private: true, dependencies }));
  const install = [...npm(), 'install', '--prefer-offline', '--no-audit', '--no-fund'];
  const installed = await report.check('install the tarballs with npm', () =>
    mustRun(install, { cwd: dir, env }),
  );
  if (!installed) return;
  const specifiers = packed.flatMap((one) => one.specifiers);
  for (const specifier of specifiers) {
    await report.check(`import and require ${specifier}`, () => checkLoads(dir, specifier, env));
  }
  writeConsumerSources(dir, specifiers);
  for (const [version, tsc] of Object.entries({ 6: tools.tsc6, 7: tools.tsc7 })) {
    await report.check(`TypeScript ${version} accepts the published types, ESM and CJS`, () =>
      mustRun([...tsc, '-p', dir], { cwd: dir, env }),
    );
  }
}

/**
 * Loads one entry both ways, in a process each; both must give the same names.
 *
 * @param {string} dir
 * @param {string} specifier
 * @param {NodeJS.ProcessEnv} env
 */
async function checkLoads(dir, specifier, env) {
  const load = async (/** @type {string} */ type, /** @type {string} */ expression) => {
    const program = `const names = (m) => Object.keys(m).filter((n) => n !== 'default').sort();
      Promise.resolve(${expression}).then((m) => console.log(JSON.stringify(names(m))));`;
    return mustRun([process.execPath, `--input-type=${type}`, '-e', program], { cwd: dir, env });
  };
  const imported = await load('module', `import('${specifier}')`);
  const required = await load('commonjs', `require('${specifier}')`);
  must(JSON.parse(imported).length > 0, `import('${specifier}') exports nothing`);
  must(imported === required, `import gives ${imported}require gives ${required}`);
}

/**
 * @param {string} dir
 * @param {string[]} specifiers
 */
function writeConsumerSources(dir, specifiers) {
  const lines = specifiers.map((specifier, i) => `import * as m${i} from '${specifier}';`);
  const source = `${lines.join('\n')}\nexport const all = [${specifiers.map((_, i) => `m${i}`)}];\n`;
  writeFileSync(join(dir, 'esm.mts'), source);
  writeFileSync(join(dir, 'cjs.cts'), source);
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
