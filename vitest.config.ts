import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const packages = fileURLToPath(new URL('packages', import.meta.url));

/** Tests run against sources: every workspace package name, and each subpath, resolves to `src`. */
const alias = readdirSync(packages).flatMap((name) => [
  {
    find: new RegExp(`^@iommukit/${name}$`),
    replacement: join(packages, name, 'src', 'index.ts'),
  },
  {
    find: new RegExp(`^@iommukit/${name}/([a-z-]+)$`),
    replacement: join(packages, name, 'src', '$1.ts'),
  },
]);

/** Slow tests run only when asked for: `npm run test:slow`, or `npm test -- slow-name`. */
const slow = process.env['IOMMUKIT_SLOW'] ? [] : ['**/slow-*.test.ts'];

export default defineConfig({
  resolve: { alias },
  test: {
    include: ['packages/*/test/**/*.test.ts', 'examples/**/*.test.ts', 'test/**/*.test.ts'],
    exclude: ['**/node_modules/**', '**/dist/**', ...slow],
    reporters: ['default'],
    // By default one core of two stays idle: 330 s instead of 190 s.
    maxWorkers: availableParallelism(),
    testTimeout: 120_000,
  },
});
