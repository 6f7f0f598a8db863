/**
 * Devices that send anything to units that software set up anyhow: translation requests, translated
 * requests, page requests, with commands and register writes between.
 */
import { encode } from '@iommukit/bits';
import { ACCESS, ATS_STATUS, createAtsCompletion, type INVALIDATION_ANSWER } from '@iommukit/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CD, COMMAND, STE } from '../../src/spec/index.ts';
import { ALL_ON, AT, createRig, type Rig, type RigOptions, VECTOR_PROFILE } from './rig.ts';

const SID = 0x17;
const STE_PA = AT.STREAMS + SID * 64;
const CD_PA = 0x20_0000;
const TABLES = 0x30_0000;
const TABLE_DWORDS = 512 * 2 * 4;
const { READ, WRITE, EXEC, PRIV } = ACCESS;

const word = fc.nat(0xffff_ffff);
const likely = (...values: number[]) =>
  fc.oneof({ weight: 6, arbitrary: fc.constantFrom(...values) }, word);
/** Mostly descriptors that lead somewhere: to a table, a page, or a block. */
const descriptor = fc.tuple(
  fc.oneof(
    { weight: 4, arbitrary: fc.nat(3).map((n) => TABLES + n * 4096 + 3) },
    { weight: 4, arbitrary: fc.nat(0xffff).map((n) => n * 0x1000 + 0x743) },
    { weight: 2, arbitrary: fc.nat(0xff).map((n) => n * 0x20_0000 + 0xfc1) },
    { weight: 1, arbitrary: word },
  ),
  fc.oneof({ weight: 5, arbitrary: fc.constantFrom(0, 0x8_0000, 0x60_0000) }, word),
);

const stage2 = { S2VMID: 7, S2T0SZ: 34, S2SL0: 0, S2PS: 5, S2AA64: 1, S2R: 1, S2TTB: TABLES };

interface World {
  readonly CONFIG: number;
  readonly EATS: number;
  readonly S1CDMAX: number;
  readonly S1DSS: number;
  readonly hd: boolean;
  readonly descriptors: readonly (readonly [number, number])[];
}

const world: fc.Arbitrary<World> = fc.record({
  CONFIG: fc.constantFrom(5, 6, 7, 7),
  EATS: fc.constantFrom(1, 1, 1, 2, 0),
  S1CDMAX: fc.constantFrom(0, 4),
  S1DSS: fc.nat(3),
  hd: fc.boolean(),
  descriptors: fc.array(descriptor, { minLength: 16, maxLength: 200 }),
});

const build = (
  { CONFIG, EATS, S1CDMAX, S1DSS, hd, descriptors }: World,
  options: RigOptions = {},
): Rig => {
  const rig = createRig({
    capabilities: { ...VECTOR_PROFILE, idr0: { ...VECTOR_PROFILE.idr0, TERM_MODEL: 1 } },
    caches: { tlbEntries: 32, configEntries: 32 },
    ...options,
  });
  for (let at = 0; at < TABLE_DWORDS; at += 2)
    rig.put(TABLES + at * 4, descriptors[(at * 7) % descriptors.length] as [number, number]);
  const nested = CONFIG === 5 ? {} : { ...stage2, S2HA: hd ? 1 : 0, S2HD: hd ? 1 : 0 };
  const stream = { V: 1, CONFIG, EATS, S1CDMAX, S1DSS, S1CONTEXTPTR: CD_PA };
  rig.put(STE_PA, encode(STE, { ...stream, ...nested }));
  const context = { V: 1, T0SZ: 34, EPD1: 1, IPS: 5, AA64: 1, R: 1, A: 1, ASID: 3, TTB0: TABLES };
  const cd = encode(CD, { ...context, HA: hd ? 1 : 0, HD: hd ? 1 : 0 });
  for (let index = 0; index < 16; index++) rig.put(CD_PA + index * 64, cd);
  return rig;
};

const requests = fc.array(
  fc.record({
    kind: fc.constantFrom<'untranslated' | 'translation' | 'translated' | 'page-request'>(
      'untranslated',
      'translation',
      'translation',
      'translated',
      'page-request',
    ),
    sid: likely(SID, SID, SID + 1),
    pasid: likely(-1, -1, 0, 5),
    pfn: fc.oneof(
      fc.nat(511),
      fc.nat(2 ** 18 - 1),
      fc.maxSafeNat().map((n) => n % 2 ** 52),
    ),
    access: fc.oneof(fc.constantFrom(READ, READ | WRITE, READ | EXEC, READ | PRIV), fc.nat(127)),
  }),
  { minLength: 5, maxLength: 30 },
);

type Request = typeof requests extends fc.Arbitrary<readonly (infer R)[]> ? R : never;

/** Send one request; its answer in words. */
const send = ({ unit }: Rig, { kind, sid, pasid, pfn, access }: Request, prgi = 0): string => {
  if (kind === 'untranslated') return `${unit.translatePage(sid, pasid, pfn, access)}`;
  if (kind === 'translated') return `${unit.translatedPage(sid, pasid, pfn, access)}`;
  if (kind === 'translation') {
    const completion = createAtsCompletion();
    unit.translationRequest(sid, pasid, pfn, access, completion);
    return JSON.stringify(completion);
  }
  const flags = { read: (access & READ) !== 0, write: (access & WRITE) !== 0 };
  const attributes = { exec: false, priv: false, last: (access & EXEC) === 0, prgi };
  unit.pageRequest({ rid: sid, pasid, addressPfn: pfn, ...flags, ...attributes });
  return '';
};

