import { describe, expect, test } from 'vitest';
import { FuzzMachine } from './fuzz.ts';

const REQUESTS = 1_000_000;
const PER_MACHINE = 200;
const isInterrupt = (address: bigint): boolean => address >> 20n === 0xfeen;

describe('a million requests', () => {
  test('against the slow reference, with changes to the tables and invalidation between', () => {
    let translated = 0;
    for (let seed = 0; seed < REQUESTS / PER_MACHINE; seed++) {
      const machine = new FuzzMachine(seed).build().enable();
      let copy = machine.copy();
      let reference = machine.reference(copy);
      for (let n = 0; n < PER_MACHINE; n++) {
        if (n % 20 === 19) {
          machine.mutate();
          copy = machine.copy();
          reference = machine.reference(copy);
        }
        const request = machine.request();
        if (request.pasid < 0 && isInterrupt(request.address)) continue;
        machine.unit.caches.invalidateAll();
        machine.followRings(copy);
        const wanted = reference.translate(request);
        const got = machine.send(request);
        const same =
          typeof wanted === 'bigint' || typeof got === 'bigint'
            ? wanted === got
            : wanted[0] === got[0] && wanted[1] === got[1];
        if (!same) expect([seed, request, got]).toEqual([seed, request, wanted]);
        if (typeof got === 'bigint') translated++;
      }
      expect(machine.differs(copy)).toBe(-1);
    }
    expect(translated).toBeGreaterThan(REQUESTS / 10);
  }, 1_200_000);

  test('with random registers, queues and memory: nothing throws or hangs', () => {
    for (let seed = 0; seed < REQUESTS / 1000; seed++) {
      const machine = new FuzzMachine(seed).build().enable();
      for (let n = 0; n < 1000; n++) {
        if (n % 3 === 0) machine.pokeRegister();
        if (n % 4 === 0) machine.anyCommand();
        if (n % 5 === 0) machine.mutate();
        if (n % 50 === 0) machine.enable();
        if (!Number.isSafeInteger(machine.anyRequest())) expect([seed, n]).toEqual([]);
      }
    }
  }, 1_200_000);
});
