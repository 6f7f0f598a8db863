import { ensureInstalled } from './install.mjs';
import { conclude, passThrough, StepFailed } from './run.mjs';
import { tools } from './tools.mjs';
import { turboStep } from './turbo.mjs';
import { ROOT } from './workspace.mjs';

const { build, generate, typecheck, lint, format, knip, changeset } = tools;

/** @type {Record<string, string[]>} */
const tasks = { build, generate, typecheck, lint, format, knip, changeset };

await conclude(async () => {
  const [name = '', ...args] = process.argv.slice(2);
  const command = tasks[name];
  if (!command) {
    throw new StepFailed(`no task "${name}"; the tasks are ${Object.keys(tasks).join(', ')}`, 2);
  }
  const env = await ensureInstalled();
  // Imports of generated files must lead somewhere.
  if (name === 'knip') await turboStep('generate', 'generating', env);
  return passThrough([...command, ...args], { cwd: ROOT, env });
});