describe('a completion promises what the unit then does', () => {
  test('with full ATS: the frame and the rights of an untranslated request, for the same page', () => {
    let granted = 0;
    fc.assert(
      fc.property(world, requests, (image, list) => {
        const rig = build({ ...image, EATS: 1 });
        for (const { pfn, access, pasid } of list) {
          const completion = createAtsCompletion();
          rig.unit.translationRequest(SID, pasid, pfn, access, completion);
          if (completion.status !== ATS_STATUS.SUCCESS) continue;
          const { read, write, exec, priv, sizeLg2 } = completion;
          expect([read & ~1, write & ~1, exec & ~read, sizeLg2 >= 12]).toEqual([0, 0, 0, true]);
          if ((access & WRITE) === 0) expect(write).toBe(0);
          if (read + write === 0) continue;
          granted++;
          const frame = completion.pfn + (pfn % 2 ** (sizeLg2 - 12));
          const as = priv === 1 ? PRIV : 0;
          const rights = [read && READ, write && WRITE, exec && EXEC];
          for (const right of rights)
            if (right !== 0)
              expect(rig.unit.translatePage(SID, pasid, pfn, right | as)).toBe(frame);
        }
      }),
      { numRuns: 150, seed: 7 },
    );
    expect(granted).toBeGreaterThan(100);
  });

  test('with split stage: the IPA, which a translated request brings to the same frame', () => {
    let granted = 0;
    fc.assert(
      fc.property(world, requests, (image, list) => {
        const rig = build({ ...image, CONFIG: 7, EATS: 2 });
        for (const { pfn, pasid } of list) {
          const completion = createAtsCompletion();
          rig.unit.translationRequest(SID, pasid, pfn, READ, completion);
          if (completion.read === 0) continue;
          granted++;
          const ipa = completion.pfn + (pfn % 2 ** (completion.sizeLg2 - 12));
          const frame = rig.unit.translatedPage(SID, pasid, ipa, READ);
          expect(frame).toBe(rig.unit.translatePage(SID, pasid, pfn, READ));
          expect(frame).toBeGreaterThanOrEqual(0);
        }
      }),
      { numRuns: 150, seed: 7 },
    );
    expect(granted).toBeGreaterThan(20);
  });
});

describe('the same requests to a watched unit, a moved one, and explained', () => {
  test('give the same answers', () => {
    fc.assert(
      fc.property(world, requests, (image, list) => {
        const plain = build(image);
        const watched = build(image, { sanitize: true });
        const moved = build(image);
        list.forEach((request, at) => {
          const { kind, sid: rid, pasid, pfn, access } = request;
          const iova = BigInt(pfn) << 12n;
          const seen = plain.unit.explain({ rid, pasid, iova, access, kind });
          if (at === 3) moved.unit.restore(moved.unit.snapshot());
          const answer = send(plain, request);
          expect(send(watched, request)).toBe(answer);
          expect(send(moved, request)).toBe(answer);
          if (kind === 'translation') expect(JSON.stringify(seen.completion)).toBe(answer);
          else if (kind !== 'page-request') expect(seen.pfn ?? -1).toBe(Number(answer));
        });
        expect(watched.events()).toEqual(plain.events());
        expect(moved.events()).toEqual(plain.events());
        expect(watched.unit.sanitizer?.findings).toEqual([]);
        expect(watched.unit.sanitizer?.audit()).toEqual([]);
      }),
      { numRuns: 120, seed: 11 },
    );
  });
});

describe('anything in queues and registers', () => {
  const opcode = fc.constantFrom(...Object.values(COMMAND));
  const command = fc.tuple(fc.oneof(opcode, word), likely(SID, 7), word, word);
  const offset = fc.constantFrom(
    0x20,
    0x2c,
    0x44,
    0x50,
    0x64,
    0x80,
    0x88,
    0x90,
    0x98,
    0x9c,
    0xa0,
    0xb0,
    0xc0,
    0xd0,
    0xd8,
    0xdc,
    0x100a8,
    0x100ac,
    0x100c8,
    0x100cc,
  );
  const value = fc.oneof(
    word,
    fc.constantFrom(0, ALL_ON, ALL_ON, ALL_ON & ~2, AT.PAGE_REQUESTS | 3, AT.EVENTS | 3),
  );
  const act = fc.oneof(
    fc.record({ what: fc.constant('command' as const), command }),
    fc.record({ what: fc.constant('register' as const), offset, value }),
    fc.record({ what: fc.constant('answer' as const), answer: fc.constantFrom(0, 1, 2) }),
    fc.record({ what: fc.constant('requests' as const), list: requests }),
  );

  test('no exception, no hang, no frame beyond the output size; every last request is accounted for', () => {
    fc.assert(
      fc.property(
        world,
        fc.array(act, { maxLength: 25 }),
        fc.boolean(),
        (image, acts, sanitize) => {
          const rig = build(image, { sanitize, holes: [AT.PAGE_REQUESTS + 0x1000] });
          let asked = 0;
          for (const step of acts) {
            if (step.what === 'command') rig.run(step.command);
            else if (step.what === 'register') rig.unit.writeReg32(step.offset, step.value);
            else if (step.what === 'answer')
              rig.device.answer = step.answer as (typeof INVALIDATION_ANSWER)['NONE'];
            else {
              for (const request of step.list) {
                const answer = send(rig, request, asked++ % 512);
                const frame = Number(answer);
                if (request.kind !== 'translation') expect(frame).toBeLessThan(2 ** 40);
              }
            }
          }
          for (const { code, prgi } of rig.responses) {
            expect([0, 1, 15]).toContain(code);
            expect(prgi).toBeLessThan(512);
          }
          for (const { pfn, sizeLg2 } of rig.invalidations)
            expect(sizeLg2 === 64 || pfn % 2 ** (sizeLg2 - 12) === 0).toBe(true);
          rig.unit.restore(rig.unit.snapshot());
        },
      ),
      { numRuns: 200 },
    );
  });
});
