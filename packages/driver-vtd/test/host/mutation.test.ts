/**
 * Every command that the host half sends is needed: with any one call left out, some scenario
 * ends at the wrong page. Calls are told apart by where they stand in the source.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { InvalidationQueue } from '../../src/host/invalidation-queue.ts';
import { SCENARIOS } from './scenarios.ts';

const HOST = new URL('../../src/host/', import.meta.url);
const { push, submit } = InvalidationQueue.prototype;

interface Site {
  /** `file:line:column` of the calls inside invalidate.ts, then of the call that led there. */
  readonly key: string;
}

/** Where in the host half the current command comes from. */
const callSite = (): Site => {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 12;
  const frames = (new Error().stack ?? '').split('\n').slice(3);
  Error.stackTraceLimit = limit;
  const path: string[] = [];
  for (const frame of frames) {
    const at = /\/host\/([a-z-]+\.ts)[^:]*:(\d+:\d+)/.exec(frame);
    if (!at) break;
    path.push(`${at[1]}:${at[2]}`);
    if (at[1] !== 'invalidate.ts' && at[1] !== 'invalidation-queue.ts') break;
  }
  return { key: path.join(' < ') };
};

/** Run `act` with every command passing `filter`; false leaves it out. */
const filtered = (filter: (site: Site) => boolean, act: () => void): void => {
  InvalidationQueue.prototype.push = function (...words) {
    if (filter(callSite())) push.apply(this, words);
  };
  InvalidationQueue.prototype.submit = function (...flags) {
    if (filter(callSite())) submit.apply(this, flags);
  };
  act();
};

const restore = (): void => {
  InvalidationQueue.prototype.push = push;
  InvalidationQueue.prototype.submit = submit;
};

const fails = (act: () => void): boolean => {
  try {
    act();
    return false;
  } catch {
    return true;
  }
};

/** Sites by key, with the scenarios that pass them. */
const survey = (): Map<string, { site: Site; scenarios: Set<string> }> => {
  const seen = new Map<string, { site: Site; scenarios: Set<string> }>();
  for (const [name, scenario] of Object.entries(SCENARIOS)) {
    filtered((site) => {
      const entry = seen.get(site.key) ?? { site, scenarios: new Set<string>() };
      entry.scenarios.add(name);
      seen.set(site.key, entry);
      return true;
    }, scenario);
  }
  restore();
  return seen;
};

const SITES = survey();

describe('each invalidation is needed', () => {
  afterEach(restore);

  it.each([...SITES.keys()])('%s', (key) => {
    const { scenarios } = SITES.get(key) as { scenarios: Set<string> };
    const red = [...scenarios].filter((name) =>
      fails(() => filtered((site) => site.key !== key, SCENARIOS[name] as () => void)),
    );
    expect(red.length, `no scenario notices that ${key} is missing`).toBeGreaterThan(0);
  });

  it('the scenarios pass every call in the source', () => {
    const called = new Map<string, number>();
    const calls = new Set([...SITES.keys()].map((key) => key.split(' < ').at(-1) as string));
    for (const call of calls) {
      const file = call.slice(0, call.indexOf(':'));
      called.set(file, (called.get(file) ?? 0) + 1);
    }
    const written = new Map<string, number>();
    for (const file of readdirSync(HOST)) {
      if (file === 'invalidate.ts' || file === 'invalidation-queue.ts') continue;
      const source = readFileSync(new URL(file, HOST), 'utf8');
      const found = source.match(/\binvalidate\.(?:queue\.submit|[a-z]\w+)\(/g) ?? [];
      if (found.length > 0) written.set(file, found.length);
    }
    expect(Object.fromEntries(called)).toEqual(Object.fromEntries(written));
  });
});
