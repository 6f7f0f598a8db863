/** Message-signalled interrupts of devices: writes into FEEx_xxxxh. */
import { describe, expect, test } from 'vitest';
import {
  ATS_STATUS,
  type AtsCompletion,
  createMachine,
  type InterruptMessage,
  type TranslationAgent,
} from '../../src/bus/index.ts';

const MSI = 0xfee0_3000;

/** Delivers to another address, takes, or blocks; a log of what was asked. */
class InterruptAgent implements TranslationAgent {
  readonly asked: number[][] = [];
  readonly translated: number[] = [];
  answer = 1;
  untranslatedOnly = 0;

  translatePage(_rid: number, _pasid: number, iovaPfn: number): number {
    this.translated.push(iovaPfn);
    return -1;
  }

  translationRequest(
    _rid: number,
    _pasid: number,
    _iovaPfn: number,
    _access: number,
    completion: AtsCompletion,
  ): void {
    completion.status = ATS_STATUS.SUCCESS;
    completion.read = 0;
    completion.write = 1;
    completion.pfn = 0;
    completion.untranslatedOnly = this.untranslatedOnly;
  }

  translatedPage(_rid: number, _pasid: number, hpaPfn: number): number {
    return hpaPfn;
  }

  remapInterrupt(
    rid: number,
    address: number,
    data: number,
    bytes: number,
    message: InterruptMessage,
  ): number {
    this.asked.push([rid, address, data, bytes]);
    message.addressLo = MSI;
    message.data = data + 1;
    return this.answer;
  }
}

const setup = () => {
  const machine = createMachine({ ramBytes: 1 << 20, ramBase: 0 });
  const endpoint = machine.addEndpoint({ rid: '00:04.0', pasidBits: 8, ats: true });
  const agent = new InterruptAgent();
  endpoint.agent = agent;
  const delivered: number[] = [];
  for (let i = 0; i < 4; i++) machine.allocMessageAddress((data) => delivered.push(data));
  return { machine, endpoint, agent, delivered };
};

const dword = (value: number) => new Uint8Array(Uint32Array.of(value).buffer, 0, 4);

describe('untranslated writes into FEEx_xxxxh', () => {
  test('go to the unit, and what it delivers goes to its address', () => {
    const { endpoint, agent, delivered } = setup();
    expect(endpoint.dmaWrite(0xfee0_1230, dword(0x8765_4321))).toBe(4);
    expect(agent.asked).toEqual([[0x20, 0xfee0_1230, 0x8765_4321, 4]]);
    expect([delivered, agent.translated]).toEqual([[0x8765_4322], []]);
  });

  test('taken without delivery, and blocked', () => {
    const { endpoint, agent, delivered } = setup();
    agent.answer = 0;
    expect(endpoint.dmaWrite(MSI, dword(1))).toBe(4);
    agent.answer = -0x25;
    expect(endpoint.dmaWrite(MSI, dword(1))).toBe(0);
    expect(delivered).toEqual([]);
  });

  test('the size of the write is told, page by page', () => {
    const { endpoint, agent } = setup();
    endpoint.dmaWrite(0xfee0_1ffc, new Uint8Array(8));
    expect(agent.asked.map(([, address, , bytes]) => [address, bytes])).toEqual([
      [0xfee0_1ffc, 4],
      [0xfee0_2000, 4],
    ]);
  });

  test('writes with PASID, reads, and neighbours of the range are memory', () => {
    const { endpoint, agent } = setup();
    endpoint.dmaWrite(MSI, dword(1), { pasid: 3 });
    endpoint.dmaRead(MSI, new Uint8Array(4));
    endpoint.dmaWrite(0xfedf_fffc, dword(1));
    endpoint.dmaWrite(0xfef0_0000, dword(1));
    expect([agent.asked, agent.translated]).toEqual([[], [0xfee03, 0xfee03, 0xfedff, 0xfef00]]);
  });

  test('are memory where the unit knows no interrupts, or there is no unit', () => {
    const { endpoint, agent } = setup();
    endpoint.agent = { translatePage: (rid, pasid, pfn) => agent.translatePage(rid, pasid, pfn) };
    endpoint.dmaWrite(MSI, dword(1));
    endpoint.agent = undefined;
    expect(endpoint.dmaWrite(MSI, dword(1))).toBe(0);
    expect([agent.asked, agent.translated]).toEqual([[], [0xfee03]]);
  });
});

describe('through the device TLB (PCI Express 10.2.3.3, U)', () => {
  test('a region for untranslated requests only is written so, and never cached', () => {
    const { machine, endpoint, agent, delivered } = setup();
    agent.untranslatedOnly = 1;
    expect(endpoint.atsWrite(MSI, dword(7))).toBe(4);
    expect(endpoint.atsTranslate(MSI, true)).toBe(true);
    expect(endpoint.atsTranslate(MSI, false)).toBe(false);
    expect(endpoint.atsRead(MSI, new Uint8Array(4))).toBe(0);
    expect([delivered, agent.asked.length]).toEqual([[8], 1]);
    expect(machine.memory.read32(0)).toBe(0);
    expect(endpoint.deviceTlb.lookup(-1, 0xfee03)).toBeUndefined();
  });

  test('elsewhere it is translated like any untranslated write', () => {
    const { endpoint, agent } = setup();
    agent.untranslatedOnly = 1;
    expect(endpoint.atsWrite(0x5000, dword(7))).toBe(0);
    expect(agent.translated).toEqual([5]);
    agent.untranslatedOnly = 0;
    expect(endpoint.atsWrite(0x5000, dword(7))).toBe(4);
  });
});
