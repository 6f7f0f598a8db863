/** The suite on the mock driver, and on mocks that are broken in one way each. */

import { defineDriver, type IommuDriver, type IommuUnit } from '@iommukit/core';
import {
  type ConformanceTarget,
  describeConformance,
  MOCK_TYPE,
  MockUnit,
  mockDriver,
  runConformance,
} from '@iommukit/driver-testkit';
import { describe, expect, it } from 'vitest';

const mock: ConformanceTarget = { name: 'the mock driver', createDriver: mockDriver };

describeConformance(mock, { describe, it });

/** The mock with its unit changed after it was made. */
const broken = (change: (unit: MockUnit) => void): ConformanceTarget => ({
  name: 'a broken mock',
  createDriver: () => {
    const sound = mockDriver();
    const driver: IommuDriver = defineDriver({
      ...sound,
      create: (host): IommuUnit => {
        const unit = new MockUnit(driver, host);
        change(unit);
        return unit;
      },
    });
    return driver;
  },
});

const failures = (target: ConformanceTarget): string[] =>
  runConformance(target)
    .filter(({ error }) => error)
    .map(({ name }) => name);

describe('a broken driver is found out', () => {
  it.each<[string, (unit: MockUnit) => void, RegExp]>([
    [
      'hw_info of any type',
      (unit) => {
        const sound = unit.hwInfo.bind(unit);
        unit.hwInfo = (device) => sound(device, 0);
      },
      /hw_info/,
    ],
    [
      'attach does nothing',
      (unit) => {
        unit.attach = () => {};
      },
      /DMA moves the bytes/,
    ],
    [
      'detach does not block',
      (unit) => {
        const sound = unit.attach.bind(unit);
        unit.attach = (device, pasid, domain) => {
          if (domain.kind !== 'blocking') sound(device, pasid, domain);
        };
      },
      /detach blocks/,
    ],
    [
      'PASIDs are ignored',
      (unit) => {
        const sound = unit.agent.translatePage.bind(unit.agent);
        unit.agent.translatePage = (rid, _pasid, pfn, access) => sound(rid, -1, pfn, access);
      },
      /each PASID/,
    ],
    [
      'rights are ignored',
      (unit) => {
        const sound = unit.agent.translatePage.bind(unit.agent);
        unit.agent.translatePage = (rid, pasid, pfn) => sound(rid, pasid, pfn, 0);
      },
      /read-only mapping/,
    ],
    [
      'answers to page requests are lost',
      (unit) => {
        unit.pri.respond = () => {};
      },
      /page requests reach/,
    ],
    [
      'dirty pages stay dirty',
      (unit) => {
        const sound = unit.allocPaging.bind(unit);
        unit.allocPaging = (device, request) => {
          const domain = sound(device, request);
          const dirty = domain.dirty;
          if (dirty) {
            const read = dirty.readAndClear.bind(dirty);
            dirty.readAndClear = (frame, count, visit) => read(frame, count, visit, false);
          }
          return domain;
        };
      },
      /written pages are dirty/,
    ],
  ])('%s', (_title, change, expected) => {
    expect(failures(broken(change)).join('; ')).toMatch(expected);
  });

  it('the sound mock fails nowhere and skips what it has not, by name', () => {
    const outcomes = runConformance(mock);
    expect(outcomes.filter(({ error }) => error)).toEqual([]);
    const skipped = outcomes.flatMap((outcome) => outcome.skipped ?? []);
    expect(skipped).toEqual(['needs no-pri', 'needs nesting', 'needs nesting']);
    expect(MOCK_TYPE.HWPT_DATA).toBe(0xdead);
  });
});
