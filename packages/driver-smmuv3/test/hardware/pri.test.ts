import { decode, encode } from '@iommukit/bits';
import { INVALIDATION_ANSWER, type PageRequest, PRG_RESPONSE } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import {
  ATC_INV,
  CMDQ_ERR,
  COMMAND,
  GLOBAL_ERROR,
  PAGE_REQUEST,
  PRI_RESP,
} from '../../src/spec/index.ts';
import { loadVectors, wordsOf } from '../vector-data.ts';
import { ALL_ON, AT, createRig, type Rig, type RigOptions } from './rig.ts';

interface PriVector {
  readonly name: string;
  readonly words: readonly string[];
}

interface CommandVector extends PriVector {
  readonly fields: Readonly<Record<string, string>>;
}

interface OverflowStep {
  readonly step: string;
  readonly prod: string;
  readonly consOvackflg: string;
}

interface QueueState {
  readonly prod: string;
  readonly cons: string;
  readonly log2size: number;
  readonly empty: boolean;
  readonly full: boolean;
}

const VECTORS = loadVectors<{
  pri: readonly PriVector[];
  commands: readonly CommandVector[];
  overflow: readonly OverflowStep[];
  queue: readonly QueueState[];
}>();

const { SUCCESS, FAILURE, INVALID_REQUEST } = PRG_RESPONSE;
const SID = 0x17;

const request = (changes: Partial<PageRequest> = {}): PageRequest => ({
  rid: SID,
  pasid: 5,
  addressPfn: 0x7_f000_0001,
  read: true,
  write: false,
  exec: false,
  priv: false,
  last: true,
  prgi: 0x1a3,
  ...changes,
});

const requestOf = (vector: PriVector): PageRequest => {
  const fields = decode(PAGE_REQUEST, wordsOf(vector.words));
  return {
    rid: fields.SID,
    pasid: fields.SSV === 1 ? fields.SSID : -1,
    addressPfn: Math.floor(fields.ADDR / 4096),
    read: fields.READ === 1,
    write: fields.WRITE === 1,
    exec: fields.EXEC === 1,
    priv: fields.PRIV === 1,
    last: fields.LAST === 1,
    prgi: fields.PRG_INDEX,
  };
};

const setUp = (options: RigOptions = {}): Rig => createRig(options);
const fill = (rig: Rig, count = 8) => {
  for (let at = 0; at < count; at++) rig.unit.pageRequest(request({ prgi: at }));
};

describe('SMMUv3 8.2: entries of the page request queue', () => {
  test.each(VECTORS.pri.map((vector) => [vector.name, vector] as const))('%s', (_, vector) => {
    const rig = setUp();
    rig.unit.pageRequest(requestOf(vector));
    expect(rig.pageRequests()).toEqual([vector.words.map(BigInt)]);
    expect(rig.responses).toEqual([]);
  });

  test('execute and privileged belong to a PASID', () => {
    const rig = setUp();
    rig.unit.pageRequest(request({ exec: true, priv: true }));
    rig.unit.pageRequest(request({ exec: true, priv: true, pasid: -1 }));
    expect(rig.pageRequests().map(([w0]) => (w0 as bigint) >> 56n)).toEqual([0xdcn, 0x50n]);
  });

  test('neither STE nor ATSCHK is asked for acceptance', () => {
    const rig = setUp({ cr0: ALL_ON & ~16, holes: [AT.STREAMS] });
    rig.unit.pageRequest(request());
    expect([rig.pageRequests().length, rig.events()]).toEqual([1, []]);
  });
});

