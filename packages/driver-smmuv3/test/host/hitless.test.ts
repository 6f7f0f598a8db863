/**
 * Any entry to any other: what hardware can see on the way means the old entry, the new one, or
 * nothing. "Means" is said here by decoded fields, not by masks.
 */
import { decode, encode } from '@iommukit/bits';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CD_RULES, STE_RULES } from '../../src/host/entry-rules.ts';
import { type EntryRules, writeEntry } from '../../src/host/entry-writer.ts';
import { CD, STE } from '../../src/index.ts';

/** Fields of stage 1, of stage 2 and of bypass, EATS and MEV aside: they have a test of their own. */
const STAGE1_FIELDS = [
  'S1FMT',
  'S1CONTEXTPTR',
  'S1CDMAX',
  'S1DSS',
  'S1CIR',
  'S1COR',
  'S1CSH',
  'S1STALLD',
  'STRW',
  'S2VMID',
] as const;
const STAGE2_FIELDS = [
  'S2FWB',
  'SHCFG',
  'S2VMID',
  'S2T0SZ',
  'S2SL0',
  'S2IR0',
  'S2OR0',
  'S2SH0',
  'S2TG',
  'S2PS',
  'S2AA64',
  'S2ENDI',
  'S2PTW',
  'S2S',
  'S2R',
  'S2TTB',
] as const;

const meaningOfSte = (words: Uint32Array): string => {
  const ste = decode(STE, words);
  if (ste.V === 0) return 'invalid';
  if (ste.CONFIG < 4) return 'abort';
  const say = (names: readonly (keyof typeof ste)[]) => names.map((name) => ste[name]).join();
  const parts: (string | number)[] = [ste.CONFIG];
  if (ste.CONFIG === 4) parts.push(ste.SHCFG);
  if ((ste.CONFIG & 1) !== 0) {
    parts.push(say(STAGE1_FIELDS));
    if (ste.S1DSS === 1) parts.push(ste.SHCFG);
  }
  if ((ste.CONFIG & 2) !== 0) parts.push(say(STAGE2_FIELDS));
  return parts.join(' ');
};

const meaningOfCd = (words: Uint32Array): string => {
  const cd = decode(CD, words);
  if (cd.V === 0) return 'invalid';
  const lower = cd.EPD0 === 1 ? { T0SZ: 0, TG0: 0, IR0: 0, OR0: 0, SH0: 0, TTB0: 0 } : {};
  return Object.entries({ ...cd, ...lower })
    .map(([name, value]) => `${name} ${value}`)
    .join();
};

/** Every state that hardware can read on the way, the first and the last included. */
const statesBetween = (from: Uint32Array, to: Uint32Array, rules: EntryRules) => {
  const words = from.slice();
  const states = [words.slice()];
  let unsynced = 0;
  const hitless = writeEntry(
    {
      words,
      store: (qword, lo, hi) => {
        words[2 * qword] = lo;
        words[2 * qword + 1] = hi;
        states.push(words.slice());
        unsynced++;
      },
      sync: () => {
        unsynced = 0;
      },
    },
    to,
    rules,
  );
  expect(unsynced).toBe(0);
  expect(words).toEqual(to);
  return { states, hitless };
};

const steFields = fc.record({
  V: fc.constantFrom(0, 1, 1, 1, 1, 1),
  CONFIG: fc.constantFrom(0, 4, 5, 6, 7),
  S1CONTEXTPTR: fc.constantFrom(0x6_0000, 0x7_0000),
  S1CDMAX: fc.constantFrom(0, 16),
  S1DSS: fc.nat(2),
  S1CIR: fc.nat(1),
  EATS: fc.nat(2),
  MEV: fc.nat(1),
  SHCFG: fc.nat(1),
  S2FWB: fc.nat(1),
  S2VMID: fc.nat(2),
  S2AA64: fc.nat(1),
  S2S: fc.nat(1),
  S2TTB: fc.constantFrom(0x10_0000, 0x20_0000),
});

const cdFields = fc.record({
  V: fc.constantFrom(0, 1, 1, 1),
  T0SZ: fc.constantFrom(16, 25),
  TG0: fc.nat(1),
  EPD0: fc.nat(1),
  EPD1: fc.nat(1),
  ASID: fc.nat(2),
  S: fc.nat(1),
  TTB0: fc.constantFrom(0x3_0000, 0x4_0000),
  TTB1: fc.constantFrom(0, 0x5_0000),
  MAIR0: fc.constantFrom(0, 0xff44),
});

describe('SMMUv3 3.21.3: on the way from any entry to any other', () => {
  const check = (
    from: Uint32Array,
    to: Uint32Array,
    rules: EntryRules,
    meaningOf: (words: Uint32Array) => string,
  ) => {
    const { states, hitless } = statesBetween(from, to, rules);
    const [old, next] = [meaningOf(from), meaningOf(to)];
    const meanings = states.map(meaningOf);
    for (const meaning of meanings) expect([old, next, 'invalid']).toContain(meaning);
    if (hitless && old !== 'invalid' && next !== 'invalid') {
      expect(meanings).not.toContain('invalid');
    }
    // Old until the change, new from then on.
    if (old !== next) expect(meanings.lastIndexOf(old)).toBeLessThan(meanings.indexOf(next));
    return states;
  };

  test('stream table entries: old, new or invalid; never two fields that exclude each other', () => {
    fc.assert(
      fc.property(steFields, steFields, (a, b) => {
        const [from, to] = [encode(STE, a), encode(STE, b)];
        const states = check(from, to, STE_RULES, meaningOfSte).map((words) => decode(STE, words));
        // EATS=1 with stage-2 stalls, and EATS=2 anywhere but where it was or will be.
        const isLegal = ({ EATS, S2S }: { EATS: number; S2S: number }) =>
          !(EATS === 1 && S2S === 1);
        if (!isLegal(a) || !isLegal(b) || a.EATS === 2 || b.EATS === 2) return;
        const live = states.filter(({ V, CONFIG }) => V === 1 && CONFIG >= 6);
        expect(live.filter((state) => !isLegal(state))).toEqual([]);
      }),
      { numRuns: 3000 },
    );
  });

  test('EATS and MEV change under a live entry at once', () => {
    const from = encode(STE, { V: 1, CONFIG: 5, S1CONTEXTPTR: 0x6_0000 });
    const to = encode(STE, { V: 1, CONFIG: 5, S1CONTEXTPTR: 0x7_0000, EATS: 1, MEV: 1 });
    const { states, hitless } = statesBetween(from, to, STE_RULES);
    expect([states.length, hitless]).toEqual([3, true]);
  });

  test.each([
    ['split-stage ATS', { EATS: 2, S1CDMAX: 1 }, { EATS: 1, S1CDMAX: 2 }],
    ['stage-2 stalls', { S2S: 1, S1CDMAX: 1 }, { EATS: 1, S1CDMAX: 2, S2S: 1 }],
  ])('but EATS is no such bit with %s', (_, a, b) => {
    const from = encode(STE, { V: 1, CONFIG: 7, ...a });
    const to = encode(STE, { V: 1, CONFIG: 7, ...b });
    expect(statesBetween(from, to, STE_RULES).hitless).toBe(false);
  });

  test('context descriptors: old, new or invalid', () => {
    fc.assert(
      fc.property(cdFields, cdFields, (a, b) => {
        check(encode(CD, a), encode(CD, b), CD_RULES, meaningOfCd);
      }),
      { numRuns: 2000 },
    );
  });
});
