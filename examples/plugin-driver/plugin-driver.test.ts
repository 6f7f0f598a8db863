/** The driver of this example under the conformance suite, as its author's repository has it. */
// #region suite
import { describeConformance } from '@iommukit/driver-testkit/vitest';
import { flatIommu } from './driver.ts';

describeConformance({ name: 'the flat IOMMU', createDriver: flatIommu });
// #endregion
