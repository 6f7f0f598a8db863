import type { TextFile } from './repository.ts';

/** A fenced block below `<!-- file: path -->` or `<!-- file: path#region -->`. */
const EMBED =
  /^[ \t]*<!-- file: (\S+?)(?:#(\S+))? -->[ \t]*\n(?:[ \t]*\n)*(?:```[^\n]*\n([\s\S]*?)^```[ \t]*$)?/gm;

/**
 * Where a Markdown file shows a snippet that is not the file it claims to show.
 *
 * @param read content of a file by its path from the repository root, undefined when there is none
 */
export function embedProblems(
  { path, text }: TextFile,
  read: (path: string) => string | undefined,
): string[] {
  return [...text.matchAll(EMBED)].flatMap(([, file = '', region, shown]) => {
    const where = `${path}: snippet of ${file}${region ? `#${region}` : ''}`;
    if (shown === undefined) return [`${where} has no fenced block below its marker`];
    const source = read(file);
    if (source === undefined) return [`${where}: no such file`];
    const wanted = region ? regionOf(source, region) : source;
    if (wanted === undefined) return [`${where}: no such region`];
    return shown.trimEnd() === wanted.trimEnd() ? [] : [`${where} differs from the file`];
  });
}

/**
 * The lines between `// #region name` and the next `// #endregion`, without their common
 * indentation.
 */
export function regionOf(source: string, region: string): string | undefined {
  const lines = source.split('\n');
  const start = lines.findIndex((line) => line.trim() === `// #region ${region}`);
  const length = lines
    .slice(start + 1)
    .findIndex((line) => line.trim().startsWith('// #endregion'));
  if (start < 0 || length < 0) return undefined;
  const body = lines.slice(start + 1, start + 1 + length);
  const indents = body.filter((line) => line.trim()).map((line) => line.search(/\S/));
  const common = Math.min(...indents);
  return body.map((line) => line.slice(common)).join('\n');
}
