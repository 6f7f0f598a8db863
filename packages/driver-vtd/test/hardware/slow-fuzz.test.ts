import { describe, expect, it } from 'vitest';
import { accessOf, EVERYTHING, FuzzMachine } from './fuzz.ts';
import { compareInterrupts, comparePermissions } from './fuzz-compare.ts';
import { Reference } from './reference.ts';

const REQUESTS = 1_000_000;
const PER_MACHINE = 200;
const CAPABILITIES = [
  {},
  { cap: { CM: 1 } },
  EVERYTHING,
  { ...EVERYTHING, cap: { ...EVERYTHING.cap, CM: 1 } },
] as const;
const interrupt = (pfn: number) => pfn >= 0xfee00 && pfn <= 0xfeeff;

describe('a million requests', () => {
  it('against the slow reference, with changes to the tables and global invalidation between', () => {
    let frames = 0;
    for (let seed = 0; seed < REQUESTS / PER_MACHINE; seed++) {
      const machine = new FuzzMachine(seed).build().enable();
      for (let i = 0; i < PER_MACHINE; i++) {
        if (i % 20 === 19) {
          machine.mutate();
          machine.unit.writeReg32(0x18, 0xc000_0000);
        }
        const request = machine.request();
        if (request.pasid < 0 && interrupt(request.pfn)) continue;
        const read = (pa: bigint) => machine.read(pa);
        const wanted = new Reference(read, machine.unit.features, machine.rtaddr).translate(
          request,
        );
        const got = machine.unit.translatePage(
          request.rid,
          request.pasid,
          request.pfn,
          accessOf(request),
        );
        if (got !== wanted) expect([seed, request, got]).toEqual([seed, request, wanted]);
        if (got >= 0) frames++;
      }
    }
    expect(frames).toBeGreaterThan(REQUESTS / 10);
  }, 1_200_000);

  it('translated and interrupt requests against the slow references', () => {
    const permissions = { passed: 0, reasons: new Set<number>() };
    const interrupts = { passed: 0, reasons: new Set<number>() };
    for (let seed = 0; seed < REQUESTS / 1000; seed++) {
      comparePermissions(seed, 500, permissions);
      compareInterrupts(seed, 500, interrupts);
    }
    expect(permissions.passed).toBeGreaterThan(REQUESTS / 100);
    expect(interrupts.passed).toBeGreaterThan(REQUESTS / 20);
  }, 1_200_000);

  it('with random registers, queues and memory: nothing throws, hangs or leaves the host width', () => {
    for (let seed = 0; seed < REQUESTS / 1000; seed++) {
      const machine = new FuzzMachine(seed, CAPABILITIES[seed % 4]).build().enable();
      for (let i = 0; i < 1000; i++) {
        if (i % 3 === 0) machine.pokeRegister();
        if (i % 5 === 0) machine.mutate();
        const frame = machine.anyRequest();
        const on = machine.unit.readReg32(0x1c) >>> 31 === 1;
        if (!Number.isInteger(frame) || (on && frame >= 2 ** 34))
          expect([seed, i, frame]).toEqual([]);
      }
    }
  }, 1_200_000);
});
