import { encode } from '@iommukit/bits';
import { PhysicalMemory } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import { AmdviHardware } from '../../src/hardware/iommu.ts';
import {
  COMMAND,
  COMPLETION_WAIT,
  CONTROL,
  DTE,
  EVENT,
  HOST_PDE,
  HOST_PTE,
  INVALIDATE_DEVTAB_ENTRY,
  INVALIDATE_IOMMU_ALL,
  INVALIDATE_IOMMU_PAGES,
} from '../../src/spec/index.ts';

const RAM = 0x10_0000;
const DEVICE_TABLE = RAM;
const COMMANDS = RAM + 0x1_0000;
const LOG = RAM + 0x2_0000;
const TABLE = RAM + 0x3_0000;
const DATA = RAM + 0x8_0000;
const OUTSIDE = 0x4000_0000;
const RID = 0x20;
const MSI = 0xfee0_0000;
const ENABLES = {
  IOMMU_EN: 1,
  EVENT_LOG_EN: 1,
  CMD_BUF_EN: 1,
  EVENT_INT_EN: 1,
  COM_WAIT_INT_EN: 1,
};

const setUp = () => {
  const memory = new PhysicalMemory();
  memory.addRegion({ name: 'ram', base: RAM, size: 0x10_0000 });
  const messages: number[] = [];
  const unit = new AmdviHardware({
    memory,
    bus: { raiseMessage: (address) => messages.push(address) },
  });
  const control = (values: object) => {
    const words = encode(CONTROL, values as never);
    unit.writeReg64(0x18, words[0] as number, words[1] as number);
  };
  unit.writeReg64(0x0, DEVICE_TABLE | 0xf, 0);
  unit.writeReg64(0x8, COMMANDS, 0x0800_0000);
  unit.writeReg64(0x10, LOG, 0x0800_0000);
  unit.writeReg32(0x15c, MSI);
  unit.writeReg32(0x158, 1 << 16);
  control(ENABLES);
  const put = (pa: number, words: Uint32Array) => {
    for (let at = 0; at < words.length; at++) memory.write32(pa + at * 4, words[at] as number);
  };
  const run = (...commands: Uint32Array[]) => {
    let tail = unit.readReg32(0x2008);
    for (const words of commands) {
      put(COMMANDS + tail, words);
      tail = (tail + 16) % 4096;
    }
    unit.writeReg32(0x2008, tail);
  };
  const entry = (values: object) => put(DEVICE_TABLE + RID * 32, encode(DTE, values as never));
  const leaf = (index: number, values: object) => {
    put(TABLE + index * 8, encode(HOST_PTE, { PR: 1, IR: 1, IW: 1, ...values } as never));
  };
  const events = () => {
    const codes: number[] = [];
    for (let head = 0; head !== unit.readReg32(0x2018); head += 16) {
      codes.push(memory.read32(LOG + head + 4) >>> 28);
    }
    return codes;
  };
  const translate = (pfn: number, access = 1) => unit.translatePage(RID, -1, pfn, access);
  entry({ V: 1, TV: 1, MODE: 1, HOST_ROOT: TABLE, IR: 1, IW: 1, DOMAIN_ID: 7 });
  leaf(1, { ADDR: DATA });
  return { memory, unit, messages, control, put, run, entry, leaf, events, translate };
};

const devtab = encode(INVALIDATE_DEVTAB_ENTRY, {
  OPCODE: COMMAND.INVALIDATE_DEVTAB_ENTRY,
  DEVICE_ID: RID,
});
const pages = (DOMAIN_ID: number, page: number) =>
  encode(INVALIDATE_IOMMU_PAGES, {
    OPCODE: COMMAND.INVALIDATE_IOMMU_PAGES,
    DOMAIN_ID,
    ADDR: page * 4096,
  });
const wait = (values: object) =>
  encode(COMPLETION_WAIT, { OPCODE: COMMAND.COMPLETION_WAIT, ...values });