describe('SMMUv3 3.9.1.3: automatic responses', () => {
  const off = ALL_ON;
  test.each([
    ['SMMUEN=0', off & ~1],
    ['PRIQEN=0', off & ~2],
  ])('%s: failure without PASID for the last, nothing for the others', (_, cr0) => {
    const rig = setUp({ cr0 });
    rig.unit.pageRequest(request({ last: false }));
    expect(rig.responses).toEqual([]);
    rig.unit.pageRequest(request());
    expect(rig.responses).toEqual([{ rid: SID, pasid: -1, prgi: 0x1a3, code: FAILURE }]);
    expect(rig.unit.readReg32(0x100c8)).toBe(0);
  });

  test('PRIQEN 1 to 0: what is queued stays, what comes is answered', () => {
    const rig = setUp();
    rig.unit.pageRequest(request());
    rig.unit.writeReg32(0x20, ALL_ON & ~2);
    rig.unit.pageRequest(request());
    expect([rig.pageRequests().length, rig.responses.length]).toEqual([1, 1]);
  });

  test('a write that aborts is PRIQ_ABT_ERR: failure now and until it is acknowledged', () => {
    const rig = setUp({ holes: [AT.PAGE_REQUESTS] });
    rig.unit.pageRequest(request());
    rig.unit.pageRequest(request({ last: false }));
    rig.unit.pageRequest(request());
    expect(rig.responses.map(({ code, pasid }) => [code, pasid])).toEqual([
      [FAILURE, -1],
      [FAILURE, -1],
    ]);
    expect(rig.errors()).toBe(1 << GLOBAL_ERROR.PRIQ_ABT_ERR);
    expect(rig.messages).toEqual([AT.GERROR_MSI]);
    rig.unit.writeReg32(0x64, rig.unit.readReg32(0x60));
    expect(rig.errors()).toBe(0);
  });

  test('after PRIQ_ABT_ERR is acknowledged the queue goes on', () => {
    const rig = setUp({ holes: [AT.PAGE_REQUESTS] });
    rig.unit.pageRequest(request());
    rig.unit.writeReg32(0x20, ALL_ON & ~2);
    rig.unit.writeReg64(0xc0, (AT.PAGE_REQUESTS + 0x1000) | 3, 0);
    rig.unit.writeReg32(0x20, ALL_ON);
    rig.unit.pageRequest(request());
    expect(rig.unit.readReg32(0x100c8)).toBe(0);
    rig.unit.writeReg32(0x64, rig.unit.readReg32(0x60));
    rig.unit.pageRequest(request());
    expect(rig.unit.readReg32(0x100c8)).toBe(1);
  });

  test('full: success, OVFLG once, and nothing more enters until the acknowledgement', () => {
    const rig = setUp();
    fill(rig);
    rig.unit.pageRequest(request({ last: false }));
    expect(rig.responses).toEqual([]);
    rig.unit.pageRequest(request());
    rig.unit.pageRequest(request());
    expect(rig.unit.readReg32(0x100c8)).toBe(0x8000_0008);
    // Software makes room, but does not acknowledge.
    rig.unit.writeReg32(0x100cc, 8);
    rig.unit.pageRequest(request());
    expect(rig.unit.readReg32(0x100c8)).toBe(0x8000_0008);
    expect(rig.responses).toHaveLength(3);
    expect(rig.responses[0]).toEqual({ rid: SID, pasid: 5, prgi: 0x1a3, code: SUCCESS });
    rig.unit.writeReg32(0x100cc, 0x8000_0008);
    rig.unit.pageRequest(request());
    expect(rig.unit.readReg32(0x100c8)).toBe(0x8000_0009);
    expect(rig.responses).toHaveLength(3);
  });

  test.each([
    ['PPS=1 repeats the PASID whatever the STE says', 1, '0x0', 5, SUCCESS],
    ['PPS=0 and STE.PPAR=1 repeats it', 0, '0x40000', 5, SUCCESS],
    ['PPS=0 and STE.PPAR=0: success without PASID', 0, '0x0', -1, SUCCESS],
    ['PPS=0 and an STE that cannot be used: failure without PASID', 0, undefined, -1, FAILURE],
  ])('full: %s', (_, PPS, word1, pasid, code) => {
    const rig = setUp({ capabilities: { idr3: { PPS } } });
    if (word1 !== undefined) rig.store({ '0x1005c0': '0x9', '0x1005c8': word1 });
    fill(rig);
    rig.unit.pageRequest(request());
    expect(rig.responses).toEqual([{ rid: SID, pasid, prgi: 0x1a3, code }]);
    expect(rig.events()).toEqual([]);
  });

  test('full: a request without PASID gets success without PASID', () => {
    const rig = setUp({ capabilities: { idr3: { PPS: 0 } } });
    fill(rig);
    rig.unit.pageRequest(request({ pasid: -1 }));
    expect(rig.responses).toMatchObject([{ pasid: -1, code: SUCCESS }]);
  });

  test('a stop marker is owed no answer', () => {
    const rig = setUp({ cr0: 0 });
    rig.unit.pageRequest(request({ read: false }));
    rig.unit.pageRequest(request({ read: false, pasid: -1 }));
    expect(rig.responses).toMatchObject([{ pasid: -1, code: FAILURE }]);
    const full = setUp();
    fill(full);
    full.unit.pageRequest(request({ read: false }));
    expect(full.responses).toEqual([]);
  });

  test('a unit without PRI has no queue', () => {
    const rig = setUp({ capabilities: { idr0: { PRI: 0 } } });
    rig.unit.pageRequest(request());
    expect(rig.responses).toMatchObject([{ code: FAILURE }]);
    const registers = [0x20, 0xc0, 0x100c8, 0x100cc, 0xd0, 0xd8, 0xdc];
    for (const offset of registers.slice(1)) rig.unit.writeReg32(offset, 0x60);
    expect(registers.map((offset) => rig.unit.readReg32(offset) & 2)).toEqual([
      0, 0, 0, 0, 0, 0, 0,
    ]);
    expect(rig.unit.readReg32(0xc0)).toBe(0);
  });
});

