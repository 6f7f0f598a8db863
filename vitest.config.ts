import { readdirSync } from 'node:fs';
import { defineConfig } from 'vitest/config';

const root = new URL('.', import.meta.url).pathname;

/** Tests run against sources: every workspace package name resolves to its `src`. */
const alias = readdirSync(new URL('packages', import.meta.url)).map((name) => ({
  find: new RegExp(`^@iommukit/${name}$`),
  replacement: `${root}packages/${name}/src/index.ts`,
}));

export default defineConfig({
  resolve: { alias },
  test: {
    include: ['packages/*/test/**/*.test.ts', 'examples/**/*.test.ts', 'test/**/*.test.ts'],
    exclude: ['**/node_modules/**', '**/dist/**', '**/slow-*.test.ts'],
    reporters: ['default'],
    testTimeout: 30_000,
  },
});
