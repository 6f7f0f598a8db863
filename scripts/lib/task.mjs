import { ensureInstalled } from './install.mjs';
import { conclude, passThrough, StepFailed } from './run.mjs';
import { tools } from './tools.mjs';
import { ROOT } from './workspace.mjs';

await conclude(async () => {
  const [name = '', ...args] = process.argv.slice(2);
  const tool = tools[name];
  if (!tool) {
    const known = Object.keys(tools).join(', ');
    throw new StepFailed(`no task "${name}"; the tasks are ${known}`, 2);
  }
  const env = await ensureInstalled();
  return passThrough([...tool, ...args], { cwd: ROOT, env });
});
