import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { accessOf, FuzzMachine } from './fuzz.ts';
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

describe('hostile software', () => {
  it('random registers, memory and requests: no exception, no frame beyond the host width', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const machine = new FuzzMachine(seed).build().enable();
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
