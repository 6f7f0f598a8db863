import { join } from 'node:path';
import { ensureInstalled } from './install.mjs';
import { conclude, passThrough, StepFailed } from './run.mjs';
import { turboStep } from './turbo.mjs';
import { ROOT } from './workspace.mjs';

/**
 * The judges: what is built, what is run, and the recordings in the repository that it runs on
 * when the caller names none.
 *
 * @type {Record<string, { build: string; script: string; data: string }>}
 */
const JUDGES = {
  golden: {
    build: '@iommukit/driver-testkit',
    script: 'packages/driver-testkit/scripts/golden.mjs',
    data: 'packages/driver-testkit/test/data',
  },
  'hardware-cases': {
    build: '@iommukit/lab',
    script: 'packages/lab/dist/hardware-cases.js',
    data: 'packages/lab/test/data',
  },
};

await conclude(async () => {
  const [name = '', ...paths] = process.argv.slice(2);
  const judge = JUDGES[name];
  if (!judge) {
    throw new StepFailed(`no judge "${name}"; they are ${Object.keys(JUDGES).join(', ')}`, 2);
  }
  const env = await ensureInstalled();
  await turboStep('build', 'building', env, [judge.build]);
  // Relative paths mean what they meant where the command was typed.
  const cwd = process.env.INIT_CWD ?? process.cwd();
  const options = paths.filter((path) => path.startsWith('--'));
  const args = paths.length > options.length ? paths : [...options, join(ROOT, judge.data)];
  return passThrough([process.execPath, join(ROOT, judge.script), ...args], { cwd, env });
});
