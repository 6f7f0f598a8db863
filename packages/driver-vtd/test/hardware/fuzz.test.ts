import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { accessOf, EVERYTHING, FuzzMachine } from './fuzz.ts';
import { compareInterrupts, comparePermissions } from './fuzz-compare.ts';
import { Reference } from './reference.ts';

const interrupt = (pfn: number) => pfn >= 0xfee00 && pfn <= 0xfeeff;

describe('against the slow reference', () => {
  it('random damaged tables: same frame or same reason, cold caches and warm', () => {
    const outcomes = { frames: 0, reasons: new Set<number>() };
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const machine = new FuzzMachine(seed).build().enable();
        for (let i = 0; i < 40; i++) {
          const request = machine.request();
          if (request.pasid < 0 && interrupt(request.pfn)) continue;
          const read = (pa: bigint) => machine.read(pa);
          const wanted = new Reference(read, machine.unit.features, machine.rtaddr).translate(
            request,
          );
          const { rid, pasid, pfn } = request;
          const got = machine.unit.translatePage(rid, pasid, pfn, accessOf(request));
          expect([seed, request, got]).toEqual([seed, request, wanted]);
          expect(machine.unit.translatePage(rid, pasid, pfn, accessOf(request))).toBe(wanted);
          if (got >= 0) outcomes.frames++;
          else outcomes.reasons.add(-got);
        }
      }),
      { numRuns: 400 },
    );
    expect(outcomes.frames).toBeGreaterThan(1000);
    expect(outcomes.reasons.size).toBeGreaterThan(25);
  });
});

/** Rare reasons are counted below: the same runs every time. The slow suite draws new ones. */
const SEED = 1;

describe('host permission tables and interrupts against slow references', () => {
  it('translated requests: same answer, cold caches and warm', () => {
    const seen = { passed: 0, reasons: new Set<number>() };
    fc.assert(
      fc.property(fc.integer(), (seed) => comparePermissions(seed, 60, seen)),
      { numRuns: 300, seed: SEED },
    );
    expect(seen.passed).toBeGreaterThan(1000);
    for (const reason of [0xa0, 0xa1, 0xa3, 0xa4, 0xa5, 0x49, 0x59])
      expect([reason, seen.reasons.has(reason)]).toEqual([reason, true]);
  });

  it('interrupt requests: same message or same reason, cold caches and warm', () => {
    const seen = { passed: 0, reasons: new Set<number>() };
    fc.assert(
      fc.property(fc.integer(), (seed) => compareInterrupts(seed, 60, seen)),
      { numRuns: 300, seed: SEED },
    );
    expect(seen.passed).toBeGreaterThan(1000);
    expect([...seen.reasons].sort()).toEqual(
      expect.arrayContaining([0x20, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28]),
    );
  });
});

describe('hostile software', () => {
  it('random registers, memory and requests: no exception, no frame beyond the host width', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const machine = new FuzzMachine(seed, seed % 2 === 0 ? {} : EVERYTHING).build().enable();
        for (let i = 0; i < 200; i++) {
          if (i % 3 === 0) machine.pokeRegister();
          if (i % 5 === 0) machine.mutate();
          const frame = machine.anyRequest();
          expect(Number.isInteger(frame)).toBe(true);
          if (machine.unit.readReg32(0x1c) >>> 31) expect(frame).toBeLessThan(2 ** 34);
        }
      }),
      { numRuns: 150 },
    );
  });
});