describe('AMD IOMMU 2.4: commands', () => {
  test('INVALIDATE_DEVTAB_ENTRY: a changed entry counts from then on, translations stay', () => {
    const t = setUp();
    expect(t.translate(1)).toBe(DATA / 4096);
    t.entry({ V: 1 });
    expect(t.translate(1)).toBe(DATA / 4096);
    t.run(devtab);
    expect(t.translate(1)).toBeLessThan(0);
    t.entry({ V: 1, TV: 1, MODE: 1, HOST_ROOT: TABLE + 0x1000, IR: 1, DOMAIN_ID: 7 });
    t.run(devtab);
    expect(t.translate(1)).toBe(DATA / 4096);
  });

  test.each([
    ['another domain', pages(8, 1), true],
    ['another page', pages(7, 2), true],
    ['its page', pages(7, 1), false],
    [
      'INVALIDATE_IOMMU_ALL',
      encode(INVALIDATE_IOMMU_ALL, { OPCODE: COMMAND.INVALIDATE_IOMMU_ALL }),
      false,
    ],
  ])('INVALIDATE_IOMMU_PAGES of %s', (_, command, stale) => {
    const t = setUp();
    t.translate(1);
    t.leaf(1, { ADDR: DATA + 0x1000 });
    t.run(command);
    expect(t.translate(1)).toBe((stale ? DATA : DATA + 0x1000) / 4096);
  });

  test('COMPLETION_WAIT stores 64 bits and interrupts once', () => {
    const t = setUp();
    t.run(wait({ S: 1, ADDR: DATA, DATA: 0x1122334455667788n }), wait({ I: 1 }), wait({ I: 1 }));
    expect([t.memory.read32(DATA), t.memory.read32(DATA + 4)]).toEqual([0x55667788, 0x11223344]);
    expect(t.messages).toEqual([MSI]);
    t.unit.writeReg32(0x2020, 4);
    t.run(wait({ I: 1 }));
    expect(t.messages).toEqual([MSI, MSI]);
  });

  test.each([
    ['an unknown opcode', Uint32Array.of(0, 0xf000_0000, 0, 0)],
    ['a reserved bit', Uint32Array.of(0x1_0020, 0x2000_0000, 0, 0)],
    ['GN without guest tables', Uint32Array.of(0, 0x3000_0007, 4, 0)],
    [
      'the undefined address with all ones',
      Uint32Array.of(0, 0x3000_0007, 0xffff_f001, 0xffff_ffff),
    ],
    ['a device beyond the table', Uint32Array.of(0xffff, 0x2000_0000, 0, 0)],
    ['PREFETCH without PreFSup', Uint32Array.of(RID, 0x6000_0000, 0, 0)],
  ])('%s is ILLEGAL_COMMAND_ERROR and stops the buffer', (_, command) => {
    const t = setUp();
    t.run(wait({}), command, wait({ S: 1, ADDR: DATA, DATA: 1n }));
    expect(t.events()).toEqual([EVENT.ILLEGAL_COMMAND_ERROR]);
    expect(t.memory.read32(LOG + 8)).toBe(COMMANDS + 16);
    expect(t.unit.readReg32(0x2000)).toBe(16);
    expect(t.unit.readReg32(0x2020) & 0x10).toBe(0);
    expect(t.memory.read32(DATA)).toBe(0);
  });

  test('after an error only CmdBufEn 0 to 1 starts the buffer again', () => {
    const t = setUp();
    t.run(Uint32Array.of(0, 0xf000_0000, 0, 0), wait({ S: 1, ADDR: DATA, DATA: 1n }));
    t.put(COMMANDS, wait({}));
    t.control(ENABLES);
    expect(t.memory.read32(DATA)).toBe(0);
    t.control({ ...ENABLES, CMD_BUF_EN: 0 });
    t.control(ENABLES);
    expect(t.memory.read32(DATA)).toBe(1);
  });

  test.each([
    [
      'a store outside memory',
      (t: ReturnType<typeof setUp>) => t.run(wait({ S: 1, ADDR: OUTSIDE })),
    ],
    [
      'a command buffer outside memory',
      (t: ReturnType<typeof setUp>) => {
        t.control({ ...ENABLES, CMD_BUF_EN: 0 });
        t.unit.writeReg64(0x8, OUTSIDE, 0x0800_0000);
        t.control(ENABLES);
        t.unit.writeReg32(0x2008, 16);
      },
    ],
  ])('%s is COMMAND_HARDWARE_ERROR', (_, act) => {
    const t = setUp();
    act(t);
    expect(t.events()).toEqual([EVENT.COMMAND_HARDWARE_ERROR]);
    expect(t.unit.readReg32(0x2020) & 0x10).toBe(0);
  });
});

test('AMD IOMMU 2.2.3: a cached translation keeps the rights of all levels, not of the leaf alone', () => {
  const t = setUp();
  t.entry({ V: 1, TV: 1, MODE: 2, HOST_ROOT: TABLE + 0x1000, IR: 1, IW: 1, DOMAIN_ID: 7 });
  t.put(TABLE + 0x1000, encode(HOST_PDE, { PR: 1, NEXT_LEVEL: 1, ADDR: TABLE, IR: 1 }));
  expect(t.translate(1, 1)).toBe(DATA / 4096);
  expect(t.translate(1, 2)).toBeLessThan(0);
});

test('DTE rights are not cached with a translation: two devices of one domain differ', () => {
  const t = setUp();
  const readOnly = { V: 1, TV: 1, MODE: 1, HOST_ROOT: TABLE, IR: 1, DOMAIN_ID: 7 };
  t.put(DEVICE_TABLE + (RID + 1) * 32, encode(DTE, readOnly));
  expect(t.translate(1, 2)).toBe(DATA / 4096);
  expect(t.unit.translatePage(RID + 1, -1, 1, 1)).toBe(DATA / 4096);
  expect(t.unit.translatePage(RID + 1, -1, 1, 2)).toBeLessThan(0);
});

