import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../scripts/lib/workspace.mjs';

/** One text file: path from the repository root with `/`, and its content. */
export interface TextFile {
  readonly path: string;
  readonly text: string;
}

const TEXT = /\.(ts|mts|cts|js|mjs|cjs|json|jsonl|md|ya?ml|grit|sh|css|html|svg|txt)$/;

/** Files of more bytes than this are data, not something that a person wrote. */
const LARGEST_TEXT_BYTES = 1 << 20;

/** Every file that git tracks or would add, so that a new file is judged before its commit. */
function trackedPaths(): string[] {
  const args = ['ls-files', '-z', '--cached', '--others', '--exclude-standard'];
  const listed = execFileSync('git', args, { cwd: ROOT, encoding: 'utf8', maxBuffer: 1 << 26 });
  return listed.split('\0').filter((path) => path !== '' && existsSync(join(ROOT, path)));
}

/** The tracked files that hold text, read; files without an extension (`.ci/run`) included. */
export function trackedTextFiles(): TextFile[] {
  return trackedPaths()
    .filter((path) => TEXT.test(path) || !/\.[^/]+$/.test(path.replace(/^\./, '')))
    .filter((path) => statSync(join(ROOT, path)).size <= LARGEST_TEXT_BYTES)
    .map((path) => ({ path, text: readFileSync(join(ROOT, path), 'utf8') }));
}

/** `driver-vtd` for `packages/driver-vtd/src/index.ts`; undefined outside `packages`. */
export function packageOf(path: string): string | undefined {
  return /^packages\/([^/]+)\//.exec(path)?.[1];
}
