import { DMA_STATE } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import {
  createStallRig,
  IOVA,
  OTHER_SID,
  PAGE,
  SID,
  type StallRig,
  stallOf,
  startByte,
} from './stall-rig.ts';

const F_TRANSLATION = 0x10;
const RETRY = 1;
const END = 0;
const ABORT = 1;
const TERMINATE_ONLY = { idr0: { STALL_MODEL: 1 } } as const;

/** A handler that maps what faulted and answers each record. */
const mending = (rig: StallRig, answer: number) => () => {
  for (let event = rig.takeEvent(); event; event = rig.takeEvent()) {
    const index = ((event[4] as number) - IOVA) / PAGE;
    rig.map(Math.floor(index), rig.frame + Math.floor(index));
    rig.resume((event[2] as number) & 0xffff, answer, ABORT, event[1]);
  }
};

describe('SMMUv3 3.12.2: a stalled request', () => {
  test('waits with a tag in its record, and goes on after RESUME', () => {
    const rig = createStallRig();
    const transfer = startByte(rig.device, IOVA + 5, 0x5a);
    expect(transfer.state).toBe(DMA_STATE.STALLED);
    const event = rig.takeEvent();
    expect([(event?.[0] as number) & 0xff, event?.[1], event?.[4]]).toEqual([
      F_TRANSLATION,
      SID,
      IOVA + 5,
    ]);
    expect(stallOf(event)).toEqual({ stag: 0, stalled: true });
    rig.map(0, rig.frame);
    rig.resume(0, RETRY);
    expect([transfer.state, rig.byteAt(0, 5)]).toEqual([DMA_STATE.COMPLETE, 0x5a]);
    expect(rig.takeEvent()).toBeUndefined();
  });

  test.each([
    ['abort', END, ABORT, 0, DMA_STATE.BLOCKED, 0xff],
    ['RAZ/WI', END, 0, 0, DMA_STATE.COMPLETE, 0],
    ['RAZ/WI, which aborts with TERM_MODEL 1', END, 0, 1, DMA_STATE.BLOCKED, 0xff],
  ])('RESUME with %s ends it', (_, ac, ab, TERM_MODEL, state, byte) => {
    const rig = createStallRig({ idr0: { STALL_MODEL: 0, TERM_MODEL }, idr5: { STALL_MAX: 2 } });
    const target = Uint8Array.of(0xff);
    const transfer = rig.device.startRead(IOVA, target);
    rig.takeEvent();
    rig.map(0, rig.frame);
    rig.resume(0, ac, ab);
    expect([transfer.state, target[0]]).toEqual([state, byte]);
  });

  test('is recorded whatever R says, and does not wait without S', () => {
    const rig = createStallRig();
    rig.setContext({ R: 0, S: 1 });
    startByte(rig.device, IOVA, 1);
    expect(stallOf(rig.takeEvent())?.stalled).toBe(true);
    rig.setContext({ R: 0, S: 0 });
    rig.forget();
    expect(startByte(rig.device, IOVA, 1).state).toBe(DMA_STATE.BLOCKED);
    expect(rig.takeEvent()).toBeUndefined();
    rig.setContext({ R: 1, S: 0, A: 0 });
    rig.forget();
    expect(startByte(rig.device, IOVA, 1).state).toBe(DMA_STATE.COMPLETE);
    expect(stallOf(rig.takeEvent())?.stalled).toBe(false);
  });

  test('of stage 2 (S2S) waits too', () => {
    const rig = createStallRig();
    const stage2 = { CONFIG: 6, S2T0SZ: 34, S2PS: 5, S2AA64: 1, S2S: 1, S2TTB: rig.frame * PAGE };
    rig.setStream(SID, stage2);
    const transfer = startByte(rig.device, IOVA, 1);
    const event = rig.takeEvent();
    expect([stallOf(event)?.stalled, ((event?.[3] as number) >>> 7) & 1]).toEqual([true, 1]);
    rig.resume(0, END, ABORT);
    expect(transfer.state).toBe(DMA_STATE.BLOCKED);
  });

  test('never comes of an address beyond the output size, or of a bad entry', () => {
    const rig = createStallRig();
    rig.setStream(SID, { CONFIG: 4 });
    expect(startByte(rig.device, 2 ** 50, 1).state).toBe(DMA_STATE.BLOCKED);
    rig.setStream(OTHER_SID, { V: 0 });
    expect(startByte(rig.other, IOVA, 1).state).toBe(DMA_STATE.BLOCKED);
    expect(stallOf(rig.takeEvent())?.stalled).toBe(false);
  });
});