describe('SMMUv3 3.5.4: overflow of the page request queue', () => {
  test('OVFLG and OVACKFLG as in the worked protocol', () => {
    const rig = setUp();
    const doSteps: readonly (() => void)[] = [
      () => undefined,
      () => fill(rig),
      () => fill(rig, 1),
      () => fill(rig, 1),
      () => rig.unit.writeReg32(0x100cc, 0x8000_0008),
      () => fill(rig, 9),
    ];
    VECTORS.overflow.forEach(({ step, prod, consOvackflg }, at) => {
      doSteps[at]?.();
      expect([step, rig.unit.readReg32(0x100c8), rig.unit.readReg32(0x100cc)]).toEqual([
        step,
        Number(prod),
        Number(consOvackflg),
      ]);
    });
  });

  test.each(VECTORS.queue)('PROD $prod, CONS $cons, 2^$log2size entries', (state) => {
    const rig = setUp({ cr0: ALL_ON & ~2 });
    rig.unit.writeReg64(0xc0, AT.PAGE_REQUESTS | state.log2size, 0);
    rig.unit.writeReg32(0x100c8, Number(state.prod));
    rig.unit.writeReg32(0x100cc, Number(state.cons));
    rig.unit.writeReg32(0x20, ALL_ON);
    rig.unit.pageRequest(request());
    const after = rig.unit.readReg32(0x100c8);
    expect(after >>> 31 === 1).toBe(state.full);
    expect(after !== Number(state.prod)).toBe(true);
    expect(rig.messages.length > 0).toBe(state.empty);
  });
});

describe('SMMUv3 3.18: interrupts of the page request queue', () => {
  test('from empty to not empty only', () => {
    const rig = setUp();
    fill(rig, 3);
    expect(rig.messages).toEqual([AT.PAGE_REQUEST_MSI]);
    rig.unit.writeReg32(0x100cc, 3);
    fill(rig, 1);
    expect(rig.messages).toHaveLength(2);
  });

  test('PRIQ_IRQ_CFG2.LO: for the last of each group, and for no other', () => {
    const rig = setUp();
    rig.unit.writeReg32(0x50, 0);
    rig.unit.writeReg32(0xdc, 0x8000_0000);
    rig.unit.writeReg32(0x50, 7);
    rig.unit.pageRequest(request({ last: false }));
    expect(rig.messages).toEqual([]);
    rig.unit.pageRequest(request());
    rig.unit.pageRequest(request());
    expect(rig.messages).toEqual([AT.PAGE_REQUEST_MSI, AT.PAGE_REQUEST_MSI]);
  });

  test('a message that aborts is MSI_PRIQ_ABT_ERR', () => {
    const rig = setUp();
    rig.device.lostMessage = AT.PAGE_REQUEST_MSI;
    fill(rig, 1);
    expect(rig.errors()).toBe(1 << GLOBAL_ERROR.MSI_PRIQ_ABT_ERR);
    expect(rig.messages).toEqual([AT.PAGE_REQUEST_MSI, AT.GERROR_MSI]);
  });

  test('PRIQ_IRQEN=0: none', () => {
    const rig = setUp();
    rig.unit.writeReg32(0x50, 5);
    fill(rig, 1);
    expect(rig.messages).toEqual([]);
  });

  test.each([
    ['PRIQ_BASE', 0xc0],
    ['PRIQ_PROD', 0x100c8],
    ['PRIQ_IRQ_CFG0', 0xd0],
    ['PRIQ_IRQ_CFG1', 0xd8],
    ['PRIQ_IRQ_CFG2', 0xdc],
  ])('%s keeps its value while it is in use', (_, offset) => {
    const rig = setUp();
    const before = rig.unit.readReg32(offset);
    rig.unit.writeReg32(offset, 0x1_2340);
    expect(rig.unit.readReg32(offset)).toBe(before);
    rig.unit.writeReg32(0x20, 0);
    rig.unit.writeReg32(0x50, 0);
    rig.unit.writeReg32(offset, 0x21);
    expect(rig.unit.readReg32(offset)).not.toBe(before);
  });
});

const command = (name: string): Uint32Array => {
  const found = VECTORS.commands.find((vector) => vector.name === name);
  return wordsOf(found?.words ?? []);
};

