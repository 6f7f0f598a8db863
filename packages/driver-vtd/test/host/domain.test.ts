import { PROT } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import type { VtdIommuUnit } from '../../src/index.ts';
import { attach, bench, HWPT, map, paging, reach, stampedPage, unmap, writes } from './fixture.ts';

const GIB1 = 2 ** 18;
const STAGES: [string, object][] = [
  ['first stage', { firstStageByDefault: true }],
  ['second stage', { firstStageByDefault: false }],
  ['legacy mode', { scalable: false }],
];

describe.each(STAGES)('%s domain', (_name, options) => {
  const set = () => {
    const at = bench(options);
    return { at, domain: paging(at) };
  };

  it('maps runs, translates, reads them back without the holes', () => {
    const { domain } = set();
    const runs = Float64Array.of(0x500, 3, 0x900, 2, 0x902, 1);
    expect(domain.mapRuns(0x10, runs, 3, 3)).toBe(0);
    expect(map(domain, 0x20, 0x503)).toBe(0);
    expect([0x10, 0x12, 0x13, 0x15, 0x16, 0x20].map((f) => domain.iovaToFrame(f))).toEqual([
      0x500, 0x502, 0x900, 0x902, -1, 0x503,
    ]);
    const out = new Float64Array(12);
    expect(domain.readRuns(0x10, 0x11, out)).toBe(3);
    expect([...out.subarray(0, 6)]).toEqual([0x500, 3, 0x900, 3, 0x503, 1]);
    expect(domain.readRuns(0x10, 0x11, new Float64Array(2))).toBe(-7);
    expect(domain.readRuns(0x1000, 5, out)).toBe(0);
  });

  it('refuses with nothing changed: no rights, taken, beyond aperture or memory width', () => {
    const { at, domain } = set();
    const last = domain.apertureLastFrame;
    expect(map(domain, 0x10, 1, 1, 0)).toBe(-22);
    expect(map(domain, 0x12, 1)).toBe(0);
    expect(map(domain, 0x10, 1, 4)).toBe(-98);
    expect(domain.iovaToFrame(0x10)).toBe(-1);
    expect(map(domain, last, 1)).toBe(0);
    expect(map(domain, last, 1, 2)).toBe(-34);
    expect(map(domain, last + 1, 1)).toBe(-34);
    expect(map(domain, 0x40, 2 ** (at.unit.caps.oaBits - 12))).toBe(-34);
    expect(domain.iovaToFrame(last + 1)).toBe(-1);
    expect(domain.unmap(0x100, 50)).toBe(0);
  });

  it('rights: what is not granted is refused', () => {
    const { at, domain } = set();
    attach(at, domain);
    const frame = stampedPage(at.machine);
    map(domain, 1, frame, 1, PROT.READ);
    map(domain, 2, frame, 1, PROT.READ | PROT.WRITE | PROT.PRIV | PROT.CACHE | PROT.NOEXEC);
    expect([reach(at.device, 1), writes(at.device, 1)]).toEqual([frame, false]);
    expect([reach(at.device, 2), writes(at.device, 2)]).toEqual([frame, true]);
  });

  it('the last page of the aperture works', () => {
    const { at, domain } = set();
    attach(at, domain);
    const frame = stampedPage(at.machine);
    map(domain, domain.apertureLastFrame, frame);
    expect(reach(at.device, domain.apertureLastFrame)).toBe(frame);
    expect(reach(at.device, domain.apertureLastFrame + 1)).toBe(-1);
  });

  it('large pages: 2 MiB and 1 GiB, cut at unmap as a whole, out of all caches', () => {
    const { at, domain } = set();
    attach(at, domain);
    expect(map(domain, GIB1, GIB1 * 4, GIB1 + 512)).toBe(0);
    const hardware = (at.unit as VtdIommuUnit).hardware;
    const at1 = (frame: number) => hardware.translatePage(at.device.rid, -1, frame, 1);
    expect([at1(GIB1), at1(2 * GIB1 - 1), at1(2 * GIB1 + 511)]).toEqual([
      GIB1 * 4,
      GIB1 * 5 - 1,
      GIB1 * 5 + 511,
    ]);
    expect(domain.unmap(2 * GIB1, 3)).toBe(512);
    domain.sync();
    expect(at1(2 * GIB1 + 511)).toBeLessThan(0);
    expect(domain.unmap(GIB1 - 5, 10)).toBe(GIB1);
    domain.sync();
    expect([at1(GIB1), at1(2 * GIB1 - 1)].every((frame) => frame < 0)).toBe(true);
  });

  it('a hole before a large leaf does not hide its far end from the invalidation', () => {
    const { at, domain } = set();
    attach(at, domain);
    map(domain, 512, 4096, 512);
    const hardware = (at.unit as VtdIommuUnit).hardware;
    const at1 = (frame: number) => hardware.translatePage(at.device.rid, -1, frame, 1);
    for (let frame = 512; frame < 1024; frame += 50) at1(frame);
    expect(domain.unmap(256, 512)).toBe(512);
    domain.sync();
    for (let frame = 512; frame < 1024; frame += 50) expect(at1(frame)).toBeLessThan(0);
  });

  it('small pages only, when asked', () => {
    const at = bench(options);
    const domain = at.unit.allocPaging(at.device, { flags: 0, smallPagesOnly: true });
    expect(domain.pageSizesLg2).toEqual([12]);
    map(domain, 0, 4096, 1024);
    expect(domain.unmap(5, 1)).toBe(1);
    expect(domain.iovaToFrame(6)).toBe(4102);
  });

  it('many scattered unmaps before one sync are all flushed', () => {
    const { at, domain } = set();
    attach(at, domain);
    const frame = stampedPage(at.machine);
    const places = Array.from({ length: 60 }, (_, i) => 0x100 + i * 3);
    for (const place of places) map(domain, place, frame);
    for (const place of places) expect(reach(at.device, place)).toBe(frame);
    for (const place of places) domain.unmap(place, 1);
    domain.sync();
    for (const place of places) expect(reach(at.device, place)).toBe(-1);
  });

  it('nobody is told of changes once the last device has left', () => {
    const { at, domain } = set();
    const { hardware } = at.unit as VtdIommuUnit;
    attach(at, domain);
    map(domain, 1, 1);
    attach(at, at.unit.blocking);
    const before = hardware.stats().descriptors;
    unmap(domain, 1);
    expect(hardware.stats().descriptors).toBe(before);
    attach(at, domain);
    map(domain, 1, 1);
    const attached = hardware.stats().descriptors;
    unmap(domain, 1);
    expect(hardware.stats().descriptors).toBe(attached + 2);
  });

  it('tables of unmapped ranges are used again after the sync', () => {
    const { at, domain } = set();
    attach(at, domain);
    const bytes = () => at.machine.memory.regionAt(2 ** 45)?.size;
    const before = bytes();
    for (let round = 0; round < 1200; round++) {
      expect(map(domain, round * GIB1 + 5, 1)).toBe(0);
      unmap(domain, round * GIB1, GIB1);
    }
    expect([bytes(), at.machine.memory.regionAt(2 ** 45 + 2 ** 21)]).toEqual([before, undefined]);
  });

  it('memory of freed domains is used again', () => {
    const at = bench(options);
    const bytes = () => at.machine.memory.regionAt(2 ** 45)?.size;
    const fill = () => {
      const domain = paging(at);
      for (let i = 0; i < 40; i++) map(domain, i * 513, 1);
      unmap(domain, 0, 20_000);
      domain.free();
    };
    fill();
    const before = bytes();
    for (let i = 0; i < 100; i++) fill();
    expect(bytes()).toBe(before);
  });
});

