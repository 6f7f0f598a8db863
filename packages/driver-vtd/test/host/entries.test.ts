import { describe, expect, it } from 'vitest';
import type { Capabilities } from '../../src/host/capabilities.ts';
import type { DeviceState } from '../../src/host/device-state.ts';
import { identityContextEntry, pagingContextEntry } from '../../src/host/legacy-entries.ts';
import {
  firstStageEntry,
  identityEntry,
  nestedEntry,
  secondStageEntry,
} from '../../src/host/pasid-entry.ts';
import { attach, bench, map, paging, reach, stampedPage } from './fixture.ts';

const caps = (sagaw = 0b1110, smpwcs = 1) =>
  ({ cap: { SAGAW: sagaw }, ecap: { SMPWCS: smpwcs, SSTS: 1 } }) as unknown as Capabilities;

const table = (rootPa: number, levels: number, extra = {}) => ({
  rootPa,
  levels,
  dirtyTracking: false,
  forcesSnooping: false,
  ...extra,
});

const guest = (extra = {}) => ({
  rootGpa: 0x30000n,
  levels: 4,
  supervisorRequests: false,
  writeProtect: false,
  extendedAccessed: false,
  ...extra,
});

/** 64-bit words up to the last one that is not zero. */
const qwords = (words: Uint32Array): string[] => {
  const out: string[] = [];
  for (let i = 0; i < words.length; i += 2) {
    out.push(((BigInt(words[i + 1] as number) << 32n) | BigInt(words[i] as number)).toString(16));
  }
  while (out.at(-1) === '0') out.pop();
  return out;
};

describe('VT-d 9.6: PASID entries as in the worked examples', () => {
  it.each([
    ['second stage', secondStageEntry(caps(), table(0x10000, 4), 7), ['10089', '800007']],
    [
      'second stage, SSADE',
      secondStageEntry(caps(), table(0x10000, 4, { dirtyTracking: true }), 7),
      ['10289', '800007'],
    ],
    [
      'first stage, PGSNP',
      firstStageEntry(caps(), table(0x30000, 4, { forcesSnooping: true }), 1),
      ['41', '1800001', '30000'],
    ],
    [
      'first stage, 5 levels',
      firstStageEntry(caps(), table(0x30000, 5), 8),
      ['41', '800008', '30004'],
    ],
    [
      'first stage, walks not snooped',
      firstStageEntry(caps(14, 0), table(0x30000, 4), 8),
      ['41', '8', '30000'],
    ],
    [
      'nested, SRE',
      nestedEntry(caps(), table(0x10000, 4), guest({ supervisorRequests: true }), 9),
      ['100c9', '800009', '30001'],
    ],
    [
      'nested, SRE WPE EAFE, 5 levels',
      nestedEntry(
        caps(),
        table(0x10000, 5, { dirtyTracking: true, forcesSnooping: true }),
        guest({ supervisorRequests: true, writeProtect: true, extendedAccessed: true, levels: 5 }),
        9,
      ),
      ['102cd', '1800009', '30095'],
    ],
    [
      'nested, WPE without SRE is not written',
      nestedEntry(caps(), table(0x10000, 4), guest({ writeProtect: true }), 9),
      ['100c9', '800009', '30000'],
    ],
    [
      'nested, a guest root of 52 bits',
      nestedEntry(caps(), table(0x10000, 4), guest({ rootGpa: 0xf_ffff_ffff_f000n }), 9),
      ['100c9', '800009', 'ffffffffff000'],
    ],
    ['pass-through, widest AW', identityEntry(caps(0b0110)), ['109', '800001']],
  ])('%s', (_name, words, expected) => {
    expect(qwords(words)).toEqual(expected);
  });
});

describe('VT-d 9.3: context entries as in the worked examples', () => {
  const device = (ats: boolean) => ({ ats }) as unknown as DeviceState;

  it.each([
    [
      'untranslated only',
      pagingContextEntry(device(false), table(0x10000, 4), 5),
      ['10001', '502'],
    ],
    ['with ATS', pagingContextEntry(device(true), table(0x10000, 4), 5), ['10005', '502']],
    ['pass-through', identityContextEntry(caps()), ['9', '103']],
  ])('%s', (_name, words, expected) => {
    expect(qwords(words)).toEqual(expected);
  });
});

describe('entries that appear', () => {
  it.each([
    ['first stage', {}, [0x51, 0x59]],
    ['second stage', { firstStageByDefault: false }, [0x51, 0x59]],
    ['legacy mode', { scalable: false }, [0x02]],
  ])('%s: until it is there, hardware sees nothing but "not present"', (_name, options, absent) => {
    const at = bench(options);
    const domain = paging(at);
    const frame = stampedPage(at.machine);
    map(domain, 0x100, frame);
    const reasons = new Set<number>();
    at.machine.onFault(({ reason }) => reasons.add(reason));
    let busy = false;
    let steps = 0;
    at.machine.memory.onWrite = () => {
      if (busy) return;
      busy = true;
      steps++;
      reach(at.device, 0x100);
      busy = false;
    };
    attach(at, domain);
    at.machine.memory.onWrite = undefined;
    expect(steps).toBeGreaterThan(1);
    expect([...reasons].filter((reason) => !absent.includes(reason))).toEqual([]);
    expect(reach(at.device, 0x100)).toBe(frame);
  });
});
