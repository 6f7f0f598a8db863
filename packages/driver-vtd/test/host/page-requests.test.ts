import type { Endpoint, PageFault, PageRequest, PagingDomain } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import type { VtdIommuUnit } from '../../src/index.ts';
import {
  attach,
  type Bench,
  bench,
  codeOf,
  HWPT,
  map,
  paging,
  reachAts,
  SVA_DEVICE,
  stampedPage,
  unmap,
} from './fixture.ts';

interface Listening extends Bench {
  readonly asked: PageFault[];
  readonly answers: [prgi: number, code: number][];
  readonly domain: PagingDomain;
  send(request: Partial<PageRequest>): void;
}

/** A device whose page requests are taken, with what was asked and answered. */
const listening = (options = {}, take = true): Listening => {
  const at = bench(options, [SVA_DEVICE]);
  const domain = paging(at, HWPT.PASID);
  attach(at, domain);
  const asked: PageFault[] = [];
  at.machine.setPageFaultHandler(at.device, (fault) => {
    asked.push(fault);
    return take;
  });
  at.unit.pri?.enable(at.device);
  const answers: [number, number][] = [];
  at.device.receivePageResponse = (prgi, code) => answers.push([prgi, code]);
  const send = (request: Partial<PageRequest>): void =>
    at.unit.agent.pageRequest?.({
      rid: at.device.rid,
      pasid: -1,
      addressPfn: 0x100,
      read: true,
      write: false,
      exec: false,
      priv: false,
      last: true,
      prgi: 1,
      ...request,
    });
  return { ...at, asked, answers, domain, send };
};

