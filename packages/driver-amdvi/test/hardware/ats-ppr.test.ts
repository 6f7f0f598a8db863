import { ATS_STATUS, INVALIDATION_ANSWER } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import { EVENT, FULL_EFR } from '../../src/index.ts';
import {
  AT,
  DOMAIN,
  describeEvent,
  ENABLES,
  EXEC,
  Fixture,
  PRIV,
  READ,
  RID,
  WRITE,
} from './fixture.ts';

const HOST = { V: 1, TV: 1, IR: 1, IW: 1, MODE: 2, HOST_ROOT: AT.host, DOMAIN_ID: DOMAIN, I: 1 };
const PAGE = AT.data + 0x1000;

const hostDevice = (values: Record<string, number> = {}, t = new Fixture()) => {
  t.hostTables();
  t.entry({ ...HOST, ...values });
  return t;
};

const events = (t: Fixture) => t.takeEvents().map(describeEvent);

describe('AMD IOMMU 2.1.4: ATS translation requests', () => {
  test('answer with frame, rights and size of the page', () => {
    const t = hostDevice();
    expect(t.ask(PAGE)).toMatchObject({
      status: ATS_STATUS.SUCCESS,
      pfn: PAGE / 4096,
      sizeLg2: 12,
      read: 1,
      write: 1,
      exec: 0,
      untranslatedOnly: 0,
      noSnoop: 0,
    });
    expect(t.ask(0x21_2000)).toMatchObject({ pfn: 0x200, sizeLg2: 21 });
    expect(events(t)).toEqual([]);
  });

  test.each([
    ['NW=1: W is not given', READ, {}, { read: 1, write: 0 }],
    ['DTE.IW=0', READ | WRITE, { IW: 0 }, { read: 1, write: 0 }],
    ['DTE.IR=0', READ | WRITE, { IR: 0 }, { read: 0, write: 1 }],
    ['DTE.TV=0: nothing is there', READ | WRITE, { TV: 0 }, { read: 0, write: 0 }],
    ['Mode 0 is identity', READ | WRITE, { MODE: 0, IW: 0 }, { read: 1, write: 0, sizeLg2: 12 }],
  ])('%s', (_, access, values, expected) => {
    const t = hostDevice(values);
    expect(t.ask(PAGE, { access })).toMatchObject({ status: ATS_STATUS.SUCCESS, ...expected });
    expect(events(t)).toEqual([]);
  });

  test.each([
    ['a page that is not present', { PR: 0 }],
    ['a page without rights', { IR: 0, IW: 0 }],
    ['a reserved bit', { ADDR: PAGE, NEXT_LEVEL: 3 }],
  ])('%s: R=W=0 and no event', (_, values) => {
    const t = hostDevice();
    t.hostPage(PAGE / 4096, values);
    expect(t.ask(PAGE)).toMatchObject({ status: ATS_STATUS.SUCCESS, read: 0, write: 0 });
    expect(events(t)).toEqual([]);
  });

  test('HOST_PTE.U and FC are told, from the tables and from the IOTLB', () => {
    const t = hostDevice();
    t.hostPage(PAGE / 4096, { ADDR: PAGE, U: 1, FC: 1 });
    const flags = { untranslatedOnly: 1, noSnoop: 1, pfn: PAGE / 4096 };
    expect(t.ask(PAGE)).toMatchObject(flags);
    t.hostPage(PAGE / 4096, {});
    expect(t.ask(PAGE)).toMatchObject(flags);
  });

  test.each<[string, Record<string, number>, number, object]>([
    ['DTE.I=0', { I: 0 }, PAGE, { code: EVENT.INVALID_DEVICE_REQUEST, type: 1, flags: 'TR' }],
    ['DTE.V=0', { V: 0 }, PAGE, { code: EVENT.INVALID_DEVICE_REQUEST, type: 1, flags: 'TR' }],
    [
      'an interrupt address',
      {},
      0xfee0_0000,
      { code: EVENT.INVALID_DEVICE_REQUEST, type: 0, flags: 'TR' },
    ],
    [
      'a reserved value in the entry',
      { HAD: 2 },
      PAGE,
      { code: EVENT.ILLEGAL_DEV_TABLE_ENTRY, flags: 'RZ TR' },
    ],
    [
      'a table where nothing answers',
      { HOST_ROOT: AT.outside },
      PAGE,
      { code: EVENT.PAGE_TAB_HARDWARE_ERROR, flags: 'TR', address: AT.outside },
    ],
  ])('%s: completer abort and an event with TR', (_, values, iova, expected) => {
    const t = hostDevice(values);
    expect(t.ask(iova).status).toBe(ATS_STATUS.COMPLETER_ABORT);
    expect(events(t)).toEqual([expect.objectContaining(expected)]);
  });

  test('a DeviceID beyond the table: Type 2', () => {
    const t = hostDevice();
    expect(t.ask(PAGE, { rid: 0xffff }).status).toBe(ATS_STATUS.COMPLETER_ABORT);
    expect(events(t)[0]).toMatchObject({
      code: EVENT.INVALID_DEVICE_REQUEST,
      type: 2,
      rid: 0xffff,
    });
  });

  test('IommuEn=0: unsupported request, nothing logged', () => {
    const t = hostDevice();
    t.control({ ...ENABLES, IOMMU_EN: 0 });
    expect(t.ask(PAGE).status).toBe(ATS_STATUS.UNSUPPORTED_REQUEST);
    expect(events(t)).toEqual([]);
  });

  test('inside the exclusion range: the address itself with all rights', () => {
    const t = hostDevice({ IR: 0, IW: 0 });
    t.unit.writeReg64(0x20, PAGE | 3, 0);
    t.unit.writeReg64(0x28, PAGE, 0);
    expect(t.ask(PAGE)).toMatchObject({ pfn: PAGE / 4096, read: 1, write: 1 });
    expect(t.ask(PAGE + 0x1000)).toMatchObject({ read: 0, write: 0 });
  });

  test.each([
    ['user', READ | WRITE, { read: 1, write: 1, exec: 0, priv: 0 }],
    ['user, execute', READ | EXEC, { read: 1, write: 0, exec: 1, priv: 0 }],
    ['supervisor', READ | WRITE | PRIV, { read: 1, write: 1, exec: 0, priv: 1 }],
  ])('with PASID, %s', (_, access, expected) => {
    const t = new Fixture();
    t.guestDevice({ I: 1 });
    expect(t.ask(0x1000, { access, pasid: 5 })).toMatchObject({ pfn: PAGE / 4096, ...expected });
    expect(t.ask(0x1000, { access, pasid: 5 })).toMatchObject({ pfn: PAGE / 4096, ...expected });
  });

  test('a user gets nothing of a supervisor page, and no X of an XD page', () => {
    const t = new Fixture();
    t.guestDevice({ I: 1 });
    t.page(1, { US: 0 });
    t.page(2, { XD: 1 });
    expect(t.ask(0x1000, { pasid: 5 })).toMatchObject({ read: 0, write: 0 });
    expect(t.ask(0x1000, { pasid: 5, access: READ | PRIV })).toMatchObject({ read: 1 });
    expect(t.ask(0x1000, { pasid: 5 })).toMatchObject({ read: 0, write: 0 });
    const exec = { pasid: 5, access: READ | EXEC };
    expect(t.ask(0x2000, exec)).toMatchObject({ read: 1, exec: 0 });
  });

  test('D is set only where W is given', () => {
    const t = hostDevice({ HAD: 3 });
    const leaf = AT.host + 0x1000 + (PAGE / 4096) * 8;
    t.ask(PAGE, { access: READ });
    expect(t.word(leaf) & 0x60).toBe(0x20);
    t.ask(PAGE);
    expect(t.word(leaf) & 0x60).toBe(0x60);
  });

  test('nested: W and the dirty bits need the right of both stages', () => {
    const t = new Fixture();
    t.nestedDevice({ I: 1, HAD: 3 });
    t.hostPage(PAGE / 4096, { IW: 0 });
    expect(t.ask(0x1000, { pasid: 5 })).toMatchObject({ pfn: PAGE / 4096, read: 1, write: 0 });
    expect(t.word(AT.guest + 8) & 0x60).toBe(0x20);
    t.page(2, {});
    expect(t.ask(0x2000, { pasid: 5 })).toMatchObject({ read: 1, write: 1 });
    expect(t.word(AT.guest + 16) & 0x60).toBe(0x60);
    expect(t.word(AT.host + 0x1000 + (PAGE / 4096 + 1) * 8) & 0x60).toBe(0x60);
  });

  test('nested: W is not given where the guest entry cannot be marked dirty', () => {
    const t = new Fixture();
    t.nestedDevice({ I: 1 });
    t.page(1, { A: 1 });
    t.hostPage(AT.guest / 4096, { IW: 0 });
    expect(t.ask(0x1000, { pasid: 5 })).toMatchObject({ pfn: PAGE / 4096, read: 1, write: 0 });
    expect(t.word(AT.guest + 8) & 0x60).toBe(0x20);
    expect(events(t)).toEqual([]);
  });

  test('a large page that meets interrupt addresses is answered in 4 KiB', () => {
    const t = hostDevice({ MODE: 3, HOST_ROOT: AT.host + 0x2000 });
    t.put(AT.host + 0x2000 + 24, [0xc000_0001, 0x6000_0000]);
    expect(t.ask(0xc000_0000)).toMatchObject({ pfn: 0xc0000, sizeLg2: 12, read: 1 });
    expect(t.ask(0xc000_1000, { access: READ })).toMatchObject({ pfn: 0xc0001, sizeLg2: 12 });
  });
});

