import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureInstalled } from '../lib/install.mjs';
import { locatePnpm } from '../lib/pnpm.mjs';
import { tools } from '../lib/tools.mjs';
import { ROOT } from '../lib/workspace.mjs';
import { checkChangesets } from './changesets.mjs';
import { checkStart, checkTests } from './commands.mjs';
import { checkPackages } from './packages.mjs';
import { mustRun, Report } from './report.mjs';

const report = new Report();
const scratch = mkdtempSync(join(tmpdir(), 'iommukit-ci-'));
try {
  await runAll();
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
process.exitCode = report.conclude();

async function runAll() {
  /** @type {NodeJS.ProcessEnv} */
  let env = {};
  const installed = await report.check('install', async () => {
    env = await ensureInstalled();
  });
  // Nothing below can run without the tools.
  if (!installed) return;
  const run = (/** @type {string[]} */ command) => () => mustRun(command, { cwd: ROOT, env });
  await report.check('lint', run(tools.lint));
  await report.check('type check', run(tools.typecheck));
  await report.check('build', run([...tools.build, '--output-logs=errors-only']));
  await checkStart(report);
  await checkTests(report, scratch);
  await checkPackages(report, scratch, await locatePnpm(), env);
  await report.check('knip', run(tools.knip));
  await checkChangesets(report, join(scratch, 'changesets'), env);
}
