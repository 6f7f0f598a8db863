import { describe, expect, test } from 'vitest';
import { readCases } from '../../driver-amdvi/test/hardware-cases/case-file.ts';
import { differences } from '../../driver-amdvi/test/hardware-cases/judge.ts';
import { CaseMemory, replayCase } from '../../driver-amdvi/test/hardware-cases/replay.ts';
import { caseCapabilities, createSmmuUnit } from './hardware-cases/smmu-unit.ts';

const ram = new CaseMemory();

const run = (item: ReturnType<typeof readCases>[number]): string[] => {
  ram.clean();
  const unit = createSmmuUnit(ram, caseCapabilities(item.model?.['stage']));
  return differences(item, replayCase(item, ram, unit));
};

describe.each(['hardware-cases.json', 'smmu-s1.json.gz', 'smmu-s2.json.gz', 'smmu-nested.json.gz'])(
  '%s',
  (file) => {
    const cases = readCases(new URL(`data/${file}`, import.meta.url));

    test('holds cases', () => {
      expect(cases.length).toBeGreaterThan(0);
    });

    test.each(cases.map((item) => [item.name, item] as const))('%s', (_, item) => {
      expect(run(item)).toEqual([]);
    });
  },
);

test('a wrong answer is seen: the same case with one expected address changed', () => {
  const [item] = readCases(new URL('data/hardware-cases.json', import.meta.url));
  const text = JSON.stringify(item).replace('0x48005004', '0x48005008');
  expect(run(JSON.parse(text))).toHaveLength(1);
});
