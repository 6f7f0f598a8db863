import { describe, expect, test } from 'vitest';
import { SmmuHardware } from '../../src/hardware/iommu.ts';
import { SparseMemory } from '../sparse-memory.ts';
import { AT, createRig, type RigOptions } from './rig.ts';

const ALL = 0xffff_ffff;
/** Everything modelled, by register. */
const FULL = {
  idr0: { HYP: 1, VMW: 1, SEV: 1 },
} as const;

const boot = (options: RigOptions = {}) => createRig({ capabilities: FULL, cr0: 0, ...options });

describe('SMMUv3 6.3: reset values and identification', () => {
  test.each([
    ['CR0', 0x20, 0],
    ['CR0ACK', 0x24, 0],
    ['CR1', 0x28, 0],
    ['CR2', 0x2c, 0],
    ['STATUSR', 0x40, 0],
    ['GBPA', 0x44, 0x1000],
    ['AGBPA', 0x48, 0],
    ['IRQ_CTRL', 0x50, 0],
    ['GERROR', 0x60, 0],
    ['GERRORN', 0x64, 0],
    ['CIDR0', 0xff0, 0x0d],
    ['CIDR1', 0xff4, 0xf0],
    ['CIDR2', 0xff8, 0x05],
    ['CIDR3', 0xffc, 0xb1],
    ['MPAMIDR, absent', 0x130, 0],
    ['EVENTQ_PROD', 0x100a8, 0],
    ['a dword of the Secure bank', 0x8000, 0],
  ])('%s', (_, offset, value) => {
    const { unit } = boot();
    for (let at = 0x20; at < 0x200; at += 4) unit.writeReg32(at, ALL);
    unit.reset();
    expect(unit.readReg32(offset)).toBe(value);
  });

  test('whole identification registers of a machine are taken as they are', () => {
    const values = { idr0: 0x84d369b, idr1: 0x1084510, idr3: 0x7734, idr5: 0x4004f6 };
    const unit = new SmmuHardware({
      memory: new SparseMemory(),
      capabilities: { ...values, idr4: 0x1234_5678, iidr: 0x4830_043b, aidr: 3 },
    });
    const read = [0, 4, 8, 0xc, 0x10, 0x14, 0x18, 0x1c].map((at) => unit.readReg32(at));
    expect(read).toEqual([0x84d369b, 0x1084510, 0, 0x7734, 0x1234_5678, 0x4004f6, 0x4830_043b, 3]);
  });

  test.each([
    ['a bit that is not modelled', { idr3: 1 << 21 }, /IDR3 .*clear 0x200000/],
    ['a field that is not modelled', { idr0: 0x84d369b | (1 << 15) }, /IDR0\.ATOS = 1/],
    ['no 32-bit value', { idr5: 2 ** 32 }, /IDR5 = 4294967296/],
    ['a reserved STALL_MODEL', { idr0: { STALL_MODEL: 3 } }, /STALL_MODEL = 3/],
    ['stalls without room for one', { idr0: { STALL_MODEL: 0 } }, /STALL_MAX = 0/],
    ['no stage', { idr0: { S1P: 0, S2P: 0 } }, /at least one stage/],
    ['no granule', { idr5: { GRAN4K: 0, GRAN16K: 0, GRAN64K: 0 } }, /at least one granule/],
    ['56-bit addresses', { idr5: { VAX: 2 } }, /VAX = 2/],
    ['33-bit StreamIDs', { idr1: { SIDSIZE: 33 } }, /SIDSIZE = 33/],
  ])('%s is refused by name', (_, capabilities, message) => {
    expect(() => new SmmuHardware({ memory: new SparseMemory(), capabilities } as never)).toThrow(
      message,
    );
  });

  test('what is reserved without a stage reads 0', () => {
    const { unit } = boot({ capabilities: { idr0: { ...FULL.idr0, S2P: 0 } } });
    const idr0 = unit.readReg32(0);
    expect([(idr0 >>> 9) & 1, (idr0 >>> 17) & 1, (idr0 >>> 18) & 1]).toEqual([0, 0, 0]);
  });
});

