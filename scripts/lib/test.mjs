import { join } from 'node:path';
import { ensureInstalled } from './install.mjs';
import { conclude, passThrough } from './run.mjs';
import { turboStep } from './turbo.mjs';
import { ROOT } from './workspace.mjs';

const VITEST = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs');

await conclude(async () => {
  const env = await ensureInstalled();
  await turboStep('generate', 'generating', env);
  const args = process.argv.slice(2);
  if (args.some((arg) => arg.includes('slow-'))) env.IOMMUKIT_SLOW = '1';
  return passThrough([process.execPath, VITEST, 'run', ...args], { cwd: ROOT, env });
});
