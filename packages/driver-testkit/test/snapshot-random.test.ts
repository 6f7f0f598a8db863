/** Random raw calls answer the same with a migration between them as without one. */
import {
  createMachine,
  exitProcess,
  filesOf,
  type IommufdContext,
  type Process,
  restoreSnapshot,
  saveSnapshot,
  sysPoll,
  sysRead,
  sysWrite,
} from '@iommukit/core';
import { iommuTest, mockDriver } from '@iommukit/driver-testkit';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { call, invoke, populate, type RawBench, SCRATCH, start } from './raw-calls.ts';

/** The same bench on another machine. */
const migrate = (bench: RawBench): RawBench => {
  const parts = { processes: [bench.process], contexts: [bench.context] };
  const bytes = saveSnapshot({ machine: bench.machine, ...parts });
  const machine = createMachine({ ramBytes: 2 ** 22 });
  machine.addUnit(mockDriver(), []);
  const { processes, contexts } = restoreSnapshot(bytes, {
    machine,
    ioctlExtensions: [iommuTest()],
  });
  const [process] = processes as [Process];
  const [context] = contexts as [IommufdContext];
  const again = saveSnapshot({ machine, processes: [process], contexts: [context] });
  expect(Buffer.compare(again, bytes)).toBe(0);
  return { ...bench, machine, process, context };
};

/** What a bench looks like from outside: memory, descriptors, accounts. */
const look = ({ machine, process }: RawBench): unknown[] => {
  const seen: unknown[] = [process.vmPinKiB, process.vmLckKiB, machine.memory.freePageCount];
  for (let fd = 3; fd < filesOf(process).nextFd; fd++) {
    seen.push(sysPoll(process, fd, 0xff), sysRead(process, fd, SCRATCH, 400));
    seen.push(process.peek(SCRATCH, 400)?.join(), sysWrite(process, fd, SCRATCH, 64));
  }
  return seen;
};

it('random calls answer the same with and without migrations', () => {
  let succeeded = 0;
  const point = fc.nat({ max: 40 });
  fc.assert(
    fc.property(
      fc.array(call, { minLength: 20, maxLength: 40 }),
      point,
      point,
      (calls, first, second) => {
        const stayed = start();
        let moved = start();
        populate(stayed);
        populate(moved);
        calls.forEach(([spec, bytes], index) => {
          if (index === first || index === second) moved = migrate(moved);
          const result = invoke(stayed, spec, bytes.slice());
          expect(invoke(moved, spec, bytes.slice())).toBe(result);
          if (result >= 0) succeeded++;
        });
        expect(look(moved)).toEqual(look(stayed));
        exitProcess(stayed.process);
        exitProcess(moved.process);
        expect(moved.context.objects.all()).toEqual([]);
        expect(moved.machine.memory.freePageCount).toBe(stayed.machine.memory.freePageCount);
      },
    ),
    { numRuns: 60 },
  );
  expect(succeeded).toBeGreaterThan(60);
});
