import { describe, expect, test } from 'vitest';
import { FuzzMachine, PROFILES } from './fuzz.ts';

const SEEDS = 60;
const REQUESTS = 60;

/** Requests that differ, and how often each outcome was seen. */
const compare = (profile: number, seeds: number, requests: number, cached: boolean) => {
  const seen: Record<string, number> = {};
  for (let seed = 0; seed < seeds; seed++) {
    const machine = new FuzzMachine(seed, PROFILES[profile] as object, cached);
    for (let n = 0; n < requests; n++) {
      const request = machine.request();
      const wanted = machine.expected(request);
      if (!cached) machine.unit.caches.invalidateAll();
      expect({ seed, n, request, result: machine.actual(request) }).toEqual({
        seed,
        n,
        request,
        result: wanted,
      });
      seen[wanted.outcome] = (seen[wanted.outcome] ?? 0) + 1;
    }
    expect({ seed, differs: machine.differingPage() }).toEqual({ seed, differs: undefined });
  }
  return seen;
};

describe('random machines against the slow reference', () => {
  test.each(PROFILES.map((capabilities, at) => [JSON.stringify(capabilities), at] as const))(
    'frames, records and descriptor updates: %s',
    (_, profile) => {
      const seen = compare(profile, SEEDS, REQUESTS, false);
      expect(seen['ok']).toBeGreaterThan(SEEDS);
    },
  );

  test('without hardware updates, caches change no answer', () => {
    const seen = compare(3, SEEDS, REQUESTS, true);
    expect(seen['ok']).toBeGreaterThan(SEEDS);
    expect(seen['stall']).toBeGreaterThan(SEEDS);
  });
});
