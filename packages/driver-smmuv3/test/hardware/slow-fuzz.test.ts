import { describe, expect, test } from 'vitest';
import { FuzzMachine, PROFILES } from './fuzz.ts';

const REQUESTS = 1_000_000;
const PER_MACHINE = 200;

describe('a million requests', () => {
  test('against the slow reference: frames, records, descriptor updates', () => {
    const seen: Record<string, number> = {};
    for (let seed = 0; seed < REQUESTS / PER_MACHINE; seed++) {
      const machine = new FuzzMachine(seed, PROFILES[seed % PROFILES.length] as object);
      for (let n = 0; n < PER_MACHINE; n++) {
        const request = machine.request();
        const wanted = machine.expected(request);
        machine.unit.caches.invalidateAll();
        const got = machine.actual(request);
        if (!isSame(got, wanted))
          expect([seed, n, request, got]).toEqual([seed, n, request, wanted]);
        seen[wanted.outcome] = (seen[wanted.outcome] ?? 0) + 1;
      }
      const differs = machine.differingPage();
      if (differs !== undefined) expect([seed, differs]).toEqual([]);
    }
    for (const outcome of ['ok', 'abort', 'raz', 'stall'])
      expect(seen[outcome]).toBeGreaterThan(REQUESTS / 1000);
  }, 1_200_000);

  test('with caches, without hardware updates: what is cached is what a walk gives', () => {
    for (let seed = 0; seed < REQUESTS / PER_MACHINE / 5; seed++) {
      const machine = new FuzzMachine(seed, PROFILES[3] as object, true);
      for (let n = 0; n < PER_MACHINE; n++) {
        const request = machine.request();
        const wanted = machine.expected(request);
        const got = machine.actual(request);
        if (!isSame(got, wanted))
          expect([seed, n, request, got]).toEqual([seed, n, request, wanted]);
      }
    }
  }, 1_200_000);
});

type Result = ReturnType<FuzzMachine['actual']>;

const isSame = (a: Result, b: Result): boolean =>
  a.outcome === b.outcome &&
  a.pa === b.pa &&
  (a.event === b.event || (a.event?.every((word, at) => word === b.event?.[at]) ?? false));
