import { defineConfig } from 'tsup';

export default defineConfig({
  entry: {
    'stream-file': 'stream-file/main.ts',
    quickstart: 'quickstart/main.ts',
    'plugin-driver': 'plugin-driver/main.ts',
    'raw-ioctl': 'raw-ioctl/main.ts',
    migration: 'migration/main.ts',
    'ioasid-flows': 'ioasid-flows/main.ts',
    'pasid-models': 'pasid-models/main.ts',
    'legacy-nesting': 'legacy-nesting/main.ts',
    'nested-arm': 'nested-arm/main.ts',
    'vtd-guest-driver': 'vtd-guest-driver/main.ts',
  },
  format: ['esm'],
  platform: 'node',
  target: 'node20',
  clean: true,
  splitting: true,
  tsconfig: 'tsconfig.build.json',
});
