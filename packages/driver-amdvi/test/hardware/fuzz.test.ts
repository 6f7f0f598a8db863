import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FuzzMachine } from './fuzz.ts';

const isInterrupt = (address: bigint): boolean => address >> 20n === 0xfeen;

describe('against the slow reference', () => {
  test('random damaged tables: same address or same event, same accessed and dirty bits', () => {
    let translated = 0;
    const events = new Set<bigint>();
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const machine = new FuzzMachine(seed).build().enable();
        const copy = machine.copy();
        const reference = machine.reference(copy);
        for (let n = 0; n < 40; n++) {
          const request = machine.request();
          if (request.pasid < 0 && isInterrupt(request.address)) continue;
          machine.unit.caches.invalidateAll();
          machine.followRings(copy);
          const wanted = reference.translate(request);
          expect([seed, request, machine.send(request)]).toEqual([seed, request, wanted]);
          // Warm caches say the same.
          expect([seed, request, machine.send(request)]).toEqual([seed, request, wanted]);
          if (typeof wanted === 'bigint') translated++;
          else events.add((wanted[0] >> 48n) & 0xf1ffn);
        }
        expect(machine.differs(copy)).toBe(-1);
      }),
      { numRuns: 300 },
    );
    expect(translated).toBeGreaterThan(1000);
    // Event codes with their flags.
    expect(events.size).toBeGreaterThan(25);
  });
});

describe('hostile software', () => {
  test('random registers, memory, commands and requests: no exception, no endless loop', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const machine = new FuzzMachine(seed).build().enable();
        for (let n = 0; n < 200; n++) {
          if (n % 3 === 0) machine.pokeRegister();
          if (n % 4 === 0) machine.anyCommand();
          if (n % 5 === 0) machine.mutate();
          if (n % 50 === 0) machine.enable();
          expect(Number.isSafeInteger(machine.anyRequest())).toBe(true);
        }
      }),
      { numRuns: 150 },
    );
  });
});
