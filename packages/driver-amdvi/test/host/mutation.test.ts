/**
 * Every command that the host half sends is needed: with any one call left out, some scenario
 * ends at the wrong page, and the sanitizer names the stale entry. Calls are told apart by where
 * they stand in the source.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { CommandBuffer } from '../../src/host/command-buffer.ts';
import type { AmdviHardware } from '../../src/index.ts';
import { watch } from './fixture.ts';
import { SCENARIOS } from './scenarios.ts';

const HOST = new URL('../../src/host/', import.meta.url);
const { push, submit } = CommandBuffer.prototype;

interface Site {
  /** `file:line:column` of the calls inside invalidate.ts, then of the call that led there. */
  readonly key: string;
  /** File of that call, and the command: `entries.ts deviceEntry`. */
  readonly name: string;
}

const FRAME = /at (?:async )?(?:[\w#]+\.)?([\w#]+) \(.*\/host\/([a-z-]+\.ts)[^:]*:(\d+:\d+)/;
const isInner = (file: string): boolean => file === 'invalidate.ts' || file === 'command-buffer.ts';

/** Where in the host half the current command comes from. */
const callSite = (): Site => {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 12;
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
    if (command === 'submit' || command === 'cover' || command === 'deviceCover') command = method;
  }
  return { key: path.join(' < '), name: `${file} ${command}` };
};

/** Run `act` with every command passing `filter`; false leaves it out. */
const filtered = (filter: (site: Site) => boolean, act: () => void): void => {
  CommandBuffer.prototype.push = function (...words) {
    if (filter(callSite())) push.apply(this, words);
  };
  CommandBuffer.prototype.submit = function () {
    if (filter(callSite())) submit.apply(this);
  };
  act();
};

const restore = (): void => {
  CommandBuffer.prototype.push = push;
  CommandBuffer.prototype.submit = submit;
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
  const made: AmdviHardware[] = [];
  watch.hardware = made;
  fails(act);
  watch.hardware = undefined;
  return made.flatMap(({ sanitizer }) => {
    sanitizer?.audit();
    return sanitizer?.findings.map(({ text }) => text) ?? [];
  });
};

/**
 * Sites of which the sanitizer of a unit cannot know: TLBs in the devices, answers to devices, and
 * what the architecture asks for although this hardware caches nothing there.
 */
const UNSEEN = [
  'attach.ts submit',
  'bring-up.ts everything',
  'bring-up.ts submit',
  'cache-tags.ts devicePages',
  'cache-tags.ts deviceTlb',
  'cache-tags.ts deviceTlb',
  'cache-tags.ts pages',
  'device-table.ts deviceEntry',
  'device-table.ts submit',
  'domain.ts deviceTlb',
  'guest-commands.ts completePpr',
  'guest-commands.ts deviceCover',
  'nesting.ts deviceTlb',
  'page-requests.ts completePpr',
  'page-requests.ts submit',
  'translating-domain.ts deviceTlb',
];

afterEach(restore);

describe('each invalidation is needed', () => {
  it.each([...SITES.values()])('$site.name at $site.key', ({ site, scenarios }) => {
    const red = [...scenarios].some((name) => fails(() => without(site.key, name)));
    expect(red, `no scenario notices that ${site.key} is missing`).toBe(true);
  });

  it('the scenarios pass every call in the source', () => {
    const called = new Map<string, Set<string>>();
    for (const key of SITES.keys()) {
      const call = key.split(' < ').at(-1) as string;
      const file = call.slice(0, call.indexOf(':'));
      called.set(file, (called.get(file) ?? new Set()).add(call));
    }
    for (const file of readdirSync(HOST)) {
      if (isInner(file)) continue;
      const source = readFileSync(new URL(file, HOST), 'utf8');
      const written = source.match(/\binvalidate\.[a-z]\w+\(/g) ?? [];
      expect([file, called.get(file)?.size ?? 0]).toEqual([file, written.length]);
    }
  });
});

describe('the sanitizer', () => {
  it.each(Object.entries(SCENARIOS))('is silent over: %s', (_name, scenario) => {
    expect(sanitized(scenario)).toEqual([]);
  });

  it('complains when any one of them is left out, but for those it cannot know of', () => {
    const silent: string[] = [];
    for (const { site, scenarios } of SITES.values()) {
      const heard = [...scenarios].some(
        (name) => sanitized(() => without(site.key, name)).length > 0,
      );
      restore();
      if (!heard) silent.push(site.name);
    }
    expect(silent.sort()).toEqual(UNSEEN);
  });
});
