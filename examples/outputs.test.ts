import { readFileSync } from 'node:fs';
import { format } from 'node:util';
import { expect, test, vi } from 'vitest';

const read = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8');

/** The fenced block below `<!-- output: EXAMPLE -->` in a document. */
const shownOutput = (document: string, example: string): string | undefined =>
  new RegExp(`<!-- output: ${example} -->\\n+\`\`\`text\\n([\\s\\S]*?)\`\`\``)
    .exec(read(document))?.[1]
    ?.trimEnd();

test.each([
  ['README.md', 'examples/quickstart', () => import('./quickstart/main.ts')],
  ['packages/core/README.md', 'examples/raw-ioctl', () => import('./raw-ioctl/main.ts')],
  ['packages/core/README.md', 'examples/migration', () => import('./migration/main.ts')],
  ['examples/README.md', 'examples/ioasid-flows', () => import('./ioasid-flows/main.ts')],
  ['examples/README.md', 'examples/pasid-models', () => import('./pasid-models/main.ts')],
  ['examples/nested-arm/README.md', 'examples/nested-arm', () => import('./nested-arm/main.ts')],
  [
    'examples/legacy-nesting/README.md',
    'examples/legacy-nesting',
    () => import('./legacy-nesting/main.ts'),
  ],
])('%s shows what %s prints', async (document, example, run) => {
  const lines: string[] = [];
  const log = vi.spyOn(console, 'log').mockImplementation((...args) => {
    lines.push(format(...args));
  });
  await run();
  log.mockRestore();
  expect(lines.join('\n')).toBe(shownOutput(document, example));
});