describe('SMMUv3 6.3: guarded registers keep their value', () => {
  const SMMUEN = 1;
  const PRIQEN = 2;
  const EVENTQEN = 4;
  const CMDQEN = 8;
  test.each([
    ['CR2', 0x2c, SMMUEN, 3],
    ['STRTAB_BASE', 0x80, SMMUEN, 0x40],
    ['STRTAB_BASE_CFG', 0x88, SMMUEN, 5],
    ['CMDQ_BASE', 0x90, CMDQEN, 0x23],
    ['CMDQ_CONS', 0x9c, CMDQEN, 7],
    ['EVENTQ_BASE', 0xa0, EVENTQEN, 0x23],
    ['EVENTQ_PROD', 0x100a8, EVENTQEN, 0x8000_0005],
    ['PRIQ_BASE', 0xc0, PRIQEN, 0x23],
    ['PRIQ_PROD', 0x100c8, PRIQEN, 0x8000_0005],
  ])('%s while its enable is set', (_, offset, enable, value) => {
    const { unit } = boot();
    unit.writeReg32(offset, value);
    expect(unit.readReg32(offset)).toBe(value);
    unit.writeReg32(0x20, enable);
    unit.writeReg32(offset, 0);
    unit.writeReg64(offset, 0, 0);
    expect(unit.readReg32(offset)).toBe(value);
    unit.writeReg32(0x20, 0);
    unit.writeReg32(offset, 0);
    expect(unit.readReg32(offset)).toBe(0);
  });

  test('CR1: table attributes by SMMUEN, queue attributes by any queue', () => {
    const { unit } = boot();
    unit.writeReg32(0x20, SMMUEN);
    unit.writeReg32(0x28, ALL);
    expect(unit.readReg32(0x28)).toBe(0x3f);
    unit.writeReg32(0x20, PRIQEN);
    unit.writeReg32(0x28, 0xfc0);
    expect(unit.readReg32(0x28)).toBe(0xfff);
  });

  test.each([
    ['GERROR', 0x68, 1],
    ['EVENTQ', 0xb0, 4],
    ['PRIQ', 0xd0, 2],
  ])('%s_IRQ_CFG while its interrupt is enabled', (_, offset, enable) => {
    const { unit } = boot();
    unit.writeReg32(0x50, 0);
    unit.writeReg64(offset, 0x1000, 1);
    unit.writeReg32(offset + 8, 7);
    unit.writeReg32(0x50, enable);
    expect(unit.readReg32(0x54)).toBe(enable);
    unit.writeReg64(offset, 0, 0);
    unit.writeReg32(offset + 8, 0);
    unit.writeReg32(offset + 12, 0);
    expect([0, 4, 8].map((at) => unit.readReg32(offset + at))).toEqual([0x1000, 1, 7]);
  });

  test('GBPA changes with Update only, and Update reads 0 again', () => {
    const { unit } = boot();
    unit.writeReg32(0x44, 0x10_0000);
    expect(unit.readReg32(0x44)).toBe(0x1000);
    unit.writeReg32(0x44, 0x8010_0000);
    expect(unit.readReg32(0x44)).toBe(0x10_0000);
  });
});

