/**
 * Every command that the host half sends is needed: with any one call left out, some scenario ends
 * at the wrong page or with the unit told too little, and the sanitizer names the stale entry. Calls
 * are told apart by where they stand in the source.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import { CommandQueue } from '../../src/host/command-queue.ts';
import type { SmmuHardware } from '../../src/index.ts';
import { watch } from './fixture.ts';
import { SCENARIOS } from './scenarios.ts';

const HOST = new URL('../../src/host/', import.meta.url);
const { push, submit } = CommandQueue.prototype;

interface Site {
  /** `file:line:column` of the calls inside invalidate.ts, then of the call that led there. */
  readonly key: string;
  /** File of that call, and the command: `stream.ts wholeDeviceTlb`. */
  readonly name: string;
}

const FRAME = /at (?:async )?(?:[\w#]+\.)?([\w#]+) \(.*\/host\/([a-z0-9-]+\.ts)[^:]*:(\d+:\d+)/;
const isInner = (file: string): boolean => file === 'invalidate.ts' || file === 'command-queue.ts';
/** What devices and guests asked for: answers and their own commands, with tests of their own. */
const FOR_OTHERS = ['page-faults.ts', 'user-invalidation.ts'];

/** Where in the host half the current command comes from. */
const callSite = (): Site => {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 14;
  const frames = (new Error().stack ?? '').split('\n').slice(3);
  Error.stackTraceLimit = limit;
  const path: string[] = [];
  let command = 'submit';
  let file = 'unknown';
  for (const frame of frames) {
    const [, method, inFile, place] = FRAME.exec(frame) ?? [];
    if (!method || !inFile) break;
    path.push(`${inFile}:${place}`);
    file = inFile;
    if (!isInner(inFile)) break;
    command = method;
  }
  return { key: path.join(' < '), name: `${file} ${command}` };
};

/** Run `act` with every command passing `filter`; false leaves it out. */
const filtered = (filter: (site: Site) => boolean, act: () => void): void => {
  CommandQueue.prototype.push = function (...words) {
    if (filter(callSite())) push.apply(this, words);
  };
  CommandQueue.prototype.submit = function () {
    if (filter(callSite())) submit.apply(this);
  };
  act();
};

const restore = (): void => {
  CommandQueue.prototype.push = push;
  CommandQueue.prototype.submit = submit;
};

const fails = (act: () => void): boolean => {
  try {
    act();
    return false;
  } catch {
    return true;
  }
};

interface Survey {
  readonly site: Site;
  readonly scenarios: Set<string>;
}

/** Sites by key, with the scenarios that pass them. */
const survey = (): Map<string, Survey> => {
  const seen = new Map<string, Survey>();
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

/** A scenario with the commands of one site left out. */
const without = (key: string, scenario: string): void =>
  filtered((site) => site.key !== key, SCENARIOS[scenario] as () => void);

/** Findings of all hardware that `act` makes, whatever becomes of `act`. */
const sanitized = (act: () => void): string[] => {
  const made: SmmuHardware[] = [];
  watch.hardware = made;
  fails(act);
  watch.hardware = undefined;
  return made.flatMap(({ sanitizer }) => {
    sanitizer?.audit();
    return sanitizer?.findings.map(({ text }) => text) ?? [];
  });
};

/**
 * Sites that the sanitizer has nothing to say of: the end of a tag, which another command hands over
 * before the tag can be in use again; and a level-1 descriptor that this hardware does not keep while
 * it is absent, as it may.
 */
const UNSEEN: readonly string[] = [
  'cache-tags.ts submit',
  'stream-table.ts stream',
  'stream-table.ts submit',
];

afterEach(restore);

describe('each invalidation is needed', () => {
  test.each([...SITES.values()])('$site.name at $site.key', ({ site, scenarios }) => {
    const red = [...scenarios].some((name) => fails(() => without(site.key, name)));
    expect(red, `no scenario notices that ${site.key} is missing`).toBe(true);
  });

  test('the scenarios pass every call in the source', () => {
    const called = new Map<string, Set<string>>();
    for (const key of SITES.keys()) {
      const call = key.split(' < ').at(-1) as string;
      const file = call.slice(0, call.indexOf(':'));
      called.set(file, (called.get(file) ?? new Set()).add(call));
    }
    for (const file of readdirSync(HOST)) {
      if (isInner(file) || FOR_OTHERS.includes(file)) continue;
      const source = readFileSync(new URL(file, HOST), 'utf8');
      const written = source.match(/\binvalidate\.[a-z]\w+\(/g) ?? [];
      expect([file, called.get(file)?.size ?? 0]).toEqual([file, written.length]);
    }
  });
});

describe('the sanitizer', () => {
  test.each(Object.entries(SCENARIOS))('is silent over: %s', (_name, scenario) => {
    expect(sanitized(scenario)).toEqual([]);
  });

  test('complains when any one of them is left out, but for those it cannot know of', () => {
    const silent: string[] = [];
    for (const { site, scenarios } of SITES.values()) {
      const heard = [...scenarios].some(
        (name) => sanitized(() => without(site.key, name)).length > 0,
      );
      restore();
      if (!heard) silent.push(site.name);
    }
    expect(silent.sort()).toEqual(UNSEEN);
  }, 180_000);
});
