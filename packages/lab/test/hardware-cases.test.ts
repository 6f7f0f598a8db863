import { describe, expect, test } from 'vitest';
import { caseFilesAt, type HardwareCase, readCases } from '../src/hardware-cases/case-file.ts';
import { type RunReport, runCase } from '../src/hardware-cases/run.ts';

const data = new URL('data', import.meta.url).pathname;

const run = (item: HardwareCase): string[] => {
  const report: RunReport = { cases: 0, probes: 0, different: [] };
  runCase(item, 'file', report);
  return report.different;
};

describe.each(caseFilesAt(data).map((file) => [file.slice(data.length + 1), file]))(
  'hardware cases of %s',
  (_, file) => {
    const cases = readCases(file as string);

    test(`all ${cases.length} answers are legal`, () => {
      expect(cases.length).toBeGreaterThan(0);
      expect(cases.flatMap(run)).toEqual([]);
    });
  },
);

test.each(['vtd', 'amdvi', 'smmuv3'])('%s: a wrong answer is seen', (arch) => {
  const [item] = readCases(`${data}/${arch}.json`).filter(({ expect: { results } }) =>
    results?.some(({ ok, pa }) => ok === true && typeof pa === 'string'),
  );
  const { results = [] } = (item as HardwareCase).expect;
  const moved = results.map((answer) =>
    typeof answer['pa'] === 'string'
      ? { ...answer, pa: `0x${(BigInt(answer['pa']) + 4n).toString(16)}` }
      : answer,
  );
  const wrong = { ...(item as HardwareCase), also_legal: {}, expect: { results: moved } };
  expect(run(wrong).length).toBeGreaterThan(0);
});

test('an unknown architecture is refused by name', () => {
  expect(() => run({ name: 'x', arch: 'riscv', expect: {} })).toThrow(
    /'riscv': expected vtd, amdvi/,
  );
});
