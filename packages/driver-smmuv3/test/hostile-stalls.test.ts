import { encode } from '@iommukit/bits';
import { isStalled, RAZ_WI, stallTicket } from '@iommukit/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SmmuHardware } from '../src/hardware/iommu.ts';
import { CD, COMMAND, STE } from '../src/spec/index.ts';
import { PROFILES } from './hardware/fuzz.ts';

const BASE = 0x4000_0000;
const BYTES = 64 * 4096;
const SID = 0x20;
const CD_PA = BASE + 0x8000;
const TABLES = BASE + 0x1_0000;
const COMMANDS = BASE + 0x4000;
const EVENTS = BASE + 0x5000;
const MAX_NESTED = 200;

const STALLING = {
  idr0: { STALL_MODEL: 0, TERM_MODEL: 0, HTTU: 2, HYP: 1, VMW: 1 },
  idr5: { STALL_MAX: 3 },
} as const;

const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });

/** A unit in whose RAM anything may stand; its bus may do anything when a message comes. */
const boot = (onMessage: (unit: SmmuHardware) => void) => {
  const region = { base: BASE, size: BYTES, i32: new Int32Array(BYTES / 4) };
  const ended: number[] = [];
  const unit: SmmuHardware = new SmmuHardware({
    memory: {
      regionAt: (pa) => {
        if (!(Number.isSafeInteger(pa) && pa >= 0 && pa < 2 ** 52 && pa % 4 === 0))
          throw new Error(`an address that no bus has: ${pa}`);
        return pa >= BASE && pa < BASE + BYTES ? region : undefined;
      },
    },
    capabilities: STALLING,
    caches: { configEntries: 4, tlbEntries: 32 },
    bus: {
      raiseMessage: () => onMessage(unit),
      requestResumed: (_sid, ticket) => ended.push(ticket),
    },
  });
  const store = (pa: number, words: ArrayLike<number>) => region.i32.set(words, (pa - BASE) >>> 2);
  unit.writeReg64(0x80, BASE, 0);
  unit.writeReg32(0x88, 8);
  unit.writeReg64(0x90, COMMANDS | 6, 0);
  unit.writeReg64(0xa0, EVENTS | 2, 0);
  unit.writeReg64(0xb0, 0x1000, 0);
  unit.writeReg64(0x68, 0x2000, 0);
  unit.writeReg32(0x50, 7);
  unit.writeReg32(0x20, 0x1f);
  return { unit, store, ended };
};

const opcode = fc.constantFrom(
  COMMAND.RESUME,
  COMMAND.RESUME,
  COMMAND.RESUME,
  COMMAND.STALL_TERM,
  COMMAND.SYNC,
  COMMAND.CFGI_STE_RANGE,
  COMMAND.TLBI_NSNH_ALL,
  COMMAND.TLBI_EL2_ALL,
  COMMAND.TLBI_EL2_VA,
  COMMAND.TLBI_NH_VA,
  COMMAND.TLBI_S2_IPA,
);
const command = fc
  .tuple(opcode, fc.nat(3), fc.constantFrom(SID, SID, SID + 1), fc.nat(3), word)
  .map(([code, flags, sid, stag, high]) => [code | (flags << 12), sid, stag, high]);
const write = fc.tuple(
  fc.constantFrom(0x20, 0x20, 0x98, 0x98, 0x98, 0x100ac, 0x100ac, 0x64, 0xa0, 0x2c, 0x44, 0x50),
  fc.oneof(word, fc.nat(63), fc.constantFrom(0x1f, 0x1b, 0xd, 0xc, 0)),
);
const request = fc.tuple(fc.constantFrom(SID, SID, SID + 1), fc.nat(1023), fc.nat(31));
const step = fc.oneof(
  { weight: 3, arbitrary: request.map((value) => ({ request: value })) },
  { weight: 3, arbitrary: write.map((value) => ({ write: value })) },
  { weight: 1, arbitrary: fc.tuple(fc.nat(63), command).map((value) => ({ command: value })) },
);
type Step =
  | { request: [number, number, number] }
  | { write: [number, number] }
  | { command: [number, number[]] };

