import { join } from 'node:path';
import { ensureInstalled } from './install.mjs';
import { conclude, passThrough } from './run.mjs';
import { turboStep } from './turbo.mjs';
import { ROOT } from './workspace.mjs';

const MAIN_JOB = join(ROOT, 'examples', 'dist', 'stream-file.js');

/**
 * `npm start --json` hands the flag to npm (which then keeps its own banner off stdout): take it
 * for the job's too.
 */
function jobArguments() {
  const args = process.argv.slice(2);
  const npmTookJson = process.env.npm_config_json === 'true' && !args.includes('--json');
  return npmTookJson ? [...args, '--json'] : args;
}

await conclude(async () => {
  const env = await ensureInstalled();
  await turboStep('build', 'building', env, ['@iommukit-internal/examples']);
  // Relative file arguments mean what they meant where the command was typed.
  const cwd = process.env.INIT_CWD ?? process.cwd();
  return passThrough([process.execPath, MAIN_JOB, ...jobArguments()], { cwd, env: process.env });
});
