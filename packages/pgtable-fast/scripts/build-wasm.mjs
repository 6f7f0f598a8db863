// Compiles the engine once per format and build: wasm/engine.ts with `./format` linked to the format's
// file. Output: src/generated/<format>.ts, each holding its builds as base64.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
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
      '-O3',
      '--converge',
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

mkdirSync(generated, { recursive: true });
for (const [name, format] of Object.entries(FORMATS)) {
  const lines = [
    `// Engine modules of the ${name} format, compiled from wasm/. Generated: do not edit.`,
  ];
  const sizes = [];
  for (const [build, flags] of Object.entries(BUILDS)) {
    const binary = await compile(format, flags);
    lines.push(`export const ${build.toUpperCase()} =\n  '${binary.toString('base64')}';`);
    sizes.push(`${build} ${binary.length}`);
  }
  writeFileSync(new URL(`${name}.ts`, generated), `${lines.join('\n')}\n`);
  console.log(`${name}: ${sizes.join(', ')} bytes`);
}