describe('SMMUv3 6.3: fields of absent features are 0', () => {
  test.each([
    ['CR0', 0x20, { idr0: { ATS: 0 } }, 0x0d],
    ['CR0', 0x20, { idr0: { PRI: 0 } }, 0x1d],
    ['CR0', 0x20, FULL, 0x1df],
    ['CR2', 0x2c, {}, 0x0e],
    ['CR2', 0x2c, FULL, 0x0f],
    ['CR2', 0x2c, { idr0: { ATSRECERR: 0 } }, 0x06],
    ['IRQ_CTRL', 0x50, {}, 7],
    ['IRQ_CTRL', 0x50, { idr0: { PRI: 0 } }, 5],
    ['EVENTQ_IRQ_CFG1', 0xb8, { idr0: { MSI: 0 } }, 0],
    ['PRIQ_IRQ_CFG2', 0xdc, { idr0: { MSI: 0 } }, 0x8000_003f],
  ])('%s', (_, offset, capabilities, value) => {
    const { unit } = boot({ capabilities } as RigOptions);
    unit.writeReg32(0x50, 0);
    unit.writeReg32(offset, ALL);
    expect(unit.readReg32(offset)).toBe(value);
  });
});

describe('SMMUv3 6.2: sizes of accesses', () => {
  test('a 64-bit register takes one access or two halves', () => {
    const { unit } = boot();
    unit.writeReg64(0x80, 0x1234_0040, 7);
    expect([unit.readReg32(0x80), unit.readReg32(0x84)]).toEqual([0x1234_0040, 7]);
    unit.writeReg32(0x84, 8);
    expect([unit.readReg32(0x80), unit.readReg32(0x84)]).toEqual([0x1234_0040, 8]);
  });

  test.each([
    ['a 32-bit register in 64 bits', 0x28],
    ['the upper half of a 64-bit register in 64 bits', 0x84],
    ['a place that is no multiple of 4', 0x29],
  ])('%s: the write is ignored', (_, offset) => {
    const { unit } = boot();
    const before = [0x28, 0x2c, 0x84, 0x88].map((at) => unit.readReg32(at));
    unit.writeReg64(offset, ALL, ALL);
    expect([0x28, 0x2c, 0x84, 0x88].map((at) => unit.readReg32(at))).toEqual(before);
  });

  test('the shadows of page-1 indices on page 0 read 0', () => {
    const { unit } = boot();
    unit.writeReg32(0xa8, 5);
    expect([unit.readReg32(0xa8), unit.readReg32(0x100a8)]).toEqual([0, 0]);
  });
});

