import { libraryWithEsmEntries } from '@iommukit-internal/build/tsup';

export default libraryWithEsmEntries({ index: 'src/index.ts' }, { vitest: 'src/vitest.ts' });
