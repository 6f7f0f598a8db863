/** Fault conditions of interrupt remapping. */
import type { BenchUnit } from './bench-unit.ts';
import type { FaultCase } from './fault-cases.ts';
import {
  descriptor,
  enableInterrupts,
  entry,
  INTERRUPT_OPTIONS,
  type InterruptSetup,
  interrupt,
  postedEntry,
  remappable,
} from './interrupt-tables.ts';
import { HOLE, LEGACY } from './tables.ts';

/** Switch remapping on and send one request; the reason as a negative number. */
const request =
  (address: number, data = 0, setup: InterruptSetup = {}) =>
  (bench: BenchUnit): number =>
    Number(interrupt(enableInterrupts(bench, setup), address, data));

const common = { rtaddr: LEGACY, options: INTERRUPT_OPTIONS, memory: {} } as const;
const required = { capabilities: { ecap: { IR: 1, EIM: 1, EIMER: 1, IRREQ: 1 } } };

export const INTERRUPT_FAULT_CASES: readonly FaultCase[] = [
  {
    ...common,
    name: 'data above the subhandle',
    condition: 'IR.20',
    reason: 0x20,
    send: request(remappable(0, true), 0x1_0000),
  },
  {
    ...common,
    name: 'index beyond the interrupt remapping table',
    condition: 'IR.21',
    reason: 0x21,
    send: request(remappable(256)),
  },
  {
    ...common,
    name: 'interrupt remapping table above the host address width',
    condition: 'IR.21',
    reason: 0x21,
    send: request(remappable(0), 0, { base: 1n << 46n }),
  },
  {
    ...common,
    name: 'IRTE not present',
    condition: 'IR.22',
    reason: 0x22,
    send: request(remappable(0x12)),
  },
  {
    ...common,
    name: 'interrupt remapping table where nothing answers',
    condition: 'IR.23',
    reason: 0x23,
    send: request(remappable(0), 0, { base: HOLE }),
  },
  {
    ...common,
    name: 'IRTE with a reserved bit',
    condition: 'IR.24',
    reason: 0x24,
    memory: entry(1, { DST: 0x1_0300 }),
    send: request(remappable(1)),
  },
  {
    ...common,
    name: 'compatibility format while CFIS=0',
    condition: 'IR.25',
    reason: 0x25,
    send: request(0xfee0_1004),
  },
  {
    ...common,
    name: 'interrupt of another requester',
    condition: 'IR.26',
    reason: 0x26,
    memory: entry(1, { SVT: 1, SID: 0x28 }),
    send: request(remappable(1)),
  },
  {
    ...common,
    name: 'posted interrupt descriptor where nothing answers',
    condition: 'IR.27',
    reason: 0x27,
    memory: postedEntry(1, { PDAH: 0x80 }),
    send: request(remappable(1)),
  },
  {
    ...common,
    name: 'posted interrupt descriptor with a reserved bit',
    condition: 'IR.28',
    reason: 0x28,
    memory: { ...postedEntry(1), ...descriptor({ NDST: 0x1_0500 }) },
    send: request(remappable(1)),
  },
  {
    ...common,
    name: 'write of 8 bytes to the interrupt range',
    condition: 'IR.29',
    reason: 0x29,
    send: (bench) => Number(interrupt(enableInterrupts(bench), remappable(0), 0, 0x20, 8)),
  },
  {
    ...common,
    name: 'remapping on, extended mode required and off',
    condition: 'IR.2A',
    reason: 0x2a,
    options: required,
    memory: entry(0),
    send: request(remappable(0)),
  },
  {
    ...common,
    name: 'remapping off and required',
    condition: 'IR.2B',
    reason: 0x2b,
    options: required,
    send: (bench) => Number(interrupt(bench, 0xfee0_0000)),
  },
];