describe('AMD IOMMU 2.1.4: translated requests', () => {
  const send = (t: Fixture, access: number = READ, rid = RID) =>
    t.unit.translatedPage(rid, -1, 0x1234, access, 0xabc);

  test.each([
    ['V=1 and I=1', {}, READ, 0x1234],
    ['TV=0 does not matter', { TV: 0 }, READ, 0x1234],
    ['IW=0 forbids writes', { IW: 0 }, WRITE, -1],
    ['IW=0 allows reads', { IW: 0 }, READ, 0x1234],
    ['I=0', { I: 0 }, READ, -1],
    ['V=0', { V: 0 }, READ, -1],
    ['a reserved value', { HAD: 2 }, READ, -1],
  ])('%s', (_, values, access, expected) => {
    expect(send(hostDevice(values), access)).toBe(expected);
  });

  test('I=0: INVALID_DEVICE_REQUEST Type 1', () => {
    const t = hostDevice({ I: 0 });
    send(t);
    const code = EVENT.INVALID_DEVICE_REQUEST;
    expect(events(t)).toEqual([
      { code, rid: RID, tag: 0, flags: '', type: 1, address: 0x123_4abc },
    ]);
  });

  test('IW=0: IO_PAGE_FAULT with PR and PE', () => {
    const t = hostDevice({ IW: 0 });
    send(t, WRITE);
    expect(events(t)[0]).toMatchObject({ code: EVENT.IO_PAGE_FAULT, flags: 'PR RW PE' });
  });

  test('IommuEn=0: it passes', () => {
    const t = hostDevice({ I: 0 });
    t.control({ ...ENABLES, IOMMU_EN: 0 });
    expect(send(t)).toBe(0x1234);
  });

  test('without IotlbSup DTE.I is reserved', () => {
    const t = hostDevice({}, new Fixture({ capabilities: { efr: FULL_EFR } }));
    expect(send(t)).toBe(-1);
    expect(events(t)[0]).toMatchObject({ code: EVENT.ILLEGAL_DEV_TABLE_ENTRY });
    expect(t.dma(PAGE)).toBe(-1);
    expect(events(t)[0]).toMatchObject({ code: EVENT.ILLEGAL_DEV_TABLE_ENTRY });
  });
});

