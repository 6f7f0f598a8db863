// What the numbers were measured on.
import { spawnSync } from 'node:child_process';
import { cpus, totalmem } from 'node:os';
import { compiler, pinnedCpu } from './processes.mjs';

/** Facts about this machine, name and value. */
export function describeMachine() {
  const version =
    compiler === undefined ? undefined : spawnSync(compiler, ['--version'], { encoding: 'utf8' });
  return {
    CPU: `${cpus()[0]?.model.trim() ?? 'unknown'}, ${cpus().length} cores`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    system: `${process.platform} ${process.arch}`,
    node: `${process.version} (V8 ${process.versions.v8})`,
    compiler: version?.stdout.split('\n')[0] ?? 'none',
    pinned: pinnedCpu === undefined ? 'no (no taskset)' : `CPU ${pinnedCpu}`,
  };
}
