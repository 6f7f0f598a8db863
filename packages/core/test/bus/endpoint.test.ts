import { describe, expect, test } from 'vitest';
import {
  ACCESS,
  ATS_STATUS,
  type AtsCompletion,
  createMachine,
  type Endpoint,
  INVALIDATION_ANSWER,
  type Machine,
  type PageRequest,
  type TranslationAgent,
} from '../../src/bus/index.ts';

const PAGE = 4096;

/** A table from (pasid, page) to (frame, writable), and a log of what was asked. */
class TableAgent implements TranslationAgent {
  readonly pages = new Map<string, { pfn: number; write: boolean }>();
  readonly pageRequests: PageRequest[] = [];
  translationRequests = 0;

  readonly offsets: number[] = [];

  translatePage(
    _rid: number,
    pasid: number,
    iovaPfn: number,
    access: number,
    offset: number,
  ): number {
    this.offsets.push(offset);
    const page = this.pages.get(`${pasid}/${iovaPfn}`);
    return page && (page.write || (access & ACCESS.WRITE) === 0) ? page.pfn : -1;
  }

  translationRequest(
    _rid: number,
    pasid: number,
    iovaPfn: number,
    _access: number,
    completion: AtsCompletion,
  ): void {
    this.translationRequests++;
    const page = this.pages.get(`${pasid}/${iovaPfn}`);
    completion.status = ATS_STATUS.SUCCESS;
    completion.sizeLg2 = 12;
    completion.pfn = page?.pfn ?? 0;
    completion.read = page ? 1 : 0;
    completion.write = page?.write ? 1 : 0;
  }

  translatedPage(_rid: number, _pasid: number, hpaPfn: number): number {
    return hpaPfn;
  }

  pageRequest(request: PageRequest): void {
    this.pageRequests.push(request);
  }
}

interface Setup {
  machine: Machine;
  endpoint: Endpoint;
  agent: TableAgent;
  /** First RAM frame. */
  frame: number;
}

const setup = (): Setup => {
  const machine = createMachine({ ramBytes: 1 << 20 });
  const endpoint = machine.addEndpoint({
    rid: '00:04.0',
    pasidBits: 8,
    ats: true,
    pri: true,
    deviceTlbEntries: 4,
  });
  const agent = new TableAgent();
  endpoint.agent = agent;
  return { machine, endpoint, agent, frame: 2 ** 32 / PAGE };
};

const bytes = (length: number, first = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, index) => (first + index) & 0xff);

describe('untranslated DMA', () => {
  test('is split at 4 KiB borders, each page translated alone', () => {
    const { machine, endpoint, agent, frame } = setup();
    agent.pages.set('-1/5', { pfn: frame + 9, write: true });
    agent.pages.set('-1/6', { pfn: frame + 3, write: true });
    const data = bytes(0x20);
    expect(endpoint.dmaWrite(0x5ff0, data)).toBe(0x20);
    const low = new Uint8Array(0x10);
    const high = new Uint8Array(0x10);
    machine.memory.copyOut((frame + 9) * PAGE + 0xff0, low);
    machine.memory.copyOut((frame + 3) * PAGE, high);
    expect([...low, ...high]).toEqual([...data]);
    expect(agent.offsets).toEqual([0xff0, 0]);
    const back = new Uint8Array(0x20);
    expect(endpoint.dmaRead(0x5ff0n, back)).toBe(0x20);
    expect(back).toEqual(data);
  });

  test('stops before the first blocked page and says how far it came', () => {
    const { endpoint, agent, frame } = setup();
    agent.pages.set('-1/0', { pfn: frame, write: true });
    agent.pages.set('-1/1', { pfn: frame + 1, write: false });
    expect(endpoint.dmaWrite(0xf00, bytes(0x200))).toBe(0x100);
    expect(endpoint.dmaRead(0xf00, new Uint8Array(0x200))).toBe(0x200);
  });

  test('stops where no memory answers', () => {
    const { endpoint, agent } = setup();
    agent.pages.set('-1/0', { pfn: 7, write: true });
    expect(endpoint.dmaWrite(0, bytes(8))).toBe(0);
  });

  test('takes the top page of a 64-bit address space', () => {
    const { endpoint, agent, frame } = setup();
    agent.pages.set(`-1/${2 ** 52 - 1}`, { pfn: frame, write: true });
    expect(endpoint.dmaWrite(0xffff_ffff_ffff_fff8n, bytes(8))).toBe(8);
  });

  test('carries the PASID; one PASID does not see the pages of another', () => {
    const { endpoint, agent, frame } = setup();
    agent.pages.set('5/0', { pfn: frame, write: true });
    expect(endpoint.dmaWrite(0, bytes(8), { pasid: 5 })).toBe(8);
    expect(endpoint.dmaWrite(0, bytes(8), { pasid: 6 })).toBe(0);
    expect(endpoint.dmaWrite(0, bytes(8))).toBe(0);
  });

  test('refuses a PASID wider than the device has', () => {
    const { endpoint } = setup();
    expect(() => endpoint.dmaWrite(0, bytes(8), { pasid: 256 })).toThrow(/8 bits, 0 to 255/);
  });

  test('passes through where no IOMMU is in charge', () => {
    const { machine } = setup();
    const plain = machine.addEndpoint({ rid: '00:05.0' });
    expect(plain.dmaWrite(2 ** 32 + 0x123, bytes(4))).toBe(4);
    expect(machine.memory.view(2 ** 32 + 0x123, 4)).toEqual(bytes(4));
  });
});