describe('AMD IOMMU 2.4.4: INVALIDATE_IOTLB_PAGES', () => {
  test.each([
    ['one page', [RID, 0x4000_0000, 0x7000, 0], [RID, -1, 7, 12]],
    ['64 KiB', [RID, 0x4000_0000, 0x1_7001, 0], [RID, -1, 0x10, 16]],
    ['everything', [RID, 0x4000_0000, 0xffff_f001, 0x7fff_ffff], [RID, -1, 0, 64]],
    ['a PASID of 20 bits', [0xa3_0000 | RID, 0x4245_0000, 0x7004, 0], [RID, 0x2_a345, 7, 12]],
  ])('%s reaches the device', (_, command, expected) => {
    const t = hostDevice();
    t.run(command);
    expect(t.invalidations).toEqual([expected]);
    expect(events(t)).toEqual([]);
  });

  test.each([
    ['a device that does not answer', INVALIDATION_ANSWER.NONE],
    ['an answer to another request', INVALIDATION_ANSWER.UNEXPECTED],
  ])('%s: IOTLB_INV_TIMEOUT, and the buffer stops', (_, answer) => {
    const t = hostDevice();
    t.invalidationAnswer = answer;
    t.run([RID, 0x4000_0000, 0, 0], [0, 0x1000_0000, 0, 0]);
    const address = AT.commands;
    expect(events(t)).toEqual([
      { code: EVENT.IOTLB_INV_TIMEOUT, rid: RID, tag: 0, flags: '', type: 0, address },
    ]);
    expect(t.unit.readReg32(0x2020) & 0x10).toBe(0);
    expect(t.unit.readReg32(0x2000)).toBe(0);
  });

  test.each([0, 7])('InvTimeOut %i waits for ever; CmdBufEn starts again', (code) => {
    const t = hostDevice();
    t.control({ ...ENABLES, INV_TIME_OUT: code });
    t.invalidationAnswer = INVALIDATION_ANSWER.NONE;
    t.run([RID, 0x4000_0000, 0, 0]);
    t.run([0, 0x1000_0000, 0, 0]);
    expect([events(t), t.unit.readReg32(0x2020) & 0x10, t.unit.readReg32(0x2000)]).toEqual([
      [],
      0x10,
      0,
    ]);
    t.invalidationAnswer = INVALIDATION_ANSWER.COMPLETE;
    t.control({ ...ENABLES, CMD_BUF_EN: 0 });
    t.control(ENABLES);
    expect(t.unit.readReg32(0x2000)).toBe(0x20);
  });
});

