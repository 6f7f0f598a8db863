import { describe, expect, test } from 'vitest';
import {
  ACCESS,
  BLOCKED,
  createMachine,
  DMA_STATE,
  isStalled,
  RAZ_WI,
  stalledRequest,
  stallTicket,
  type TranslationAgent,
} from '../../src/bus/index.ts';

const PAGE = 4096;

/** Stalls the pages it is told to; `answers` gives what the others get. */
class StallingAgent implements TranslationAgent {
  readonly answers = new Map<number, number>();
  readonly asked: { pfn: number; access: number; offset: number }[] = [];
  #ticket = 0;
  /** Called while the request is being stalled, as an interrupt would be; gives the answer. */
  onStall: (ticket: number) => number | undefined = () => undefined;

  translatePage(_rid: number, _pasid: number, pfn: number, access: number, offset = 0): number {
    this.asked.push({ pfn, access, offset });
    const answer = this.answers.get(pfn);
    if (answer !== undefined) return answer;
    const ticket = this.#ticket++;
    return this.onStall(ticket) ?? stalledRequest(ticket);
  }
}

const setUp = () => {
  const machine = createMachine({ ramBytes: 64 * PAGE });
  const device = machine.addEndpoint({ rid: '00:04.0' });
  const agent = new StallingAgent();
  device.agent = agent;
  const base = machine.memory.allocPages(8) / PAGE;
  const byteAt = (frame: number, offset: number) =>
    machine.memory.view(frame * PAGE + offset, 1)?.[0];
  return { machine, device, agent, base, byteAt };
};

describe('answers of a translation', () => {
  test.each([0, 1, 5, 2 ** 30])('ticket %i travels in the answer', (ticket) => {
    const answer = stalledRequest(ticket);
    expect(isStalled(answer)).toBe(true);
    expect(stallTicket(answer)).toBe(ticket);
  });

  test.each([0, 7, BLOCKED, RAZ_WI])('%i is no stall', (answer) => {
    expect(isStalled(answer)).toBe(false);
  });
});

describe('RAZ/WI: a request terminated without error', () => {
  test('a read gives zeros, a write is ignored, both count as moved', () => {
    const { device, agent, base, byteAt } = setUp();
    agent.answers.set(1, RAZ_WI);
    agent.answers.set(2, base);
    const target = new Uint8Array(PAGE + 8).fill(0xff);
    expect(device.dmaRead(PAGE, target)).toBe(PAGE + 8);
    expect(target.every((byte) => byte === 0)).toBe(true);
    expect(device.dmaWrite(2 * PAGE - 2, Uint8Array.of(1, 2, 3))).toBe(3);
    expect(byteAt(base, 0)).toBe(3);
  });
});

