import { ACCESS } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import { formatExplanation } from '../../src/index.ts';
import { accessOf, boot, data, type VectorRequest } from '../vectors.ts';
import { AT, Fixture, READ, RID, WRITE } from './fixture.ts';

const explainRequest = (request: VectorRequest) => ({
  rid: Number(request.device_id),
  pasid: request.pasid === null ? -1 : Number(request.pasid),
  iova: BigInt(request.address),
  access: accessOf(request),
  kind: request.kind,
});

describe('explain', () => {
  for (const vector of data.translation) {
    test(`${vector.name}: reads what the worked example reads, and changes nothing`, () => {
      for (const { request, expect: expected, reads } of vector.cases) {
        const { unit, memory } = boot(vector);
        const before = unit.snapshot();
        const words = reads.map(([address]) => memory.load(Number(address)));
        const trace = unit.explain(explainRequest(request));
        const touched: string[] = [];
        for (const step of trace.steps) {
          if (step.kind !== 'read') continue;
          for (let at = 0; at < step.words.length * 4; at += 8) {
            touched.push(`0x${(step.address + at).toString(16)}`);
          }
        }
        // The examples of translation requests list no reads.
        if (reads.length > 0) expect(touched).toEqual(reads.map(([address]) => address));
        expect(reads.map(([address]) => memory.load(Number(address)))).toEqual(words);
        expect(unit.snapshot()).toEqual(before);
        expect(unit.readReg32(0x2018)).toBe(0);
        if (expected.fault || expected.spa === undefined) expect(trace.pfn).toBeUndefined();
        else if (request.kind !== 'translation') {
          expect(trace.pfn).toBe(Number(BigInt(expected.spa) >> 12n));
        }
        const qwords = expected.event?.qwords.flatMap((qword) => [
          Number(BigInt(qword) & 0xffff_ffffn),
          Number(BigInt(qword) >> 32n),
        ]);
        expect(trace.event).toEqual(qwords);
      }
    });
  }

  test('says what caches answer, and can leave them out', () => {
    const t = new Fixture();
    t.guestDevice();
    t.dma(0x1abc, { pasid: 5 });
    t.page(1, { P: 0 });
    const request = { rid: RID, pasid: 5, iova: 0x1abc };
    const cached = t.unit.explain(request);
    expect(cached.steps).toEqual([
      { kind: 'cache', name: 'device table cache', hit: true, detail: 'DeviceID 0x20' },
      { kind: 'cache', name: 'IOTLB', hit: true, detail: 'page 0x1000' },
    ]);
    expect(cached.verdict).toBe(
      `untranslated request goes to 0x${(AT.data + 0x1000).toString(16)}`,
    );
    const fresh = t.unit.explain({ ...request, cached: false });
    expect(fresh).toMatchObject({ pfn: undefined, code: 2, codeName: 'IO_PAGE_FAULT' });
    expect(fresh.verdict).toBe(
      'untranslated request refused: IO_PAGE_FAULT (GN): the request has no translation, or not the right',
    );
    expect(t.takeEvents()).toEqual([]);
  });

  test('a cached device table entry and CR3 are named', () => {
    const t = new Fixture();
    t.guestDevice();
    t.dma(0x1abc, { pasid: 5 });
    const { steps } = t.unit.explain({ rid: RID, pasid: 5, iova: 0x2000 });
    expect(steps.filter(({ kind }) => kind === 'cache')).toMatchObject([
      { name: 'device table cache', hit: true },
      { name: 'IOTLB', hit: false },
      { name: 'guest CR3 cache', hit: true, detail: 'DomainID 7 PASID 0x5' },
    ]);
    expect(steps.filter((step) => step.kind === 'read').map((step) => step.structure)).toEqual([
      'GUEST_PML',
      'GUEST_TABLE',
      'GUEST_TABLE',
      'GUEST_PTE',
    ]);
  });

  test('lists the accessed and dirty bits that the request would set', () => {
    const t = new Fixture();
    t.guestDevice();
    const { steps } = t.unit.explain({ rid: RID, pasid: 5, iova: 0x1000, access: WRITE });
    expect(steps.filter(({ kind }) => kind === 'update')).toEqual([
      { kind: 'update', address: AT.guest + 0x3000, bits: 0x20 },
      { kind: 'update', address: AT.guest + 0x2000, bits: 0x20 },
      { kind: 'update', address: AT.guest + 0x1000, bits: 0x20 },
      { kind: 'update', address: AT.guest + 8, bits: 0x60 },
    ]);
    expect(t.word(AT.guest + 8) & 0x60).toBe(0);
  });

  test('SE is not used up by explaining', () => {
    const t = new Fixture();
    t.hostTables();
    t.hostPage(1, { PR: 0 });
    t.entry({ V: 1, TV: 1, IR: 1, SE: 1, MODE: 2, HOST_ROOT: AT.host });
    const request = { rid: RID, iova: 0x1000 };
    // The entry is cached by a request that succeeds.
    expect(t.dma(0x2000)).toBe(0x2000);
    t.unit.explain(request);
    t.dma(0x1000);
    t.dma(0x1000);
    expect(t.takeEvents()).toHaveLength(1);
    expect(t.unit.explain(request)).toMatchObject({
      code: 0,
      verdict: 'untranslated request refused without an event',
    });
  });

  test.each<[string, Record<string, number>, object, string]>([
    ['page-request', { PPR: 1 }, {}, 'page request goes to the PPR log'],
    [
      'page-request',
      {},
      {},
      'page-request request refused: INVALID_PPR_REQUEST: a page request that the device must not make',
    ],
    [
      'translation',
      {},
      {},
      'translation request refused: INVALID_DEVICE_REQUEST (TR): a request that the device must not make',
    ],
    ['translation', { I: 1, TV: 0 }, {}, 'translation request answered without rights, no event'],
    ['translation', { I: 1 }, {}, 'translation request goes to 0x1000'],
    ['translated', { I: 1 }, { access: ACCESS.WRITE }, 'translated request goes to 0x1000'],
  ])('%s with %o', (kind, values, more, verdict) => {
    const t = new Fixture();
    t.entry({ V: 1, TV: 1, IR: 1, IW: 1, ...values });
    const request = { rid: RID, iova: 0x1000, kind: kind as 'translation', ...more };
    expect(t.unit.explain(request).verdict).toBe(verdict);
    expect([t.takePprs(), t.takeEvents(), t.responses]).toEqual([[], [], []]);
    expect(t.unit.stats()).toMatchObject({ pageRequests: 0, translationRequests: 0, refused: 0 });
  });

  test('as text', () => {
    const t = new Fixture();
    t.entry({ V: 1, TV: 1, IR: 1, MODE: 1, HOST_ROOT: AT.outside, DOMAIN_ID: 7 });
    const text = formatExplanation(t.unit.explain({ rid: RID, iova: 0x1000, access: READ }));
    expect(text).toContain('device table cache: miss DeviceID 0x20');
    expect(text).toContain('0x100400: device table entry DTE 40000203 20000000 00000007');
    expect(text).toContain('    MODE [11:9] = 0x1  levels of the host table; 0 = none');
    expect(text).toContain('0x40000008: nothing answers (HOST_PTE)');
    expect(text).toContain('refused: PAGE_TAB_HARDWARE_ERROR');
  });
});
