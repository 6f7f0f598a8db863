/**
 * The conformance suite as vitest tests: one call in a test file of the driver's own repository.
 * @module
 */
import { afterAll, describe, it } from 'vitest';
import { describeConformance as describeWith } from './conformance/suite.ts';
import type { ConformanceTarget } from './conformance/target.ts';

/** What every host of vitest has; the package is built without the types of any host. */
declare const console: { info(text: string): void };

export type { ConformanceNeed, ConformanceTarget, NestingSupport } from './conformance/target.ts';

/**
 * Register every case as a test. Cases that the driver's capabilities rule out are skipped, and
 * printed by name with what they need.
 *
 * @param target the driver, and what only its author knows of it
 */
export const describeConformance = (target: ConformanceTarget): void => {
  const skipped: string[] = [];
  const test = Object.assign((name: string, body: () => void) => it(name, body), {
    skip: (name: string, body: () => void) => {
      skipped.push(name);
      it.skip(name, body);
    },
  });
  describeWith(target, { describe: (name, body) => describe(name, body), it: test });
  afterAll(() => {
    if (skipped.length > 0) console.info([`${target.name} skips`, ...skipped].join('\n  '));
  });
};