describe('SMMUv3 4.5: PRI_RESP', () => {
  test.each([
    ['PRI_RESP failure', FAILURE],
    ['PRI_RESP invalid', INVALID_REQUEST],
    ['PRI_RESP success', SUCCESS],
  ])('%s', (name, code) => {
    const rig = setUp();
    rig.run(command(name));
    expect(rig.responses).toEqual([{ rid: SID, pasid: 5, prgi: 0x1a3, code }]);
  });

  test('without SSV the answer has no PASID', () => {
    const rig = setUp();
    rig.run(encode(PRI_RESP, { OPCODE: COMMAND.PRI_RESP, SID, SSID: 5, PRG_INDEX: 7, RESP: 2 }));
    expect(rig.responses).toEqual([{ rid: SID, pasid: -1, prgi: 7, code: SUCCESS }]);
  });

  test.each([
    ['SMMUEN=0', { cr0: ALL_ON & ~1 }, SID],
    ['a StreamID that there cannot be', {}, 0x1_0000],
  ])('%s: consumed without effect', (_, options, sid) => {
    const rig = setUp(options);
    rig.run(encode(PRI_RESP, { OPCODE: COMMAND.PRI_RESP, SID: sid, RESP: 2 }));
    rig.run(encode(ATC_INV, { OPCODE: COMMAND.ATC_INV, SID: sid, SIZE: 52 }));
    expect([rig.responses, rig.invalidations, rig.commandError()]).toEqual([[], [], 0]);
    expect(rig.unit.readReg32(0x9c)).toBe(2);
  });
});

describe('SMMUv3 4.5: ATC_INV', () => {
  const base = { rid: SID, pasid: -1, pfn: 0, sizeLg2: 64, global: true };
  test.each([
    ['ATC_INV 4K', { ...base, pasid: 5, pfn: 0x7_f000_0001, sizeLg2: 12, global: false }],
    ['ATC_INV all, no SSID', base],
    ['ATC_INV global', { ...base, pasid: 0 }],
  ])('%s', (name, sent) => {
    const rig = setUp();
    rig.run(command(name));
    expect(rig.invalidations).toEqual([sent]);
  });

  test.each([
    [
      'address bits below the size are ignored',
      { SSV: 1, SIZE: 3, ADDR: 0x1_2345_6000 },
      0x1_2345_0,
      15,
    ],
    ['Size 51 is half of everything', { SSV: 1, SIZE: 51, ADDR: 0x1000 }, 0, 63],
  ])('%s', (_, fields, pfn, sizeLg2) => {
    const rig = setUp();
    rig.run(encode(ATC_INV, { OPCODE: COMMAND.ATC_INV, SID, ...fields }));
    expect(rig.invalidations).toMatchObject([{ pfn, sizeLg2, pasid: 0, global: false }]);
  });

  test('Global says nothing without SSV: entries of every PASID go in any case', () => {
    const rig = setUp();
    rig.run(encode(ATC_INV, { OPCODE: COMMAND.ATC_INV, SID, GLOBAL: 1, SIZE: 0, ADDR: 0x1000 }));
    rig.run(encode(ATC_INV, { OPCODE: COMMAND.ATC_INV, SID, GLOBAL: 0, SIZE: 0, ADDR: 0x1000 }));
    expect(rig.invalidations[0]).toEqual(rig.invalidations[1]);
  });

  test.each([
    ['nothing in time', INVALIDATION_ANSWER.NONE],
    ['a completion that fits no request', INVALIDATION_ANSWER.UNEXPECTED],
  ])('%s: CERROR_ATC_INV_SYNC at the next SYNC, which has not run', (_, answer) => {
    const rig = setUp();
    rig.device.answer = answer;
    rig.run(command('ATC_INV 4K'));
    expect([rig.commandError(), rig.errors()]).toEqual([0, 0]);
    rig.device.answer = INVALIDATION_ANSWER.COMPLETE;
    rig.run(command('ATC_INV 4K'), command('SYNC none'), command('ATC_INV 4K'));
    expect([rig.commandError(), rig.errors()]).toEqual([CMDQ_ERR.ATC_INV_SYNC, 1]);
    expect([rig.unit.readReg32(0x9c) & 0xff, rig.invalidations.length]).toEqual([2, 2]);
    rig.unit.writeReg32(0x64, rig.unit.readReg32(0x60));
    expect([rig.unit.readReg32(0x9c) & 0xff, rig.invalidations.length]).toEqual([4, 3]);
    expect(rig.errors()).toBe(0);
  });

  test('a unit without devices on its bus: nobody answers, and nobody is waited for', async () => {
    const { SmmuHardware } = await import('../../src/hardware/iommu.ts');
    const { SparseMemory } = await import('../sparse-memory.ts');
    const memory = new SparseMemory();
    const unit = new SmmuHardware({ memory });
    memory.store(AT.COMMANDS, 0x17_0000_0040n);
    memory.store(AT.COMMANDS + 8, 0x34n);
    memory.store(AT.COMMANDS + 16, 0x46n);
    unit.writeReg64(0x90, AT.COMMANDS | 3, 0);
    unit.writeReg32(0x20, 9);
    unit.writeReg32(0x98, 2);
    expect(unit.readReg32(0x9c)).toBe(2);
  });
});
