import ts from 'typescript';
import type { TextFile } from './repository.ts';

/** Module names that a file names in import, export-from, `import()`, `require()` and types. */
export function importsOf({ text }: Pick<TextFile, 'text'>): string[] {
  return ts.preProcessFile(text, true, true).importedFiles.map(({ fileName }) => fileName);
}

/** `@iommukit/core` for `@iommukit/core/x`; undefined for relative and `node:` imports. */
export function packageNameOf(specifier: string): string | undefined {
  if (specifier.startsWith('.') || specifier.startsWith('node:')) return undefined;
  const parts = specifier.split('/');
  return parts.slice(0, specifier.startsWith('@') ? 2 : 1).join('/');
}
