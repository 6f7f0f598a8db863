import { library } from '@iommukit-internal/build/tsup';

export default library({ index: 'src/index.ts', vitest: 'src/vitest.ts' });