describe('SMMUv3 6.3.17, 3.18: errors and interrupts', () => {
  const ABORTED: Readonly<Record<number, string>> = {
    4: 'SYNC',
    5: 'EVENTQ',
    6: 'PRIQ',
    7: 'GERROR',
  };
  const sync = (cs: number, address = 0) => Uint32Array.of(0x46 | (cs << 12), 9, address, 0);

  /** A unit whose messages abort at some addresses. */
  const wire = (aborts: (address: number) => boolean, capabilities: object = FULL) => {
    const memory = new SparseMemory();
    const heard: string[] = [];
    const unit = new SmmuHardware({
      memory,
      capabilities,
      bus: {
        raiseMessage: (address, data) => {
          heard.push(`${address.toString(16)}=${data}`);
          return !aborts(address);
        },
        pulse: (line) => heard.push(line),
        sendEvent: () => heard.push('event'),
      },
    });
    unit.writeReg64(0x68, 0x1000, 0);
    unit.writeReg64(0xb0, 0x2000, 0);
    unit.writeReg32(0xb8, 3);
    unit.writeReg64(0x90, AT.COMMANDS | 2, 0);
    unit.writeReg64(0xa0, AT.EVENTS | 2, 0);
    unit.writeReg64(0x80, AT.STREAMS, 0);
    unit.writeReg32(0x50, 5);
    unit.writeReg32(0x2c, 2);
    unit.writeReg32(0x20, 0xd);
    const run = (words: Uint32Array) => {
      const prod = unit.readReg32(0x98);
      const at = AT.COMMANDS + (prod % 4) * 16;
      memory.store(at, BigInt(words[0] as number) | (BigInt(words[1] as number) << 32n));
      memory.store(at + 8, BigInt(words[2] as number));
      unit.writeReg32(0x98, (prod + 1) % 8);
    };
    return { unit, memory, heard, run, errors: () => unit.readReg32(0x60) ^ unit.readReg32(0x64) };
  };

  test.each([
    [5, (at: number) => at === 0x2000, ['2000=3', '1000=0']],
    [7, (at: number) => at === 0x1000, ['2000=3']],
  ])('bit %i: a message that aborts', (bit, aborts, sent) => {
    const { unit, heard, errors } = wire(aborts);
    unit.translatePage(5, -1, 0, 1);
    if (bit === 7) {
      unit.writeReg32(0x98, 1);
      expect(heard.at(-1)).toBe('1000=0');
    } else expect(heard).toEqual(sent);
    expect([ABORTED[bit], (errors() >>> bit) & 1]).toEqual([ABORTED[bit], 1]);
  });

  test('SYNC: its message may abort; the wire pulses whatever comes of it', () => {
    const { heard, run, errors } = wire((at) => at === 0x3000);
    run(sync(1, 0x3000));
    expect(heard).toEqual(['3000=9', '1000=0', 'cmdq-sync']);
    expect(errors()).toBe(1 << 4);
    run(sync(1));
    expect(heard.slice(3)).toEqual(['cmdq-sync']);
  });

  test.each([
    ['1', FULL, ['event']],
    ['0', {}, []],
  ])('SYNC with CS = SEV and IDR0.SEV = %s', (_, capabilities, events) => {
    const { heard, run, unit } = wire(() => false, capabilities);
    run(sync(2));
    expect(heard).toEqual(events);
    expect(unit.readReg32(0x9c)).toBe(1);
  });

  test('a command queue that is no longer full wakes waiting CPUs', () => {
    const { heard, unit, run } = wire(() => false);
    unit.writeReg32(0x20, 5);
    for (let n = 0; n < 3; n++) run(sync(0));
    unit.writeReg32(0x20, 0xd);
    expect(heard).toEqual([]);
    unit.writeReg32(0x20, 5);
    for (let n = 0; n < 4; n++) run(sync(0));
    unit.writeReg32(0x20, 0xd);
    expect(heard).toEqual(['event']);
  });

  test.each([
    ['without messages', { idr0: { MSI: 0 } }],
    ['with a message address of 0', FULL],
  ])('%s, wires pulse', (_, capabilities) => {
    const { unit, heard } = wire(() => false, capabilities);
    unit.writeReg32(0x50, 0);
    unit.writeReg64(0xb0, 0, 0);
    unit.writeReg32(0x50, 5);
    unit.translatePage(5, -1, 0, 1);
    expect(heard).toEqual(['eventq']);
  });

  test('an error toggles its bit when it is not active, and software acknowledges by toggling', () => {
    const { unit, errors } = wire(() => false);
    const bad = () => unit.writeReg32(0x98, (unit.readReg32(0x98) + 1) % 8);
    bad();
    expect([unit.readReg32(0x60), errors()]).toEqual([1, 1]);
    bad();
    expect(unit.readReg32(0x60)).toBe(1);
    unit.writeReg32(0x64, 1);
    expect([unit.readReg32(0x60), errors()]).toEqual([0, 1]);
    unit.writeReg32(0x60, ALL);
    expect(unit.readReg32(0x60)).toBe(0);
  });

  test('message addresses and queue bases have OAS bits', () => {
    const { unit, heard, memory } = wire(() => false, { idr5: { OAS: 1 } });
    unit.writeReg32(0x50, 0);
    unit.writeReg64(0xb0, 0x2000, 0x7_0010);
    unit.writeReg32(0x50, 5);
    unit.writeReg32(0x20, 0);
    unit.writeReg64(0xa0, AT.EVENTS | 2, 0x40);
    unit.writeReg32(0x20, 0xd);
    unit.translatePage(5, -1, 0, 1);
    expect(heard).toEqual(['2000=3']);
    expect([unit.readReg32(0x60), unit.readReg32(0x100a8)]).toEqual([0, 1]);
    expect(memory.load(AT.EVENTS) & 0xffn).toBe(2n);
  });
});