describe('SMMUv3 4.6.1: RESUME', () => {
  test.each([
    ['another tag', 1, SID],
    ['another stream', 0, OTHER_SID],
  ])('of %s does nothing', (_, stag, sid) => {
    const rig = createStallRig();
    const transfer = startByte(rig.device, IOVA, 1);
    rig.resume(stag, END, ABORT, sid);
    expect(transfer.done).toBe(false);
    rig.resume(0, END, ABORT);
    expect(transfer.done).toBe(true);
  });

  test('counts once', () => {
    const rig = createStallRig();
    startByte(rig.device, IOVA, 1);
    rig.resume(0, END, ABORT);
    const next = startByte(rig.device, IOVA, 1);
    rig.resume(0, END, ABORT);
    expect(next.done).toBe(false);
    rig.resume(1, END, ABORT);
    expect(next.done).toBe(true);
  });

  test('of a request that faults again gives it a new tag; the device waits on', () => {
    const rig = createStallRig();
    const transfer = startByte(rig.device, IOVA, 7);
    rig.takeEvent();
    rig.resume(0, RETRY);
    expect(stallOf(rig.takeEvent())).toEqual({ stag: 1, stalled: true });
    expect(transfer.done).toBe(false);
    rig.map(0, rig.frame);
    rig.resume(0, RETRY);
    expect(transfer.done).toBe(false);
    rig.resume(1, RETRY);
    expect([transfer.state, rig.byteAt(0)]).toEqual([DMA_STATE.COMPLETE, 7]);
  });

  test('before the record can be seen does nothing', () => {
    const rig = createStallRig();
    rig.unit.writeReg32(0x20, 0x9);
    const transfer = startByte(rig.device, IOVA, 7);
    rig.resume(0, END, ABORT);
    expect(transfer.done).toBe(false);
  });

  test.each([
    ['RESUME', 0x44],
    ['STALL_TERM', 0x45],
  ])('%s is illegal in a unit that only terminates', (_, opcode) => {
    const rig = createStallRig(TERMINATE_ONLY);
    rig.run(Uint32Array.of(opcode, SID, 0, 0));
    expect((rig.unit.readReg32(0x9c) >>> 24) & 0x7f).toBe(1);
  });
});

describe('a handler that answers while the interrupt is serviced', () => {
  test('hides the stall: the DMA goes on as on silicon, over several pages', () => {
    const rig = createStallRig();
    rig.handle(mending(rig, RETRY));
    const source = new Uint8Array(3 * PAGE).map((_, at) => at / PAGE + 1);
    expect(rig.device.dmaWrite(IOVA, source)).toBe(source.length);
    expect([rig.byteAt(0), rig.byteAt(1), rig.byteAt(2)]).toEqual([1, 2, 3]);
    const target = new Uint8Array(PAGE);
    expect(rig.device.dmaRead(IOVA + 4 * PAGE, target)).toBe(PAGE);
  });

  test('and refuses: the DMA is blocked', () => {
    const rig = createStallRig();
    rig.handle(mending(rig, END));
    expect(rig.device.dmaWrite(IOVA, Uint8Array.of(1))).toBe(0);
  });

  test('and never mends: the call returns, the next register access tries again', () => {
    const rig = createStallRig();
    let answers = 0;
    rig.handle(() => {
      for (let event = rig.takeEvent(); event; event = rig.takeEvent()) {
        answers++;
        rig.resume((event[2] as number) & 0xffff, RETRY);
      }
    });
    expect(rig.device.dmaWrite(IOVA, Uint8Array.of(9))).toBe(-1);
    expect(answers).toBeGreaterThan(1);
    expect(answers).toBeLessThan(100);
    rig.map(0, rig.frame);
    rig.sync();
    expect([rig.device.stalledTransfers.length, rig.byteAt(0)]).toEqual([0, 9]);
  });

  test('may send requests of its own, also while a retry ends in another fault', () => {
    const rig = createStallRig();
    const first = startByte(rig.device, IOVA, 1);
    rig.takeEvent();
    rig.setContext({ V: 0 });
    let second: ReturnType<typeof startByte> | undefined;
    rig.handle(() => {
      if (second !== undefined) return;
      rig.setContext();
      second = startByte(rig.other, IOVA + PAGE, 2);
    });
    rig.forget();
    rig.resume(0, RETRY);
    expect([first.state, second?.state]).toEqual([DMA_STATE.BLOCKED, DMA_STATE.STALLED]);
    rig.map(1, rig.frame + 1);
    rig.resume(1, RETRY, 0, OTHER_SID);
    expect([second?.state, rig.byteAt(1)]).toEqual([DMA_STATE.COMPLETE, 2]);
  });
});

