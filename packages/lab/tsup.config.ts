import { defineConfig } from 'tsup';

export default defineConfig({
  entry: { 'hardware-cases': 'src/hardware-cases/cli.ts' },
  format: ['esm'],
  platform: 'node',
  target: 'node20',
  clean: true,
  tsconfig: 'tsconfig.build.json',
});
