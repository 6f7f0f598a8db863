/** The plugin of the README: a driver without hardware, judged by the suite. */
// #region suite
import { type ConformanceTarget, describeConformance } from '@iommukit/driver-testkit';
import { describe, it } from 'vitest';
import { myDriver } from './plugin-driver.ts';

const target: ConformanceTarget = { name: 'my driver', createDriver: () => myDriver() };

describeConformance(target, { describe, it });
// #endregion