describe('VT-d 7.4 to 7.7: page requests', () => {
  it('hands over whole groups, in order, with permissions and PASID', () => {
    const { asked, send } = listening();
    send({ addressPfn: 1, last: false, prgi: 3 });
    send({ addressPfn: 9, last: true, prgi: 4, write: true, read: false });
    expect(asked.map(({ grpid }) => grpid)).toEqual([4]);
    send({ addressPfn: 2, last: true, prgi: 3, write: true });
    expect(asked).toEqual([
      { pasid: -1, grpid: 4, perm: 2, addressPfn: 9, last: true },
      { pasid: -1, grpid: 3, perm: 1, addressPfn: 1, last: false },
      { pasid: -1, grpid: 3, perm: 3, addressPfn: 2, last: true },
    ]);
  });

  it.each([
    ['success', 0, 0],
    ['invalid', 1, 1],
    ['failure', 2, 15],
  ])('answers %s (uAPI %i) with RC %i', (_name, code, rc) => {
    const { unit, device, answers, send } = listening();
    send({ prgi: 0x1ff });
    unit.pri?.respond(device, -1, 0x1ff, code);
    expect(answers).toEqual([[0x1ff, rc]]);
  });

  it.each([
    ['address not canonical (57 bits)', { addressPfn: 2 ** 44 }],
    ['privileged read', { priv: true, pasid: 5 }],
    ['execute and read', { exec: true, pasid: 5 }],
  ])('answers INVALID by itself, reports nothing: %s', (_name, request) => {
    const at = listening({ capabilities: { ver: 0x60 } });
    attach(at, at.domain, 5);
    at.send(request);
    expect(at.asked).toEqual([]);
    expect(at.answers).toEqual([[1, 1]]);
  });

  it('a malformed member makes the whole group invalid', () => {
    const { asked, answers, send } = listening();
    send({ addressPfn: 2 ** 44, last: false });
    send({ addressPfn: 5, last: true });
    expect(asked).toEqual([]);
    expect(answers).toEqual([[1, 1]]);
    send({ addressPfn: 5, last: true });
    expect(asked).toHaveLength(1);
  });

  it('canonical negative addresses are asked for', () => {
    const { asked, send } = listening();
    send({ addressPfn: 2 ** 52 - 1 });
    expect(asked.map(({ addressPfn }) => addressPfn)).toEqual([2 ** 52 - 1]);
  });

  it('nobody listens: INVALID, once per group', () => {
    const { answers, send, unit, device } = listening({}, false);
    send({ last: false });
    send({ last: true });
    expect(answers).toEqual([[1, 1]]);
    unit.pri?.disable(device);
    send({ prgi: 2 });
    expect(answers).toEqual([
      [1, 1],
      [2, 1],
    ]);
  });

  it('enable and disable count; a device without PRI is refused', () => {
    const { asked, answers, send, unit, device, machine } = listening();
    unit.pri?.enable(device);
    unit.pri?.disable(device);
    send({});
    expect(asked).toHaveLength(1);
    unit.pri?.disable(device);
    unit.pri?.disable(device);
    send({});
    expect(answers).toEqual([[1, 1]]);
    const plain = machine.addEndpoint({ rid: '00:09.0', ats: true });
    unit.probeDevice(plain);
    expect(codeOf(() => unit.pri?.enable(plain))).toBe('ENODEV');
    expect(bench({ scalable: false }).unit.pri).toBeUndefined();
  });

  it('stop markers are dropped without an answer', () => {
    const { asked, answers, send } = listening({ capabilities: { ecap: { SMS: 1 } } });
    send({ read: false, write: false });
    expect([asked, answers]).toEqual([[], []]);
  });

  it('a handler may answer, map and unmap from within', () => {
    const { machine, unit, device, domain } = listening();
    const frame = stampedPage(machine);
    map(domain, 0x200, frame);
    machine.setPageFaultHandler(device, (fault) => {
      map(domain, fault.addressPfn, frame);
      unmap(domain, 0x200);
      unit.pri?.respond(device, fault.pasid, fault.grpid, 0);
      return true;
    });
    const seen: number[] = [];
    device.receivePageResponse = () => {
      seen.push(reachAts(device, 0x100));
      unmap(domain, 0x100);
      seen.push(reachAts(device, 0x100));
    };
    unit.agent.pageRequest?.({
      rid: device.rid,
      pasid: -1,
      addressPfn: 0x100,
      read: true,
      write: true,
      exec: false,
      priv: false,
      last: true,
      prgi: 7,
    });
    expect(seen).toEqual([frame, -1]);
  });

  it('7.9: detaching forgets incomplete groups of that PASID and no others', () => {
    const at = listening();
    const other = paging(at, HWPT.PASID);
    attach(at, other, 5);
    at.send({ addressPfn: 1, last: false, prgi: 3, pasid: 5 });
    at.send({ addressPfn: 2, last: false, prgi: 3 });
    attach(at, at.unit.blocking, 5);
    attach(at, other, 5);
    at.send({ addressPfn: 3, last: true, prgi: 3, pasid: 5 });
    at.send({ addressPfn: 4, last: true, prgi: 3 });
    expect(at.asked.map(({ pasid, addressPfn }) => [pasid, addressPfn])).toEqual([
      [5, 3],
      [-1, 2],
      [-1, 4],
    ]);
  });

  it('a device that never closes its groups does not fill the host', () => {
    const { asked, answers, send } = listening();
    for (let i = 0; i < 5000; i++) send({ addressPfn: i, last: false, prgi: i % 300 });
    for (let group = 0; group < 300; group++) send({ last: true, prgi: group });
    expect(asked.length).toBeLessThanOrEqual(2048 + 300);
    expect(answers.length).toBeGreaterThan(0);
    const before = asked.length;
    send({ prgi: 400 });
    expect(asked).toHaveLength(before + 1);
  });

  it('7.4: the queue overflows, is drained and runs again', () => {
    const { unit, asked, send } = listening();
    const { hardware } = unit as VtdIommuUnit;
    const PECTL = 0xe0;
    hardware.writeReg32(PECTL, 0x8000_0000);
    send({ addressPfn: 1, last: false, prgi: 9 });
    for (let i = 0; i < 3000; i++) send({ prgi: i % 8 });
    expect(hardware.readReg32(0xdc) & 2).toBe(2);
    hardware.writeReg32(PECTL, 0);
    expect(hardware.readReg32(0xdc)).toBe(0);
    expect(asked).toHaveLength(2046);
    asked.length = 0;
    send({ addressPfn: 2, last: true, prgi: 9 });
    expect(asked.map(({ addressPfn }) => addressPfn)).toEqual([2]);
  });
});

describe('page requests of unknown or foreign devices', () => {
  it('are answered INVALID or left to the hardware', () => {
    const { machine, asked, send } = listening();
    const stranger: Endpoint = machine.addEndpoint({ rid: '07:00.0', ats: true, pri: true });
    const codes: number[] = [];
    stranger.receivePageResponse = (_prgi, code) => codes.push(code);
    send({ rid: stranger.rid });
    expect(asked).toEqual([]);
    expect(codes).toEqual([1]);
  });
});
