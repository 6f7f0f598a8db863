/**
 * The mock as a driver plugin.
 * @module
 */
import { DRIVER_API_VERSION, defineDriver, type IommuDriver } from '@iommukit/core';
import { MOCK_TYPE } from './constants.ts';
import { MockUnit } from './unit.ts';

/** The mock driver: `machine.addUnit(mockDriver())`. */
export const mockDriver = (): IommuDriver => {
  const driver: IommuDriver = defineDriver({
    apiVersion: DRIVER_API_VERSION,
    name: 'mock',
    hwInfoType: MOCK_TYPE.HW_INFO,
    create: (host) => new MockUnit(driver, host),
  });
  return driver;
};