describe('SMMUv3 7.2.1: records of stalls', () => {
  const fill = (rig: StallRig) => {
    rig.setStream(OTHER_SID, { V: 0 });
    for (let n = 0; n < 8; n++) startByte(rig.other, IOVA, 0);
    expect(rig.unit.readReg32(0x100a8)).toBe(8);
  };

  test('wait while the queue is full, without overflow, and are written when there is room', () => {
    const rig = createStallRig();
    fill(rig);
    const transfer = startByte(rig.device, IOVA, 1);
    expect(rig.unit.readReg32(0x100a8)).toBe(8);
    rig.takeEvent();
    expect(rig.unit.readReg32(0x100a8)).toBe(9);
    for (let n = 0; n < 7; n++) rig.takeEvent();
    expect(stallOf(rig.takeEvent())).toEqual({ stag: 0, stalled: true });
    expect(transfer.done).toBe(false);
  });

  test('that wait are tried again by a SYNC: a fault that is gone is never reported', () => {
    const rig = createStallRig();
    fill(rig);
    const transfer = startByte(rig.device, IOVA, 3);
    rig.map(0, rig.frame);
    expect(transfer.done).toBe(false);
    rig.sync();
    expect([transfer.state, rig.byteAt(0)]).toEqual([DMA_STATE.COMPLETE, 3]);
    for (let n = 0; n < 8; n++) rig.takeEvent();
    expect(rig.takeEvent()).toBeUndefined();
  });

  test('wait while EVENTQEN is 0', () => {
    const rig = createStallRig();
    rig.unit.writeReg32(0x20, 0x9);
    startByte(rig.device, IOVA, 1);
    expect(rig.takeEvent()).toBeUndefined();
    rig.unit.writeReg32(0x20, 0xd);
    expect(stallOf(rig.takeEvent())?.stalled).toBe(true);
  });

  test('whose write aborts: EVENTQ_ABT_ERR, and after its acknowledgement another try', () => {
    const rig = createStallRig();
    rig.unit.writeReg32(0x20, 0x9);
    rig.unit.writeReg64(0xa0, 3, 0x20);
    rig.unit.writeReg32(0x20, 0xd);
    const transfer = startByte(rig.device, IOVA, 4);
    expect(rig.unit.readReg32(0x60)).toBe(4);
    rig.map(0, rig.frame);
    expect(transfer.done).toBe(false);
    rig.unit.writeReg32(0x64, 4);
    expect([transfer.state, rig.byteAt(0)]).toEqual([DMA_STATE.COMPLETE, 4]);
  });

  test('no more than STALL_MAX at once: the others wait for a tag', () => {
    const rig = createStallRig();
    const transfers = [0, 1, 2].map((n) => startByte(rig.device, IOVA + n * PAGE, n + 1));
    expect([stallOf(rig.takeEvent()), stallOf(rig.takeEvent()), rig.takeEvent()]).toEqual([
      { stag: 0, stalled: true },
      { stag: 1, stalled: true },
      undefined,
    ]);
    rig.resume(0, END, ABORT);
    expect([stallOf(rig.takeEvent()), transfers[2]?.done]).toEqual([
      { stag: 0, stalled: true },
      false,
    ]);
    for (const n of [0, 1, 2]) rig.map(n, rig.frame + n);
    rig.resume(0, RETRY);
    rig.resume(1, RETRY);
    expect(transfers.map(({ state }) => state)).toEqual([
      DMA_STATE.BLOCKED,
      DMA_STATE.COMPLETE,
      DMA_STATE.COMPLETE,
    ]);
    expect([rig.byteAt(0), rig.byteAt(1), rig.byteAt(2)]).toEqual([0, 2, 3]);
  });
});

describe('the end of stalls', () => {
  test('SMMUv3 4.6.2: STALL_TERM aborts those of its stream', () => {
    const rig = createStallRig();
    const mine = startByte(rig.device, IOVA, 1);
    const others = startByte(rig.other, IOVA, 1);
    rig.terminate(SID);
    expect([mine.state, others.state]).toEqual([DMA_STATE.BLOCKED, DMA_STATE.STALLED]);
  });

  test('SMMUv3 6.3.9.6: SMMUEN 1 to 0 aborts all, with tag or without', () => {
    const rig = createStallRig();
    const transfers = [0, 1, 2].map((n) => startByte(rig.device, IOVA + n * PAGE, 1));
    rig.unit.writeReg32(0x20, 0xc);
    expect(transfers.map(({ state }) => state)).toEqual(Array(3).fill(DMA_STATE.BLOCKED));
  });

  test('a reset of the unit aborts all', () => {
    const rig = createStallRig();
    const transfer = startByte(rig.device, IOVA, 1);
    rig.unit.reset();
    expect(transfer.state).toBe(DMA_STATE.BLOCKED);
  });

  test('SMMUv3 5.5, STALL_MODEL 2: what does not stall is illegal', () => {
    const rig = createStallRig({ idr0: { STALL_MODEL: 2 }, idr5: { STALL_MAX: 1 } });
    expect(startByte(rig.device, IOVA, 1).state).toBe(DMA_STATE.STALLED);
    rig.terminate(SID);
    rig.setContext({ S: 0 });
    rig.forget();
    expect(startByte(rig.device, IOVA, 1).state).toBe(DMA_STATE.BLOCKED);
  });
});