describe('hostile handlers', () => {
  test('requests, commands and registers at random, also from within interrupts: every stall ends once', () => {
    let stalled = 0;
    fc.assert(
      fc.property(
        fc.array(command, { minLength: 64, maxLength: 64 }),
        fc.array(fc.tuple(word, word), { minLength: 16, maxLength: 64 }),
        fc.tuple(fc.nat(1), fc.nat(1), fc.constantFrom(5, 6, 7)),
        fc.array(step as fc.Arbitrary<Step>, { minLength: 10, maxLength: 60 }),
        fc.array(step as fc.Arbitrary<Step>, { minLength: 1, maxLength: 20 }),
        (commands, descriptors, [s1, s2, CONFIG], outer, inner) => {
          const open = new Set<number>();
          let nested = 0;
          const perform = (unit: SmmuHardware, item: Step): void => {
            if ('request' in item) {
              const [sid, pfn, access] = item.request;
              const answer = unit.translatePage(sid, -1, 0x200 + (pfn % 512), access);
              if (isStalled(answer)) open.add(stallTicket(answer));
              else expect(answer >= 0 || answer === -1 || answer === RAZ_WI).toBe(true);
            } else if ('write' in item) unit.writeReg32(...item.write);
            else t.store(COMMANDS + item.command[0] * 16, item.command[1]);
          };
          const t = boot((unit) => {
            if (nested++ >= MAX_NESTED) return;
            perform(unit, inner[nested % inner.length] as Step);
          });
          for (const [at, words] of commands.entries()) t.store(COMMANDS + at * 16, words);
          for (let n = 0; n < 8 * 512; n++)
            t.store(TABLES + n * 8, descriptors[n % descriptors.length] as [number, number]);
          // One branch of tables that holds.
          t.store(TABLES + 8, [(TABLES + 0x1000) | 0x7fd, 0]);
          t.store(
            CD_PA,
            encode(CD, {
              V: 1,
              T0SZ: 25,
              EPD1: 1,
              IPS: 5,
              AA64: 1,
              S: s1,
              R: 1,
              A: s1,
              HA: 1,
              HD: 1,
              TTB0: TABLES,
            }),
          );
          const stage2 = {
            S2T0SZ: 25,
            S2SL0: 1,
            S2PS: 5,
            S2AA64: 1,
            S2S: s2,
            S2R: 1,
            S2HA: 1,
            S2TTB: TABLES,
          };
          for (const sid of [SID, SID + 1])
            t.store(
              BASE + sid * 64,
              encode(STE, {
                V: 1,
                CONFIG,
                S1CONTEXTPTR: CD_PA,
                ...(CONFIG === 5 ? {} : stage2),
              } as never),
            );
          for (const item of outer) perform(t.unit, item);
          t.unit.writeReg32(0x20, 0);
          t.unit.writeReg32(0x20, 0);
          stalled += open.size;
          const ended = [...t.ended];
          // Those that were answered within their call are nobody else's business.
          expect(ended.sort((x, y) => x - y)).toEqual([...open].sort((x, y) => x - y));
        },
      ),
      { numRuns: 300, seed: 7 },
    );
    expect(stalled).toBeGreaterThan(100);
  });

  test.each(PROFILES.map((profile) => [JSON.stringify(profile), profile] as const))(
    'random STEs, CDs and tables in a unit of %s',
    (_, capabilities) => {
      fc.assert(
        fc.property(
          fc.array(word, { minLength: 16, maxLength: 16 }),
          fc.array(word, { minLength: 16, maxLength: 16 }),
          fc.array(word, { minLength: 64, maxLength: 128 }),
          fc.array(fc.tuple(fc.double({ min: 0, max: 2 ** 52 - 1, noNaN: true }), fc.nat(31)), {
            minLength: 5,
            maxLength: 20,
          }),
          (ste, cd, words, list) => {
            const region = { base: 0, size: BYTES, i32: new Int32Array(BYTES / 4) };
            for (let at = 0; at < region.i32.length; at++)
              region.i32[at] = words[(at * 7) % words.length] as number;
            const unit = new SmmuHardware({
              memory: { regionAt: (pa) => (pa >= 0 && pa < BYTES ? region : undefined) },
              capabilities,
              bus: { raiseMessage: () => undefined },
            });
            // Addresses that lie in RAM, and the bits that let the rest be looked at.
            region.i32.set(
              ste.map((value, at) => (at % 2 === 1 ? value & 0xfff0_0000 : value & ~0xfc_0000)),
              0,
            );
            region.i32[0] = ((ste[0] as number) & 0x3_ffc0) | 0xb | ((ste[0] as number) & 4);
            region.i32.set(cd, 0x1000);
            unit.writeReg64(0x80, 0, 0);
            unit.writeReg32(0x88, 0);
            unit.writeReg32(0x20, 5);
            for (const [pfn, access] of list) {
              expect(Number.isSafeInteger(unit.translatePage(0, -1, Math.floor(pfn), access))).toBe(
                true,
              );
            }
          },
        ),
        { numRuns: 150 },
      );
    },
  );
});
