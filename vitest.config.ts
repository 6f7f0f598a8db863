import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const packages = fileURLToPath(new URL('packages', import.meta.url));

/** Tests run against sources: every workspace package name resolves to its `src`. */
const alias = readdirSync(packages).map((name) => ({
  find: new RegExp(`^@iommukit/${name}$`),
  replacement: join(packages, name, 'src', 'index.ts'),
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