describe('ATS and the device TLB (PCIe 10.3)', () => {
  test('a translation is asked for once and kept until it is invalidated', () => {
    const { machine, endpoint, agent, frame } = setup();
    agent.pages.set('1/0', { pfn: frame, write: true });
    expect(endpoint.atsWrite(0, bytes(8), { pasid: 1 })).toBe(8);
    agent.pages.set('1/0', { pfn: frame + 1, write: true });
    expect(endpoint.atsWrite(0, bytes(8, 50), { pasid: 1 })).toBe(8);
    expect(agent.translationRequests).toBe(1);
    expect(machine.memory.read32((frame + 1) * PAGE)).toBe(0);
    expect(machine.invalidateDeviceTlb(endpoint.rid, 1, 0, 12, false)).toBe(
      INVALIDATION_ANSWER.COMPLETE,
    );
    expect(endpoint.atsWrite(0, bytes(8, 90), { pasid: 1 })).toBe(8);
    expect(machine.memory.view((frame + 1) * PAGE, 8)).toEqual(bytes(8, 90));
  });

  test.each([
    { what: 'another PASID', pasid: 2, pfn: 0, sizeLg2: 12, left: true },
    { what: 'another page', pasid: 1, pfn: 1, sizeLg2: 12, left: true },
    { what: 'a 2 MiB range around it', pasid: 1, pfn: 17, sizeLg2: 21, left: false },
    { what: 'everything', pasid: 1, pfn: 0, sizeLg2: 64, left: false },
    { what: 'no PASID', pasid: -1, pfn: 0, sizeLg2: 12, left: true },
    { what: 'every PASID', pasid: -1, pfn: 0, sizeLg2: 12, global: true, left: false },
    { what: 'every PASID elsewhere', pasid: -1, pfn: 1, sizeLg2: 12, global: true, left: true },
    { what: 'global entries', pasid: 2, pfn: 0, sizeLg2: 12, global: true, left: true },
  ])('an invalidation of $what leaves the entry: $left', (invalidation) => {
    const { pasid, pfn, sizeLg2, global = false, left } = invalidation;
    const { machine, endpoint, agent, frame } = setup();
    agent.pages.set('1/0', { pfn: frame, write: true });
    endpoint.atsTranslate(0, true, { pasid: 1 });
    machine.invalidateDeviceTlb(endpoint.rid, pasid, pfn, sizeLg2, global);
    endpoint.atsTranslate(0, true, { pasid: 1 });
    expect(agent.translationRequests).toBe(left ? 1 : 2);
  });

  test.each([
    { answer: 'COMPLETE', gone: true },
    { answer: 'UNEXPECTED', gone: true },
    { answer: 'NONE', gone: false },
  ] as const)('a device that answers $answer has dropped the entry: $gone', ({ answer, gone }) => {
    const { machine, endpoint, agent, frame } = setup();
    agent.pages.set('1/0', { pfn: frame, write: true });
    endpoint.atsTranslate(0, true, { pasid: 1 });
    endpoint.invalidationAnswer = INVALIDATION_ANSWER[answer];
    expect(machine.invalidateDeviceTlb(endpoint.rid, 1, 0, 12, false)).toBe(
      INVALIDATION_ANSWER[answer],
    );
    endpoint.atsTranslate(0, true, { pasid: 1 });
    expect(agent.translationRequests).toBe(gone ? 2 : 1);
  });

  test('a device without ATS, and an empty slot, do not answer', () => {
    const machine = createMachine({ ramBytes: 1 << 20 });
    const plain = machine.addEndpoint({ rid: '00:05.0' });
    expect(machine.invalidateDeviceTlb(plain.rid, -1, 0, 12, false)).toBe(INVALIDATION_ANSWER.NONE);
    expect(machine.invalidateDeviceTlb(0x1234, -1, 0, 12, false)).toBe(INVALIDATION_ANSWER.NONE);
    const options = { rid: '00:06.0', ats: true, invalidationAnswer: INVALIDATION_ANSWER.NONE };
    const hung = machine.addEndpoint(options);
    expect(machine.invalidateDeviceTlb(hung.rid, -1, 0, 12, false)).toBe(INVALIDATION_ANSWER.NONE);
  });

  test('a page without rights is not cached; a read-only one is asked for again to write', () => {
    const { endpoint, agent, frame } = setup();
    expect(endpoint.atsTranslate(0, false)).toBe(false);
    agent.pages.set('-1/0', { pfn: frame, write: false });
    expect(endpoint.atsTranslate(0, false)).toBe(true);
    expect(endpoint.atsTranslate(0, true)).toBe(false);
    expect(agent.translationRequests).toBe(3);
  });

  test('the oldest entry goes when the TLB is full', () => {
    const { endpoint, agent, frame } = setup();
    for (let page = 0; page < 5; page++) {
      agent.pages.set(`-1/${page}`, { pfn: frame + page, write: true });
      endpoint.atsTranslate(page * PAGE, true);
    }
    endpoint.atsTranslate(4 * PAGE, true);
    expect(agent.translationRequests).toBe(5);
    endpoint.atsTranslate(0, true);
    expect(agent.translationRequests).toBe(6);
  });
});