describe('AMD IOMMU 2.5: events', () => {
  test('DEV_TAB_HARDWARE_ERROR when nothing answers at the entry', () => {
    const t = setUp();
    t.unit.writeReg64(0x0, OUTSIDE | 0xf, 0);
    expect(t.translate(1)).toBeLessThan(0);
    expect(t.events()).toEqual([EVENT.DEV_TAB_HARDWARE_ERROR]);
    expect(t.memory.read32(LOG + 8)).toBe(OUTSIDE + RID * 32);
  });

  test('PAGE_TAB_HARDWARE_ERROR when nothing answers at a table entry', () => {
    const t = setUp();
    t.entry({ V: 1, TV: 1, MODE: 2, HOST_ROOT: TABLE, IR: 1, IW: 1, DOMAIN_ID: 7 });
    const table = { PR: 1, NEXT_LEVEL: 1, ADDR: OUTSIDE, IR: 1, IW: 1 };
    t.put(TABLE, encode(HOST_PDE, table));
    expect(t.translate(1)).toBeLessThan(0);
    expect(t.events()).toEqual([EVENT.PAGE_TAB_HARDWARE_ERROR]);
    expect(t.memory.read32(LOG + 8)).toBe(OUTSIDE + 8);
  });

  test('a full log overflows, stops, and starts again only by the restart sequence', () => {
    const t = setUp();
    for (let at = 0; at < 255; at++) t.translate(2);
    expect(t.unit.readReg32(0x2018)).toBe(255 * 16);
    expect(t.unit.readReg32(0x2020) & 9).toBe(8);
    t.translate(2);
    expect(t.unit.readReg32(0x2020) & 9).toBe(1);
    t.unit.writeReg32(0x2010, 255 * 16);
    t.translate(2);
    expect(t.unit.readReg32(0x2018)).toBe(255 * 16);
    t.control({ ...ENABLES, EVENT_LOG_EN: 0 });
    t.unit.writeReg32(0x2020, 1);
    t.control(ENABLES);
    t.translate(2);
    expect(t.unit.readReg32(0x2018)).toBe(0);
    // One message for the first event, one for the overflow: the status bits stayed set.
    expect(t.messages).toEqual([MSI, MSI]);
  });

  test.each([
    ['SA', { SA: 1 }, 0],
    ['SE', { SE: 1 }, 1],
    ['neither', {}, 3],
  ])('three page faults with %s leave %o: %i events', (_, flags, count) => {
    const t = setUp();
    t.entry({ V: 1, TV: 1, MODE: 1, HOST_ROOT: TABLE, IR: 1, IW: 1, ...flags });
    for (let at = 0; at < 3; at++) t.translate(5);
    expect(t.events()).toHaveLength(count);
  });

  test('SE logs once more after INVALIDATE_DEVTAB_ENTRY', () => {
    const t = setUp();
    t.entry({ V: 1, TV: 1, MODE: 1, HOST_ROOT: TABLE, IR: 1, SE: 1 });
    t.translate(5);
    t.translate(5);
    t.run(devtab);
    t.translate(5);
    expect(t.events()).toHaveLength(2);
  });

  test.each([
    ['IV=0 forwards', {}, 2, 0xfee00, []],
    ['IntCtl 1 forwards', { IV: 1, INT_CTL: 1 }, 2, 0xfee00, []],
    ['IntCtl 0 aborts', { IV: 1 }, 2, -1, [EVENT.IO_PAGE_FAULT]],
    ['IG aborts silently', { IV: 1, IG: 1 }, 2, -1, []],
    ['IntCtl 3 is reserved', { IV: 1, INT_CTL: 3 }, 2, -1, [EVENT.ILLEGAL_DEV_TABLE_ENTRY]],
    ['a read is no interrupt', {}, 1, -1, [EVENT.INVALID_DEVICE_REQUEST]],
  ])('interrupt range: %s', (_, flags, access, result, codes) => {
    const t = setUp();
    t.entry({ V: 1, TV: 1, MODE: 1, HOST_ROOT: TABLE, IR: 1, IW: 1, ...flags });
    expect(t.translate(0xfee00, access)).toBe(result);
    expect(t.events()).toEqual(codes);
  });
});

test('AMD IOMMU 3.4: Control bits of absent features read back 0', () => {
  const t = setUp();
  t.unit.writeReg64(0x18, 0xffff_ffff, 0xffff_ffff);
  expect([t.unit.readReg32(0x18), t.unit.readReg32(0x1c)]).toEqual([0xbc_1fff, 0xc000]);
});