describe('table memory', () => {
  it('grows: hardware walks tables in every part of it', () => {
    const at = bench({ firstStageByDefault: false });
    const domain = paging(at);
    attach(at, domain);
    const frame = stampedPage(at.machine);
    const places = Array.from({ length: 1500 }, (_, i) => i * GIB1 + 7);
    for (const place of places) expect(map(domain, place, frame)).toBe(0);
    for (const place of places) expect(reach(at.device, place)).toBe(frame);
    const parts = new Set(
      [0, 2, 5].map((mib) => at.machine.memory.regionAt(2 ** 45 + mib * 2 ** 20)?.name),
    );
    expect(parts.size).toBeGreaterThan(1);
  });
});

describe('forced snooping', () => {
  it('second stage: before mappings and attachments only; leaves carry SNP', () => {
    const at = bench();
    const domain = paging(at, HWPT.NEST_PARENT);
    expect(domain.enforceCacheCoherency?.()).toBe(true);
    const frame = stampedPage(at.machine);
    map(domain, 1, frame);
    attach(at, domain);
    expect(reach(at.device, 1)).toBe(frame);
    expect(domain.enforcesCacheCoherency).toBe(true);
    const busy = paging(at, HWPT.NEST_PARENT);
    map(busy, 1, frame);
    expect(busy.enforceCacheCoherency?.()).toBe(false);
  });

  it('second stage in legacy mode: not once a device walks it', () => {
    const at = bench({ scalable: false });
    const domain = paging(at);
    expect(paging(at).enforceCacheCoherency?.()).toBe(true);
    attach(at, domain);
    expect(domain.enforceCacheCoherency?.()).toBe(false);
  });

  it('needs snoop control', () => {
    const at = bench({ capabilities: { ecap: { SC: 0 } } });
    expect(at.unit.caps.enforcesCacheCoherency).toBe(false);
    expect(paging(at).enforceCacheCoherency?.()).toBe(false);
  });
});