describe('page requests (PCIe 10.4)', () => {
  test('a group is one index, the last page carries the flag, the response comes back once', () => {
    const { machine, endpoint, agent } = setup();
    const codes: number[] = [];
    endpoint.requestPages(
      [
        { iova: 0x1000, write: false },
        { iova: 0x2000, write: true },
      ],
      { pasid: 3 },
      (code) => codes.push(code),
    );
    expect(agent.pageRequests).toMatchObject([
      { rid: 0x20, pasid: 3, addressPfn: 1, write: false, last: false, prgi: 0 },
      { rid: 0x20, pasid: 3, addressPfn: 2, write: true, last: true, prgi: 0 },
    ]);
    const response = { rid: 0x20, pasid: 3, prgi: 0, code: 1 };
    machine.deliverPageResponse(response);
    machine.deliverPageResponse(response);
    expect(codes).toEqual([1]);
  });

  test('512 groups can be open, the next one is refused', () => {
    const { endpoint } = setup();
    const page = [{ iova: 0, write: false }];
    for (let group = 0; group < 512; group++) endpoint.requestPages(page, {}, () => {});
    expect(() => endpoint.requestPages(page, {}, () => {})).toThrow(/all 512/);
  });
});

describe('machine', () => {
  test.each([
    [{ rid: '00:04.0' }, /belongs to/],
    [{ rid: 0x1_0000 }, /16 bits/],
    [{ rid: '00:06.0', pasidBits: 21 }, /at most 20 bits/],
    [{ rid: '00:06.0', pri: true }, /needs ATS/],
  ])('refuses the device %j', (options, message) => {
    const { machine } = setup();
    expect(() => machine.addEndpoint(options)).toThrow(message);
    expect(machine.endpoints).toHaveLength(1);
  });

  test('devices of one group name share a group, others have their own', () => {
    const { machine, endpoint } = setup();
    const a = machine.addEndpoint({ rid: '01:00.0', group: 'switch' });
    const b = machine.addEndpoint({ rid: '01:00.1', group: 'switch' });
    expect(a.group).toBe(b.group);
    expect(a.group.rids).toEqual([0x100, 0x101]);
    expect(endpoint.group.id).not.toBe(a.group.id);
  });

  test('an interrupt message reaches the handler of its address, others are memory writes', () => {
    const { machine } = setup();
    const seen: number[] = [];
    const address = machine.allocMessageAddress((data) => seen.push(data));
    machine.raiseMessage(address, 0x21);
    machine.raiseMessage(address + 0x1000, 0x22);
    machine.raiseMessage(2 ** 32 + 8, 0x23);
    expect(seen).toEqual([0x21]);
    expect(machine.memory.read32(2 ** 32 + 8)).toBe(0x23);
  });
});
