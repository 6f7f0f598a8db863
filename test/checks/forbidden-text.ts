import type { TextFile } from './repository.ts';

interface ForbiddenText {
  readonly what: string;
  readonly pattern: RegExp;
  /** Which files it must not stand in. */
  readonly where: (path: string) => boolean;
}

const CODE = /\.(ts|mts|cts|js|mjs|cjs)$/;
const isData = (path: string) => /(^|\/)(test\/data|golden|fixtures)\//.test(path);
const isLockFile = (path: string) =>
  /(^|\/)(pnpm-lock\.yaml|package-lock\.json|yarn\.lock)$/.test(path);

// Words are put together from parts so that this file passes its own check.
const word = (...parts: string[]) => new RegExp(`\\b${parts.join('')}\\b`);

/** What may not stand in the repository, and where. */
const FORBIDDEN: readonly ForbiddenText[] = [
  {
    what: 'a path of one machine',
    pattern: /(?<![\w.*~}-])\/(?:work|tmp)\//,
    where: (path) => !isData(path),
  },
  {
    what: 'a registry host',
    pattern: /https?:\/\/|\bregistry\.|\btarball:/,
    where: isLockFile,
  },
  {
    what: 'a left-over marker',
    pattern: new RegExp(`${word('TO', 'DO').source}|${word('FIX', 'ME').source}`),
    where: (path) => !isLockFile(path) && !isData(path),
  },
  {
    what: 'a promise instead of code',
    pattern: new RegExp(`${word('place', 'holder').source}|${word('for ', 'now').source}`, 'i'),
    where: (path) => CODE.test(path) && !isData(path),
  },
];

/** Every forbidden text, as `path:line: what "text"`. */
export function forbiddenTextProblems(files: readonly TextFile[]): string[] {
  return files.flatMap(({ path, text }) => {
    const rules = FORBIDDEN.filter(({ where }) => where(path));
    return rules.flatMap(({ what, pattern }) =>
      text.split('\n').flatMap((line, index) => {
        const found = pattern.exec(line)?.[0];
        return found ? [`${path}:${index + 1}: ${what}: "${found}"`] : [];
      }),
    );
  });
}
