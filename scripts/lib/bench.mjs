import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ensureInstalled } from './install.mjs';
import { conclude, passThrough, StepFailed, say } from './run.mjs';
import { turboStep } from './turbo.mjs';
import { ROOT, workspacePackages } from './workspace.mjs';

/** The page tables come first: every other figure rests on theirs. */
const FIRST = 'packages/pgtable-fast';

await conclude(async () => {
  const env = await ensureInstalled();
  await turboStep('build', 'building', env);
  const dirs = workspacePackages()
    .map(({ dir }) => dir)
    .filter((dir) => existsSync(join(ROOT, dir, 'bench', 'run.mjs')))
    .sort((a, b) => Number(b === FIRST) - Number(a === FIRST));
  if (dirs.length === 0) throw new StepFailed('no package has a bench/run.mjs', 1);
  let status = 0;
  for (const dir of dirs) {
    say(`benchmark of ${dir}`);
    const bench = join(ROOT, dir, 'bench', 'run.mjs');
    const ended = await passThrough([process.execPath, bench, ...process.argv.slice(2)], { env });
    status ||= ended;
  }
  return status;
});