describe('a DMA that stalls', () => {
  test('startWrite waits and goes on where it stopped', () => {
    const { machine, device, agent, base, byteAt } = setUp();
    agent.answers.set(1, base);
    agent.answers.set(3, base + 2);
    const states: string[] = [];
    const transfer = device.startWrite(PAGE + 4, new Uint8Array(3 * PAGE - 4).fill(9), {
      access: ACCESS.PRIV,
      onDone: ({ state }) => states.push(state),
    });
    expect([transfer.state, transfer.done, transfer.bytesMoved]).toEqual([
      DMA_STATE.STALLED,
      false,
      PAGE - 4,
    ]);
    expect(device.stalledTransfers).toEqual([transfer]);
    machine.requestResumed(device.rid, 0, base + 1);
    expect([transfer.state, transfer.bytesMoved]).toEqual([DMA_STATE.COMPLETE, 3 * PAGE - 4]);
    expect(states).toEqual([DMA_STATE.COMPLETE]);
    expect([byteAt(base, 3), byteAt(base, 4), byteAt(base + 1, 0), byteAt(base + 2, 4095)]).toEqual(
      [0, 9, 9, 9],
    );
    expect(agent.asked).toEqual([
      { pfn: 1, access: ACCESS.WRITE | ACCESS.PRIV, offset: 4 },
      { pfn: 2, access: ACCESS.WRITE | ACCESS.PRIV, offset: 0 },
      { pfn: 3, access: ACCESS.WRITE | ACCESS.PRIV, offset: 0 },
    ]);
    expect(device.stalledTransfers).toEqual([]);
  });

  test('startRead fills the buffer when the stall ends, and may stall again', () => {
    const { machine, device, base } = setUp();
    machine.memory.copyIn(base * PAGE, Uint8Array.of(1, 2, 3, 4));
    machine.memory.copyIn((base + 1) * PAGE, Uint8Array.of(5, 6));
    const target = new Uint8Array(PAGE + 2);
    const transfer = device.startRead(PAGE, target);
    machine.requestResumed(device.rid, 0, base);
    expect([transfer.done, transfer.bytesMoved, target[3]]).toEqual([false, PAGE, 4]);
    machine.requestResumed(device.rid, 1, base + 1);
    expect([transfer.done, transfer.bytesMoved, target[PAGE + 1]]).toEqual([true, PAGE + 2, 6]);
  });

  test.each([
    ['blocked', BLOCKED, DMA_STATE.BLOCKED, 0],
    ['RAZ/WI', RAZ_WI, DMA_STATE.COMPLETE, 4],
    ['a frame without memory', 0xdead0, DMA_STATE.BLOCKED, 0],
  ])('ends %s', (_, answer, state, moved) => {
    const { machine, device } = setUp();
    const transfer = device.startWrite(PAGE, Uint8Array.of(1, 2, 3, 4));
    machine.requestResumed(device.rid, 0, answer);
    expect([transfer.state, transfer.bytesMoved]).toEqual([state, moved]);
  });

  test('a stall that the interrupt handler resolves is not seen by the caller', () => {
    const { device, agent, base, byteAt } = setUp();
    agent.onStall = () => base;
    expect(device.dmaWrite(PAGE, Uint8Array.of(7))).toBe(1);
    expect(byteAt(base, 0)).toBe(7);
    expect(device.startWrite(PAGE, Uint8Array.of(8)).state).toBe(DMA_STATE.COMPLETE);
  });

  test('dmaWrite tells a stall from a block; the rest is written later, from a copy', () => {
    const { machine, device, agent, base, byteAt } = setUp();
    agent.answers.set(1, base);
    agent.answers.set(5, BLOCKED);
    const source = Uint8Array.of(1, 2, 3);
    expect(device.dmaWrite(2 * PAGE - 1, source)).toBe(-1 - 1);
    expect(device.dmaWrite(5 * PAGE, source)).toBe(0);
    source.fill(0xee);
    machine.requestResumed(device.rid, 0, base + 1);
    expect([byteAt(base, PAGE - 1), byteAt(base + 1, 0), byteAt(base + 1, 1)]).toEqual([1, 2, 3]);
  });

  test('dmaRead gives the rest up: the target does not change after the call', () => {
    const { machine, device, base } = setUp();
    machine.memory.copyIn(base * PAGE, Uint8Array.of(1, 2));
    const target = Uint8Array.of(0xff, 0xff);
    expect(device.dmaRead(PAGE, target)).toBe(-1);
    expect(device.stalledTransfers).toEqual([]);
    machine.requestResumed(device.rid, 0, base);
    expect([...target]).toEqual([0xff, 0xff]);
  });

  test.each([
    ['a reset', (t: ReturnType<typeof setUp>) => t.device.reset()],
    ['leaving the bus', (t: ReturnType<typeof setUp>) => t.machine.removeEndpoint(t.device)],
  ])('%s cancels it, and what comes later is dropped', (_, end) => {
    const t = setUp();
    const transfer = t.device.startWrite(PAGE, Uint8Array.of(1));
    end(t);
    expect([transfer.state, transfer.bytesMoved]).toEqual([DMA_STATE.CANCELLED, 0]);
    t.machine.requestResumed(t.device.rid, 0, t.base);
    expect(t.byteAt(t.base, 0)).toBe(0);
  });

  test('an answer for a ticket that nobody waits for is dropped', () => {
    const { machine, device, base } = setUp();
    machine.requestResumed(device.rid, 3, base);
    machine.requestResumed(0x1234, 0, base);
    expect(device.stalledTransfers).toEqual([]);
  });
});
