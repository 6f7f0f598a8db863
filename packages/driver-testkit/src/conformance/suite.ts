/**
 * The conformance suite: cases as data, a runner without a framework, and an adapter for runners
 * with `describe` and `it`.
 * @module
 */
import { ConformanceBench } from './bench.ts';
import type { ConformanceCase } from './case.ts';
import { DMA_CASES } from './dma-cases.ts';
import { DOMAIN_CASES } from './domain-cases.ts';
import { FEATURE_CASES } from './feature-cases.ts';
import { MIGRATION_CASES } from './migration-cases.ts';
import { abilitiesOf, type ConformanceNeed, type ConformanceTarget } from './target.ts';
import { UNIT_CASES } from './unit-cases.ts';

/** Every case, in the order a driver's author would make them pass. */
export const CONFORMANCE_CASES: readonly ConformanceCase[] = [
  ...UNIT_CASES,
  ...DOMAIN_CASES,
  ...DMA_CASES,
  ...FEATURE_CASES,
  ...MIGRATION_CASES,
];

/** Outcome of one case. */
export interface ConformanceOutcome {
  readonly name: string;
  readonly spec: string;
  /** Why it was not run; absent = it was. */
  readonly skipped?: string;
  /** What went wrong; absent = it passed or was skipped. */
  readonly error?: Error;
}

/** What of a case's needs a target does not have. */
const missingNeeds = (target: ConformanceTarget, needs: readonly ConformanceNeed[]): string => {
  if (needs.length === 0) return '';
  const { unit, device } = new ConformanceBench(target);
  const can = abilitiesOf(target, unit, device);
  return needs.filter((need) => !can.has(need)).join(', ');
};

/** Run one case on a machine of its own. @throws what the case throws */
export const runConformanceCase = (target: ConformanceTarget, one: ConformanceCase): void => {
  const bench = new ConformanceBench(target);
  one.run(bench);
  bench.close();
};

/** Run the whole suite. */
export const runConformance = (target: ConformanceTarget): ConformanceOutcome[] =>
  CONFORMANCE_CASES.map((one) => {
    const { name, spec } = one;
    const missing = missingNeeds(target, one.needs);
    if (missing) return { name, spec, skipped: `needs ${missing}` };
    try {
      runConformanceCase(target, one);
      return { name, spec };
    } catch (error) {
      return { name, spec, error: error instanceof Error ? error : new Error(String(error)) };
    }
  });

/** The part of vitest (or another runner) that the adapter uses. */
export interface TestRunner {
  describe(name: string, body: () => void): void;
  readonly it: {
    (name: string, body: () => void): void;
    skip(name: string, body: () => void): void;
  };
}

/**
 * Register the suite: `describeConformance(target, { describe, it })` in a test file. Cases that the
 * driver's capabilities rule out are skipped by name, with what they need.
 */
export const describeConformance = (target: ConformanceTarget, runner: TestRunner): void => {
  runner.describe(`conformance of ${target.name}`, () => {
    for (const one of CONFORMANCE_CASES) {
      const missing = missingNeeds(target, one.needs);
      const title = `${one.name} [${one.spec}]`;
      if (missing) runner.it.skip(`${title} (needs ${missing})`, () => {});
      else runner.it(title, () => runConformanceCase(target, one));
    }
  });
};
