/** State that contradicts itself is refused by what is wrong with it, before anything is made. */
import {
  createMachine,
  createProcess,
  filesOf,
  HostPasids,
  IOAS_MAP,
  isIommuError,
  memoryFileOperations,
  OpenFile,
  openIommufd,
  restoreSnapshot,
  saveSnapshot,
} from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import { decodeState, encodeState, unwrap, wrap } from '../src/snapshot/envelope.ts';
import { SCENARIO, type ScenarioState } from '../src/snapshot/scenario-state.ts';

const RAM_BYTES = 2 ** 20;
const FLAGS = IOAS_MAP.READABLE | IOAS_MAP.WRITEABLE;

/** An IOAS with two areas of one process, a copy, an access that pins, a file in memory. */
const bytes = (() => {
  const machine = createMachine({ ramBytes: RAM_BYTES });
  machine.addEndpoint({ rid: '00:04.0' });
  const process = createProcess(machine);
  const file = process.createFile({ size: 8192 });
  filesOf(process).install(new OpenFile(memoryFileOperations(file)));
  process.poke(process.mmap({ length: 4096, file, flags: 1 }), Uint8Array.of(1));
  const context = openIommufd(process, machine);
  const { outIoasId: ioasId } = context.ioasAlloc();
  for (let i = 0; i < 2; i++) {
    const userVa = process.mmap({ length: 0x4000 });
    process.poke(userVa, Uint8Array.of(i));
    context.ioasMap({ ioasId, flags: FLAGS, userVa, length: 0x4000 });
  }
  return saveSnapshot({ machine, processes: [process], held: { host: new HostPasids() } });
})();

const stateOf = (): ScenarioState => decodeState(SCENARIO, unwrap(bytes), 'test') as ScenarioState;

const freshMachine = () => {
  const machine = createMachine({ ramBytes: RAM_BYTES });
  machine.addEndpoint({ rid: '00:04.0' });
  return machine;
};

/** What restore says of a state that was changed. */
const answerTo = (change: (state: ScenarioState) => void): string => {
  const state = stateOf();
  change(state);
  try {
    restoreSnapshot(wrap(encodeState(SCENARIO, state)), { machine: freshMachine() });
    return 'ok';
  } catch (error) {
    if (isIommuError(error)) return `${error.code}: ${error.reason.message}`;
    throw error;
  }
};

// biome-ignore lint/suspicious/noExplicitAny: tests reach into any part of the state
type Any = any;
const context = (state: ScenarioState): Any => state.contexts[0];
const process = (state: ScenarioState): Any => state.processes[0];
const ioas = (state: ScenarioState): Any => context(state).objects[0];

describe('a snapshot that contradicts itself', () => {
  it('is not this one', () => {
    expect(answerTo(() => {})).toBe('ok');
  });

  it.each<[string, (state: ScenarioState) => void]>([
    ['areas are out of order', (state) => ioas(state).iopt.areas.reverse()],
    ['an area lies outside its pages', (state) => (ioas(state).iopt.areas[0].startIndex = 1)],
    ['an area has no such address', (state) => (ioas(state).iopt.areas[1].lastPfn = 2 ** 52)],
    ['there is no pages object 7', (state) => (ioas(state).iopt.areas[0].pages = 7)],
    ['an area has bad rights', (state) => (ioas(state).iopt.areas[0].locks = 1)],
    ['no such alignment', (state) => (ioas(state).iopt.iovaAlignment = 3)],
    ['pages have other frames pinned', (state) => (context(state).pages[0].users = 1)],
    ['pages have no such account', (state) => (context(state).pages[0].mode = 3)],
    ['there is no process 5', (state) => (context(state).pages[1].process = 5)],
    ['an object id comes twice', (state) => context(state).tombstones.push(1)],
    ['no object has such an id', (state) => (ioas(state).id = 2 ** 30)],
    ['object 1 is no DEVICE', (state) => context(state).boundHere.push(1)],
    ['object 9 is no IOAS', (state) => (context(state).vfioIoas = 9)],
    ['there is no open file 9', (state) => (process(state).files[0].file = 9)],
    ['a descriptor comes twice', (state) => (process(state).files[1].fd = 3)],
    ['mappings overlap', (state) => process(state).vmas.reverse()],
    ['a shared mapping without file', (state) => (process(state).vmas[0].shared = true)],
    ['frames of a process are no RAM', (state) => (process(state).frames[0].pfn = 5)],
    ['pages of a process are out of order', (state) => process(state).frames.reverse()],
    ['no such capability', (state) => process(state).capabilities.push('CAP_ALL')],
    ['a context has another file', (state) => (context(state).file = 0)],
    ['an open file that nobody holds', (state) => ((state.openFiles[0] as Any).references = 0)],
    [
      'a frame is owned or pinned and free',
      (state) => state.memory.regions[0]?.frames?.used.fill(0),
    ],
    ['counts of frames are missing', (state) => ((state.memory.counts[0] as Any).owners[0] += 1)],
    ['a count of frames is below 0', (state) => ((state.memory.counts[0] as Any).pins[1] = -1)],
    [
      'bytes of region ram0 are out of order',
      (state) => state.memory.regions[0]?.content.reverse(),
    ],
    ['a device is not in its group', (state) => ((state.bus.groups[0] as Any).rids = [1])],
    ['there is no unit 0', (state) => ((state.bus.endpoints[0] as Any).unit = 0)],
    ['a device cannot be so', (state) => ((state.bus.endpoints[0] as Any).pri = true)],
  ])('%s', (message, change) => {
    expect(answerTo(change)).toContain(message);
    expect(answerTo(change)).toMatch(/^EINVAL: the snapshot contradicts itself/);
  });
});
