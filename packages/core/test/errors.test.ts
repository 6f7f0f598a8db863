import { describe, expect, test } from 'vitest';
import { DRIVER_API_VERSION, defineDriver, type IommuDriver } from '../src/driver/index.ts';
import { ERRNO, errnoName } from '../src/errno.ts';
import { isIommuError, refuse } from '../src/errors.ts';

describe('IommuError', () => {
  const error = refuse('EADDRINUSE', 'IOMMU_IOAS_MAP', 'iova-reserved', 'hits the MSI window', {
    range: { start: 0xfee00000, last: 0xfeefffff },
    owner: '0000:00:04.0',
  });

  test('carries code, errno, call and structured reason', () => {
    expect(error).toMatchObject({
      code: 'EADDRINUSE',
      errno: 98,
      op: 'IOMMU_IOAS_MAP',
      reason: { rule: 'iova-reserved', owner: '0000:00:04.0' },
    });
    expect(error.message).toBe('IOMMU_IOAS_MAP: EADDRINUSE: hits the MSI window');
  });

  test('is known by its brand, also when another copy of the package made it', () => {
    const foreign = Object.assign(new Error('x'), { [Symbol.for('@iommukit/error')]: true });
    expect([error, foreign, new Error('y'), null, 'EINVAL'].map(isIommuError)).toEqual([
      true,
      true,
      false,
      false,
      false,
    ]);
  });

  test('names every errno it knows, positive or negative', () => {
    for (const [name, value] of Object.entries(ERRNO)) {
      expect(errnoName(value)).toBe(name);
      expect(errnoName(-value)).toBe(name);
      expect(refuse(-value, 'op', 'rule', 'message').code).toBe(name);
    }
  });
});

describe('defineDriver', () => {
  const driver = (change: Partial<IommuDriver>): IommuDriver => ({
    apiVersion: DRIVER_API_VERSION,
    name: 'test',
    hwInfoType: 0,
    create: () => {
      throw new Error('never called');
    },
    ...change,
  });

  test('hands a good driver back, frozen', () => {
    expect(Object.isFrozen(defineDriver(driver({})))).toBe(true);
  });

  test.each([
    [{ apiVersion: 2 }, 'driver-api-version'],
    [{ name: '' }, 'driver-name'],
    [{ hwInfoType: -1 }, 'hw-info-type'],
    [{ hwInfoType: 1.5 }, 'hw-info-type'],
  ])('refuses %j by the rule %s', (change, rule) => {
    expect(() => defineDriver(driver(change))).toThrow(
      expect.objectContaining({ code: 'EINVAL', reason: expect.objectContaining({ rule }) }),
    );
  });
});
