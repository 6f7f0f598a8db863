import { describe, expect, test } from 'vitest';
import { EVENT, FULL_EFR } from '../../src/index.ts';
import { describeEvent, Fixture, READ, WRITE } from './fixture.ts';

const { IO_PAGE_FAULT, INVALID_DEVICE_REQUEST, ILLEGAL_DEV_TABLE_ENTRY } = EVENT;
const ENTRY = { V: 1, TV: 1, IR: 1, IW: 1 };
const INTERRUPTS = 0xfd_0000_1000;
const ACKNOWLEDGE = 0xfd_f900_0000;
const MESSAGES = 0xfd_f910_0000;
const PORTS = 0xfd_fc00_0000;
const CONFIGURATION = 0xfd_fe00_0000;
const RESERVED = 0xff_ffff_f000;

/** Answer: the address itself, or an event code with its Type. */
type Answer = 'forward' | readonly [code: number, type: number];

describe('AMD IOMMU 2.1.2: the HyperTransport region (EFR2.HtRangeIgnore=0)', () => {
  test.each<[string, Record<string, number>, number, number, Answer]>([
    ['interrupt write', {}, INTERRUPTS, WRITE, 'forward'],
    ['interrupt write, IntCtl 0', { IV: 1 }, INTERRUPTS, WRITE, [INVALID_DEVICE_REQUEST, 4]],
    ['interrupt write, IntCtl 1', { IV: 1, INT_CTL: 1 }, INTERRUPTS, WRITE, 'forward'],
    ['interrupt read', {}, INTERRUPTS, READ, [INVALID_DEVICE_REQUEST, 0]],
    ['interrupt acknowledge', {}, ACKNOWLEDGE, READ, [IO_PAGE_FAULT, 0]],
    ['SysMgt 0', {}, MESSAGES, WRITE, [INVALID_DEVICE_REQUEST, 3]],
    ['SysMgt 1', { SYS_MGT: 1 }, MESSAGES, WRITE, 'forward'],
    ['SysMgt 1, read', { SYS_MGT: 1 }, MESSAGES, READ, [INVALID_DEVICE_REQUEST, 6]],
    ['SysMgt 2', { SYS_MGT: 2 }, MESSAGES, WRITE, [INVALID_DEVICE_REQUEST, 3]],
    ['SysMgt 3: translated', { SYS_MGT: 3, MODE: 3 }, MESSAGES, WRITE, [IO_PAGE_FAULT, 0]],
    ['SysMgt 3, Mode 0', { SYS_MGT: 3 }, MESSAGES, WRITE, 'forward'],
    ['IoCtl 0', {}, PORTS, WRITE, [INVALID_DEVICE_REQUEST, 2]],
    ['IoCtl 1', { IO_CTL: 1 }, PORTS, READ, 'forward'],
    ['IoCtl 2: translated', { IO_CTL: 2, MODE: 3 }, PORTS, READ, [IO_PAGE_FAULT, 0]],
    ['IoCtl 3', { IO_CTL: 3 }, PORTS, READ, [ILLEGAL_DEV_TABLE_ENTRY, 0]],
    ['configuration', { IO_CTL: 1, SYS_MGT: 1 }, CONFIGURATION, READ, [IO_PAGE_FAULT, 0]],
    ['reserved', {}, RESERVED, READ, [IO_PAGE_FAULT, 0]],
    ['V=0: passes', { V: 0 }, PORTS, READ, 'forward'],
    ['the page below', { IW: 0 }, 0xfc_ffff_f000, READ, 'forward'],
    ['the page above', {}, 0x100_0000_0000, READ, 'forward'],
  ])('%s', (_, values, iova, access, answer) => {
    const t = new Fixture({ capabilities: { efr: FULL_EFR, efr2: 0n } });
    t.entry({ ...ENTRY, ...values });
    const result = t.dma(iova, { access });
    const events = t.takeEvents().map(describeEvent);
    if (answer === 'forward') expect([result, events]).toEqual([iova, []]);
    else {
      const [code, type] = answer;
      expect(result).toBe(-1);
      expect(events).toMatchObject([{ code, type, address: iova }]);
    }
    // Not by way of a cache either.
    expect(t.dma(iova, { access })).toBe(result);
  });

  test('with HtRangeIgnore=1 it is ordinary memory', () => {
    const t = new Fixture();
    t.entry(ENTRY);
    expect(t.dma(CONFIGURATION)).toBe(CONFIGURATION);
  });

  test('requests with PASID do not meet special addresses', () => {
    const t = new Fixture({ capabilities: { efr: FULL_EFR, efr2: 0n } });
    t.guestDevice();
    expect(t.dma(0xfee0_0000, { pasid: 5 })).toBe(-1);
    expect(t.takeEvents().map(describeEvent)).toMatchObject([{ code: IO_PAGE_FAULT, flags: 'GN' }]);
  });
});
