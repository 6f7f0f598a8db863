import { ensureInstalled } from './install.mjs';
import { locatePnpm } from './pnpm.mjs';
import { conclude, passThrough, step } from './run.mjs';
import { tools } from './tools.mjs';
import { followVersionInPeers } from './versions.mjs';
import { ROOT } from './workspace.mjs';

await conclude(async () => {
  const env = await ensureInstalled();
  const status = await passThrough([...tools.changeset, 'version'], { cwd: ROOT, env });
  if (status !== 0) return status;
  followVersionInPeers();
  const relock = [process.execPath, await locatePnpm(), 'install', '--lockfile-only'];
  await step('refresh the lock file', relock, { cwd: ROOT, env });
  return 0;
});
