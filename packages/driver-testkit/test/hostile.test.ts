/** Programs that call anything with anything: no exception, no leak. */
import { exitProcess, filesOf, sysPoll, sysRead, sysWrite } from '@iommukit/core';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { call, invoke, populate, SCRATCH, start } from './raw-calls.ts';

it('random calls never throw, and closing gives every page, pin and object back', () => {
  let succeeded = 0;
  fc.assert(
    fc.property(fc.array(call, { minLength: 20, maxLength: 60 }), (calls) => {
      const bench = start();
      const { machine, free, process, context } = bench;
      populate(bench);
      for (const [spec, bytes] of calls) {
        const result = invoke(bench, spec, bytes.slice());
        expect(Number.isInteger(result)).toBe(true);
        if (result >= 0) succeeded++;
      }
      for (let fd = 3; fd < filesOf(process).nextFd; fd++) {
        expect(sysPoll(process, fd, 0xff)).toBeGreaterThanOrEqual(0);
        expect(sysRead(process, fd, SCRATCH, 400)).toBeGreaterThanOrEqual(-100);
        expect(sysWrite(process, fd, SCRATCH, 64)).toBeGreaterThanOrEqual(-100);
      }
      exitProcess(process);
      expect(context.objects.all()).toEqual([]);
      expect(process.pinnedPages).toBe(0);
      expect(machine.memory.freePageCount).toBe(free);
      expect(machine.endpoints).toEqual([]);
    }),
    { numRuns: 200 },
  );
  expect(succeeded).toBeGreaterThan(300);
});
