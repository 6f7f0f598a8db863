/** Random machines and the slow references of host permission tables and interrupt remapping. */
import { expect } from 'vitest';
import { EVERYTHING, FuzzMachine } from './fuzz.ts';
import { Reference } from './reference.ts';
import { type ReferenceInterrupt, referenceInterrupt } from './reference-interrupts.ts';

/** What a run met, added up over runs. */
export interface Seen {
  passed: number;
  readonly reasons: Set<number>;
}

const note = (seen: Seen, answer: number): void => {
  if (answer >= 0) seen.passed++;
  else seen.reasons.add(-answer);
};

/** Translated requests of one machine; every second machine without 1 GiB pages. */
export const comparePermissions = (seed: number, requests: number, seen: Seen): void => {
  const ecap = { ...EVERYTHING.ecap, HPT1GPS: seed & 1 };
  const machine = new FuzzMachine(seed, { ...EVERYTHING, ecap }).build().enable();
  if ((machine.rtaddr & 0x400n) === 0n) return;
  const read = (pa: bigint) => machine.read(pa);
  for (let i = 0; i < requests; i++) {
    const { rid, pasid, pfn, access } = machine.permissionRequest();
    const reference = new Reference(read, machine.unit.features, machine.rtaddr);
    const wanted = reference.translated(rid, pasid, pfn, access);
    for (const temperature of ['cold', 'warm']) {
      const got = machine.unit.translatedPage(rid, pasid, pfn, access);
      if (got !== wanted)
        expect([seed, temperature, rid, pasid, pfn, access, got]).toEqual([
          seed,
          temperature,
          rid,
          pasid,
          pfn,
          access,
          wanted,
        ]);
    }
    note(seen, wanted);
  }
};

/** Interrupt requests of one machine. */
export const compareInterrupts = (seed: number, requests: number, seen: Seen): void => {
  const machine = new FuzzMachine(seed, EVERYTHING).build();
  const unit = machine.enableInterrupts();
  const read = (pa: bigint) => machine.read(pa);
  for (let i = 0; i < requests; i++) {
    const { rid, address, data } = machine.interruptRequest();
    const wanted = referenceInterrupt(read, machine.unit.features, unit, rid, address, data);
    for (const temperature of ['cold', 'warm']) {
      const [answer, message] = machine.interrupt(rid, address, data);
      const got = describe(answer, [message.addressHi, message.addressLo, message.data], wanted);
      expect([seed, temperature, rid, address, data, got]).toEqual([
        seed,
        temperature,
        rid,
        address,
        data,
        wanted,
      ]);
    }
    note(seen, typeof wanted === 'number' ? wanted : 0);
  }
};

/** A posted interrupt is taken, or delivered as a notification. */
const describe = (
  answer: number,
  message: readonly [number, number, number],
  wanted: ReferenceInterrupt,
): ReferenceInterrupt => {
  if (answer < 0) return answer;
  return wanted === 'posted' || answer === 0 ? 'posted' : message;
};
