import { refuse } from '../errors.ts';
import { DRIVER_API_VERSION, type IommuDriver } from './contract.ts';

/**
 * Check a driver and hand it back; every driver package and plugin calls this.
 *
 * @throws {IommuError} EINVAL when it was written for another contract version, has no name, or
 *   reports a hw_info type that is no u32
 */
export const defineDriver = (driver: IommuDriver): IommuDriver => {
  if (driver.apiVersion !== DRIVER_API_VERSION) {
    throw refuse(
      'EINVAL',
      'defineDriver',
      'driver-api-version',
      `driver '${driver.name}' speaks contract version ${driver.apiVersion}, this core speaks ` +
        `${DRIVER_API_VERSION}: use a release of the driver made for it`,
      { value: driver.apiVersion, accepted: String(DRIVER_API_VERSION) },
    );
  }
  if (!driver.name) {
    throw refuse('EINVAL', 'defineDriver', 'driver-name', 'a driver needs a non-empty name');
  }
  if (driver.hwInfoType >>> 0 !== driver.hwInfoType) {
    throw refuse(
      'EINVAL',
      'defineDriver',
      'hw-info-type',
      `driver '${driver.name}' reports hw_info type ${driver.hwInfoType}, which is not a u32`,
      { value: driver.hwInfoType, accepted: '0 to 0xffffffff' },
    );
  }
  return Object.freeze(driver);
};
