/** Guest tables of the host, with and without PASID, by DMA. */
import type { PagingDomain } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import { Invalidate } from '../../src/host/invalidate.ts';
import {
  attach,
  type Bench,
  bench,
  codeOf,
  FULL,
  HWPT,
  map,
  paging,
  reach,
  reachAts,
  SVA_DEVICE,
  stampedPage,
  unmap,
  writes,
} from './fixture.ts';

const IOVA = 0x1_2345;

const full = (devices = [SVA_DEVICE]): Bench => bench(FULL, devices);

/** A guest table with one page of its own at `IOVA`. */
const space = (at: Bench) => {
  const domain = paging(at, HWPT.PASID);
  const frame = stampedPage(at.machine);
  expect(map(domain, IOVA, frame)).toBe(0);
  return { domain, frame };
};

describe('AMD IOMMU 2.2.6: guest tables of the host', () => {
  it('requests without PASID go through GCR3 entry 0', () => {
    const at = full();
    const { domain, frame } = space(at);
    attach(at, domain);
    expect([reach(at.device, IOVA), reachAts(at.device, IOVA)]).toEqual([frame, frame]);
    expect(reach(at.device, IOVA + 1)).toBe(-1);
    unmap(domain, IOVA);
    expect([reach(at.device, IOVA), reachAts(at.device, IOVA)]).toEqual([-1, -1]);
  });

  it('each PASID has its own table; an unattached one has none', () => {
    const at = full();
    const [rid, a, b] = [space(at), space(at), space(at)];
    attach(at, rid.domain);
    attach(at, a.domain, 5);
    attach(at, b.domain, 0xf_fffe);
    const seen = [undefined, 5, 0xf_fffe, 6, 0x205].map((pasid) => reach(at.device, IOVA, pasid));
    expect(seen).toEqual([rid.frame, a.frame, b.frame, -1, -1]);
    const kept = [undefined, 5, 0xf_fffe].map((pasid) => reachAts(at.device, IOVA, pasid));
    expect(kept).toEqual([rid.frame, a.frame, b.frame]);
    attach(at, at.unit.blocking, 5);
    expect([reach(at.device, IOVA, 5), reachAts(at.device, IOVA, 5)]).toEqual([-1, -1]);
    expect(reach(at.device, IOVA, 0xf_fffe)).toBe(b.frame);
  });

  it('replacing: one table in place of another, at once', () => {
    const at = full();
    const [rid, a, b] = [space(at), space(at), space(at)];
    attach(at, rid.domain);
    for (const { domain, frame } of [a, b, a]) {
      attach(at, domain, 5);
      expect([reach(at.device, IOVA, 5), reachAts(at.device, IOVA, 5)]).toEqual([frame, frame]);
    }
    for (const { domain, frame } of [a, b, rid]) {
      attach(at, domain);
      expect([reach(at.device, IOVA), reachAts(at.device, IOVA)]).toEqual([frame, frame]);
    }
    expect(reach(at.device, IOVA, 5)).toBe(a.frame);
  });

  it('identity beside PASIDs: GIoV=0; PASIDs outlive the change to a guest table and back', () => {
    const at = full();
    const [rid, a] = [space(at), space(at)];
    attach(at, at.unit.identity);
    attach(at, a.domain, 5);
    const state = () => [
      reach(at.device, rid.frame),
      reach(at.device, IOVA),
      reach(at.device, IOVA, 5),
    ];
    expect(state()).toEqual([rid.frame, -1, a.frame]);
    attach(at, rid.domain);
    expect(state()).toEqual([-1, rid.frame, a.frame]);
    attach(at, at.unit.identity);
    expect(state()).toEqual([rid.frame, -1, a.frame]);
    expect(reach(at.device, IOVA, 0)).toBe(-1);
  });

  it('requests without PASID are blocked, PASIDs go on', () => {
    const at = full();
    const [rid, a] = [space(at), space(at)];
    for (const first of [rid.domain, at.unit.identity]) {
      attach(at, first);
      attach(at, a.domain, 5);
      reach(at.device, IOVA);
      attach(at, at.unit.blocking);
      expect([reach(at.device, IOVA), reach(at.device, rid.frame)]).toEqual([-1, -1]);
      expect(reachAts(at.device, IOVA)).toBe(-1);
      expect(reach(at.device, IOVA, 5)).toBe(a.frame);
      attach(at, at.unit.blocking, 5);
      expect(reach(at.device, IOVA, 5)).toBe(-1);
    }
  });

  it.each([
    ['blocked', 'EINVAL', (at: Bench) => attach(at, at.unit.blocking)],
    ['a host table', 'EINVAL', (at: Bench) => attach(at, paging(at))],
    ['identity', 'no error', (at: Bench) => attach(at, at.unit.identity)],
    ['a guest table', 'no error', (at: Bench) => attach(at, space(at).domain)],
  ])('a PASID while requests without are through %s: %s', (_, code, first) => {
    const at = full();
    first(at);
    expect(codeOf(() => attach(at, space(at).domain, 5))).toBe(code);
  });

  it.each([
    ['PASID 0', 0, 'EINVAL'],
    ['a PASID beyond the device', 2 ** 16, 'EINVAL'],
    ['the largest PASID', 2 ** 16 - 1, 'no error'],
  ])('%s: %s', (_, pasid, code) => {
    const at = full([{ ...SVA_DEVICE, pasidBits: 16 }]);
    attach(at, at.unit.identity);
    expect(codeOf(() => attach(at, space(at).domain, pasid))).toBe(code);
  });

  it('what cannot stand behind a PASID: EOPNOTSUPP; a device without PASIDs: EOPNOTSUPP', () => {
    const at = full([SVA_DEVICE, { rid: '00:06.0' }]);
    attach(at, at.unit.identity);
    expect(codeOf(() => attach(at, paging(at), 5))).toBe('EOPNOTSUPP');
    expect(codeOf(() => attach(at, at.unit.identity, 5))).toBe('EOPNOTSUPP');
    const plain = at.devices[1];
    expect(codeOf(() => attach(at, space(at).domain, 5, plain))).toBe('EOPNOTSUPP');
  });

  it('a host table while PASIDs are attached: EBUSY, and they go on', () => {
    const at = full();
    const a = space(at);
    attach(at, at.unit.identity);
    attach(at, a.domain, 5);
    expect(codeOf(() => attach(at, paging(at)))).toBe('EBUSY');
    expect(reach(at.device, IOVA, 5)).toBe(a.frame);
    attach(at, at.unit.blocking, 5);
    expect(codeOf(() => attach(at, paging(at)))).toBe('no error');
  });

  it('one table behind many PASIDs and devices: an unmap reaches all', () => {
    const at = full([SVA_DEVICE, { ...SVA_DEVICE, rid: '00:06.0' }]);
    const { domain, frame } = space(at);
    const uses = at.devices.flatMap((device) =>
      [undefined, 1, 600].map((pasid) => [device, pasid] as const),
    );
    for (const [device, pasid] of uses) attach(at, domain, pasid ?? -1, device);
    const seen = () =>
      uses.map(([device, pasid]) => [reach(device, IOVA, pasid), reachAts(device, IOVA, pasid)]);
    expect(seen()).toEqual(uses.map(() => [frame, frame]));
    unmap(domain, IOVA);
    expect(seen()).toEqual(uses.map(() => [-1, -1]));
  });

  it('the aperture is the half that signed and unsigned addresses share', () => {
    const at = full();
    const { domain } = space(at);
    expect(domain.apertureLastFrame).toBe(2 ** 44 - 1);
    attach(at, domain);
    const frame = stampedPage(at.machine);
    expect(map(domain, 2 ** 44 - 1, frame)).toBe(0);
    expect(reach(at.device, 2 ** 44 - 1)).toBe(frame);
    expect(map(domain, 2 ** 44, frame)).toBe(-34);
    expect(domain.pageSizesLg2).toEqual([12, 21, 30]);
  });

  it('read-only pages refuse writes; large pages go whole', () => {
    const at = full();
    const { domain } = space(at);
    attach(at, domain, -1);
    map(domain, 7, stampedPage(at.machine), 1, 1);
    expect([writes(at.device, 7), writes(at.device, IOVA)]).toEqual([false, true]);
    const frame = stampedPage(at.machine, 512);
    map(domain, 512, frame, 512);
    expect(reach(at.device, 700)).toBe(frame + 188);
    expect(unmap(domain, 512, 1)).toBe(512);
    expect(reach(at.device, 700)).toBe(-1);
  });

  it('DomainIDs and GCR3 tables come back', () => {
    const at = full();
    const { freePageCount } = at.machine.memory;
    for (let round = 0; round < 3; round++) {
      const a = paging(at, HWPT.PASID);
      attach(at, at.unit.identity);
      for (const pasid of [1, 600, 0xf_0000]) attach(at, a, pasid);
      for (const pasid of [1, 600, 0xf_0000]) attach(at, at.unit.blocking, pasid);
      attach(at, at.unit.blocking);
      a.free();
    }
    expect(at.machine.memory.freePageCount).toBe(freePageCount);
  });

  it('a unit that stops answering: the new state stands, nothing of the old one is held', () => {
    const at = full();
    const [a, b] = [space(at), space(at)];
    attach(at, at.unit.identity);
    attach(at, a.domain, 5);
    const { submit } = Invalidate.prototype;
    for (const act of [() => attach(at, b.domain, 5), () => attach(at, b.domain)]) {
      Invalidate.prototype.submit = () => {
        throw Object.assign(new Error('stopped'), { code: 'EIO' });
      };
      try {
        expect(codeOf(act)).toBe('EIO');
      } finally {
        Invalidate.prototype.submit = submit;
      }
    }
    const held = (domain: PagingDomain) =>
      (domain as unknown as { attachments: Set<unknown> }).attachments.size;
    expect([held(a.domain), held(b.domain)]).toEqual([0, 2]);
    attach(at, at.unit.blocking, 5);
    attach(at, at.unit.blocking);
    expect([held(b.domain), reach(at.device, IOVA), reach(at.device, IOVA, 5)]).toEqual([
      0, -1, -1,
    ]);
  });

  it('guestTablesByDefault: domains without flags too', () => {
    const at = bench({ ...FULL, guestTablesByDefault: true }, [SVA_DEVICE]);
    expect(at.unit.caps.iovaBits).toBe(56);
    expect(paging(at).pageSizesLg2).toEqual([12, 21, 30]);
    expect(paging(at, HWPT.DIRTY_TRACKING).pageSizesLg2).toContain(13);
  });

  it('a unit without host tables (HATS 3) has guest tables alone', () => {
    const efr = (FULL.capabilities?.efr ?? 0n) | (3n << 10n);
    const at = bench({ capabilities: { ...FULL.capabilities, efr } }, [SVA_DEVICE]);
    const domain = paging(at);
    attach(at, domain);
    const frame = stampedPage(at.machine);
    map(domain, IOVA, frame);
    expect(reach(at.device, IOVA)).toBe(frame);
    expect(codeOf(() => paging(at, HWPT.DIRTY_TRACKING))).toBe('EOPNOTSUPP');
    expect(codeOf(() => paging(at, HWPT.NEST_PARENT))).toBe('EOPNOTSUPP');
  });
});