describe('AMD IOMMU 2.6: page requests', () => {
  const ready = (values = {}) => {
    const t = new Fixture();
    t.guestDevice({ PPR: 1, GPRP: 1, ...values });
    return t;
  };

  test('go to the log, with an interrupt at the first', () => {
    const t = ready();
    t.request({ pasid: 5, write: true });
    t.request({ pasid: 5, priv: true, exec: true, last: false });
    expect(t.takePprs()).toEqual([
      [0x5_0020, 0x1164_0203, 0x1000, 0],
      [0x5_0020, 0x1106_0003, 0x1000, 0],
    ]);
    expect(t.messages).toHaveLength(1);
    expect(t.unit.readReg32(0x2020) & 0xe0).toBe(0xc0);
    expect(t.responses).toEqual([]);
  });

  test.each<[string, Record<string, number>, object]>([
    ['DTE.PPR=0', { PPR: 0 }, {}],
    ['DTE.V=0', { V: 0 }, {}],
    ['a PASID while DTE.GV=0', { GV: 0 }, { pasid: 5 }],
  ])('%s: INVALID_PPR_REQUEST, answered INVALID', (_, values, request) => {
    const t = ready(values);
    t.request(request);
    expect(t.takePprs()).toEqual([]);
    expect(t.responses).toMatchObject([{ rid: RID, prgi: 3, code: 1 }]);
    const [event] = t.takeEvents();
    const tagged = 'pasid' in request;
    expect(event).toEqual([
      tagged ? 0x5_0020 : 0x20,
      (tagged ? 0x9201_0003 : 0x9001_0003) >>> 0,
      0x1000,
      0,
    ]);
  });

  test('only the last request of a group is answered', () => {
    const t = ready({ PPR: 0 });
    t.request({ last: false });
    expect(t.responses).toEqual([]);
    expect(t.takeEvents()).toHaveLength(1);
  });

  test('DTE.GPRP=0: answers carry no PASID', () => {
    const t = ready({ GPRP: 0, GV: 0 });
    t.request({ pasid: 5 });
    expect(t.responses).toEqual([{ rid: RID, pasid: -1, prgi: 3, code: 1 }]);
  });

  test.each([
    ['a DeviceID beyond the table', { rid: 0xffff }, EVENT.INVALID_PPR_REQUEST],
    ['an entry with reserved values', { rid: RID + 1 }, EVENT.ILLEGAL_DEV_TABLE_ENTRY],
  ])('%s', (_, request, code) => {
    const t = ready();
    t.entry({ V: 1, PPR: 1, HAD: 2 }, RID + 1);
    t.request(request);
    expect(events(t)).toEqual([expect.objectContaining({ code })]);
    expect(t.responses).toMatchObject([{ code: 1 }]);
  });

  test('PPREn=0: answered INVALID without an event', () => {
    const t = ready();
    t.control({ ...ENABLES, PPR_EN: 0 });
    t.request();
    expect([t.takePprs(), events(t), t.responses.length]).toEqual([[], [], 1]);
  });

  test('PPRLogEn=0: an event without RX, software answers', () => {
    const t = ready();
    t.control({ ...ENABLES, PPR_LOG_EN: 0 });
    t.request();
    expect(t.responses).toEqual([]);
    expect(t.takeEvents()[0]?.[1]).toBe(0x9000_0003);
    t.run([RID, 0x7000_0000, 0, 0x3]);
    expect(t.responses).toEqual([{ rid: RID, pasid: -1, prgi: 3, code: 0 }]);
  });

  test.each([['IommuEn=0', { IOMMU_EN: 0 }]])('%s: nothing happens', (_, control) => {
    const t = ready();
    t.control({ ...ENABLES, ...control });
    t.request();
    expect([t.takePprs(), t.responses]).toEqual([[], []]);
  });

  const stop = { read: false, pasid: 5 };
  test.each([
    [{}, 1],
    [{ BLK_STOP_MRK_EN: 1 }, 0],
  ])('stop markers with %o: %i entries, no answer', (control, count) => {
    const t = ready();
    t.control({ ...ENABLES, ...control });
    t.request(stop);
    expect(t.takePprs()).toHaveLength(count);
    expect(t.responses).toEqual([]);
  });

  const fill = (t: Fixture, count = 255) => {
    for (let n = 0; n < count; n++) t.request({ last: false });
  };

  test('a full log overflows, stops, and starts again only by the restart sequence', () => {
    const t = ready();
    fill(t);
    expect(t.unit.readReg32(0x2020) & 0xa0).toBe(0x80);
    t.request();
    expect(t.unit.readReg32(0x2020) & 0xa0).toBe(0x20);
    expect(t.responses).toEqual([]);
    t.takePprs();
    t.request();
    expect(t.takePprs()).toEqual([]);
    t.control({ ...ENABLES, PPR_LOG_EN: 0 });
    t.unit.writeReg32(0x2020, 0x20);
    t.control(ENABLES);
    t.request();
    expect(t.takePprs()).toHaveLength(1);
    expect(t.unit.stats().pageRequestsLost).toBe(2);
  });

  test('PprAutoRspEn: while the log takes nothing the unit answers with the register', () => {
    const t = ready();
    t.control({ ...ENABLES, PPR_AUTO_RSP_EN: 1 });
    t.unit.writeReg32(0x2080, 0xf);
    fill(t);
    t.request();
    t.request({ pasid: 5 });
    expect(t.responses).toMatchObject([{ code: 15 }, { code: 15, pasid: 5 }]);
    t.unit.writeReg32(0x2080, 0x1f);
    t.request({ pasid: 5 });
    t.request();
    expect(t.responses).toHaveLength(3);
  });

  test('PprAutoRspAon: every request is answered, none is logged; MaskGn spares PASIDs', () => {
    const t = ready();
    t.control({ ...ENABLES, PPR_AUTO_RSP_AON: 1 });
    t.unit.writeReg32(0x2080, 0x11);
    t.request();
    t.request({ pasid: 5 });
    expect(t.responses).toMatchObject([{ code: 1 }]);
    expect(t.takePprs()).toHaveLength(1);
  });

  test('PprOverflowEarly: a status bit and an interrupt at the threshold', () => {
    const t = ready();
    t.control({ ...ENABLES, PPR_INT_EN: 0 });
    t.unit.writeReg32(0x2088, 0xc000_0000 | 10);
    fill(t, 244);
    expect([t.unit.readReg32(0x2020) & 0x4_0000, t.messages.length]).toEqual([0, 0]);
    fill(t, 1);
    expect([t.unit.readReg32(0x2020) & 0x4_0000, t.messages.length]).toEqual([0x4_0000, 1]);
  });

  test('DualPprLogEn 2: log B takes over when A is full, and A again', () => {
    const t = ready();
    t.control({ ...ENABLES, DUAL_PPR_LOG_EN: 2 });
    fill(t, 256);
    expect(t.unit.readReg32(0x2058)).toBe(16);
    expect(t.unit.readReg32(0x2020) & 0x18a0).toBe(0x10a0);
    t.takePprs();
    t.unit.writeReg32(0x2020, 0x20);
    fill(t, 255);
    expect(t.takePprs()).toHaveLength(1);
    expect(t.unit.readReg32(0x2020) & 0x18a0).toBe(0x880);
    fill(t, 256);
    expect(t.unit.readReg32(0x2020) & 0x18a0).toBe(0x820);
  });

  test('DualPprLogEn 1: log B alone', () => {
    const t = ready();
    t.control({ ...ENABLES, DUAL_PPR_LOG_EN: 1 });
    t.request();
    expect([t.unit.readReg32(0x2038), t.unit.readReg32(0x2058)]).toEqual([0, 16]);
  });
});
