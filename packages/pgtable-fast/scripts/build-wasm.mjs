// Compiles the engine once per format and build: wasm/engine.ts with `./format` linked to the format's
// file. Output: src/generated/<format>.ts, each holding its builds as base64. Formats are compiled on
// two threads; one whose inputs have not changed is left alone.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import asc from 'assemblyscript/asc';

const wasm = new URL('../wasm/', import.meta.url);
const generated = new URL('../src/generated/', import.meta.url);

function arm(stage, granuleLg2) {
  const name = `arm-s${stage}-${2 ** (granuleLg2 - 10)}k`;
  return { [name]: { file: 'arm', uses: { ARM_STAGE: stage, ARM_GRANULE: granuleLg2 } } };
}

/** Format modules: the format's file and its integer constants. */
const FORMATS = {
  'vtd-ss': { file: 'vtd-ss' },
  'x86-64': { file: 'x86-64' },
  'amd-v1': { file: 'amd-v1', uses: { AMD_FRAME_LG2: 12, AMD_MAX_LEVELS: 6 } },
  mock: { file: 'amd-v1', uses: { AMD_FRAME_LG2: 11, AMD_MAX_LEVELS: 5 } },
  ...arm(1, 12),
  ...arm(1, 14),
  ...arm(1, 16),
  ...arm(2, 12),
  ...arm(2, 14),
  ...arm(2, 16),
};

const SIMD = ['--enable', 'simd'];
const BUILDS = {
  simd: SIMD,
  scalar: [],
  shared: [...SIMD, '--enable', 'threads', '--sharedMemory'],
};

/** Sources by module name; `format` is whichever format is being linked. */
function reader(file) {
  return (name) => {
    const path = name === 'format.ts' ? `formats/${file}.ts` : name;
    try {
      return readFileSync(new URL(path, wasm), 'utf8');
    } catch {
      return null;
    }
  };
}

async function compile({ file, uses = {} }, flags) {
  let binary;
  const { error, stderr } = await asc.main(
    [
      'engine.ts',
      '--outFile',
      'engine.wasm',
      // Without --converge, which takes three times as long for a few bytes.
      '-O3',
      '--noAssert',
      '--runtime',
      'stub',
      '--importMemory',
      '--initialMemory',
      '32',
      '--maximumMemory',
      '65536',
      '--use',
      'abort=',
      ...Object.entries(uses).flatMap(([name, value]) => ['--use', `${name}=${value}`]),
      ...flags,
    ],
    {
      readFile: reader(file),
      writeFile: (name, contents) => {
        if (name.endsWith('.wasm')) binary = contents;
      },
      listFiles: () => [],
    },
  );
  if (error) throw new Error(`${file}: ${error.message}\n${stderr.toString()}`);
  return Buffer.from(binary);
}

/** Hash of everything that a format's modules are made from. */
const inputs = createHash('sha256');
inputs.update(readFileSync(new URL(import.meta.url)));
for (const name of readdirSync(wasm, { recursive: true }).sort()) {
  if (name.endsWith('.ts')) inputs.update(name).update(readFileSync(new URL(name, wasm)));
}
const stamp = `// Inputs: ${inputs.digest('hex')}`;

const outputOf = (name) => new URL(`${name}.ts`, generated);

const isFresh = (name) =>
  existsSync(outputOf(name)) && readFileSync(outputOf(name), 'utf8').includes(stamp);

async function generate(name) {
  const lines = [
    `// Engine modules of the ${name} format, compiled from wasm/. Generated: do not edit.`,
    stamp,
  ];
  const sizes = [];
  for (const [build, flags] of Object.entries(BUILDS)) {
    const binary = await compile(FORMATS[name], flags);
    lines.push(`export const ${build.toUpperCase()} =\n  '${binary.toString('base64')}';`);
    sizes.push(`${build} ${binary.length}`);
  }
  writeFileSync(outputOf(name), `${lines.join('\n')}\n`);
  console.log(`${name}: ${sizes.join(', ')} bytes`);
}

if (isMainThread) {
  const wanted = process.argv.slice(2);
  const names = Object.keys(FORMATS).filter(
    (name) => (wanted.length === 0 || wanted.includes(name)) && !isFresh(name),
  );
  mkdirSync(generated, { recursive: true });
  const half = Math.ceil(names.length / 2);
  for (const share of [names.slice(0, half), names.slice(half)]) {
    if (share.length > 0) new Worker(new URL(import.meta.url), { workerData: share });
  }
} else {
  for (const name of workerData) await generate(name);
}
