import { decode } from '@iommukit/bits';
import {
  createMachine,
  type Endpoint,
  type PagingDomain,
  PROT,
  type UnrecoverableFault,
} from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import { AmdviIommuUnit, amdvi, DTE } from '../src/index.ts';

const RW = PROT.READ | PROT.WRITE;
const IOVA = 0x1000;
const REQUEST = { flags: 0 } as const;

const setUp = (options: Parameters<typeof amdvi>[0] = {}) => {
  const machine = createMachine();
  const device = machine.addEndpoint({ rid: '00:04.0' });
  const other = machine.addEndpoint({ rid: '00:05.0' });
  const unit = machine.addUnit(amdvi(options));
  if (!(unit instanceof AmdviIommuUnit)) throw new Error('not an AMD unit');
  const faults: UnrecoverableFault[] = [];
  machine.onFault((fault) => faults.push(fault));
  const frame = machine.memory.allocPages(4) / 4096;
  const paging = (): PagingDomain => unit.allocPaging(device, REQUEST);
  return { machine, device, other, unit, faults, frame, paging };
};

const map = (domain: PagingDomain, iova: number, frame: number, count = 1, prot = RW): number =>
  domain.mapRuns(iova, Float64Array.of(frame, count), 1, prot);

const writes = (device: Endpoint, iova: number | bigint): boolean =>
  device.dmaWrite(iova, Uint8Array.of(1, 2, 3, 4)) === 4;

describe('AMD-Vi through the bus', () => {
  test('a device starts blocked, and the event says who and where', () => {
    const { device, faults } = setUp();
    expect(writes(device, 0x12345678)).toBe(false);
    expect(faults).toHaveLength(1);
    expect(faults[0]).toMatchObject({
      rid: 0x20,
      pasid: -1,
      addressPfn: 0x12345,
      reason: 2,
      name: expect.stringMatching(/^IO_PAGE_FAULT: /),
    });
  });

  test('identity lets DMA through unchanged', () => {
    const { machine, device, unit, frame } = setUp();
    unit.attach(device, -1, unit.identity);
    expect(writes(device, frame * 4096)).toBe(true);
    expect(machine.memory.read32(frame * 4096)).toBe(0x04030201);
  });

  test('map, DMA, unmap: stale until sync sends INVALIDATE_IOMMU_PAGES', () => {
    const { machine, device, unit, faults, frame, paging } = setUp();
    const domain = paging();
    unit.attach(device, -1, domain);
    expect(map(domain, IOVA, frame)).toBe(0);
    expect(map(domain, IOVA + 1, frame + 3)).toBe(0);
    expect(writes(device, IOVA * 4096)).toBe(true);
    expect(machine.memory.read32(frame * 4096)).toBe(0x04030201);
    expect(domain.unmap(IOVA, 2)).toBe(2);
    expect(writes(device, IOVA * 4096)).toBe(true);
    expect(writes(device, (IOVA + 1) * 4096)).toBe(false);
    domain.sync();
    expect(writes(device, IOVA * 4096)).toBe(false);
    expect(faults.map(({ addressPfn }) => addressPfn)).toEqual([IOVA + 1, IOVA]);
  });

  test('a write to a read-only page is refused with PR and RW', () => {
    const { device, unit, faults, frame, paging } = setUp();
    const domain = paging();
    unit.attach(device, -1, domain);
    map(domain, IOVA, frame, 1, PROT.READ);
    expect(device.dmaRead(IOVA * 4096, new Uint8Array(4))).toBe(4);
    expect(writes(device, IOVA * 4096)).toBe(false);
    expect(faults[0]).toMatchObject({ write: true, fields: { PR: 1, PE: 1, RW: 1, DOMAIN_ID: 2 } });
  });

  test('attaching blocking stops DMA at once, cached translations or not', () => {
    const { device, unit, frame, paging } = setUp();
    const domain = paging();
    unit.attach(device, -1, domain);
    map(domain, IOVA, frame);
    expect(writes(device, IOVA * 4096)).toBe(true);
    unit.attach(device, -1, unit.blocking);
    expect(writes(device, IOVA * 4096)).toBe(false);
  });

  test('a DomainID is used again only when nothing is cached under it', () => {
    const { device, unit, frame, paging } = setUp();
    const first = paging();
    unit.attach(device, -1, first);
    map(first, IOVA, frame);
    expect(writes(device, IOVA * 4096)).toBe(true);
    unit.attach(device, -1, unit.blocking);
    const second = paging();
    unit.attach(device, -1, second);
    expect(writes(device, IOVA * 4096)).toBe(false);
  });

  test('two devices share a domain; detaching one leaves the other', () => {
    const { device, other, unit, frame, paging } = setUp();
    const domain = paging();
    unit.attach(device, -1, domain);
    unit.attach(other, -1, domain);
    map(domain, IOVA, frame);
    unit.attach(device, -1, unit.blocking);
    expect([writes(device, IOVA * 4096), writes(other, IOVA * 4096)]).toEqual([false, true]);
    expect(domain.unmap(IOVA, 1)).toBe(1);
    domain.sync();
    expect(writes(other, IOVA * 4096)).toBe(false);
  });

  test('the table grows: the device table entry follows', () => {
    const { device, unit, frame, paging } = setUp();
    const domain = paging();
    unit.attach(device, -1, domain);
    map(domain, IOVA, frame);
    expect(writes(device, IOVA * 4096)).toBe(true);
    const high = 2 ** 40;
    expect(map(domain, high, frame + 1)).toBe(0);
    expect(writes(device, BigInt(high) << 12n)).toBe(true);
    expect(writes(device, IOVA * 4096)).toBe(true);
  });

  test('replacing a paging domain: no store leaves an entry that lets astray or blocks', () => {
    const { machine, device, unit, frame, paging } = setUp();
    const [first, second] = [paging(), paging()];
    for (const domain of [first, second]) map(domain, IOVA, frame);
    unit.attach(device, -1, first);
    const { hardware } = unit;
    const table = hardware.readReg32(4) * 2 ** 32 + ((hardware.readReg32(0) & 0xffff_f000) >>> 0);
    const seen: unknown[] = [];
    const words = new Uint32Array(8);
    machine.memory.onWrite = (pa) => {
      if (pa < table + 0x400 || pa >= table + 0x420) return;
      for (let at = 0; at < 8; at += 2) machine.memory.read64(table + 0x400 + at * 4, words, at);
      const { V, TV, IR, IW, MODE, DOMAIN_ID } = decode(DTE, words);
      seen.push([V, TV, IR, IW, MODE, DOMAIN_ID]);
    };
    unit.attach(device, -1, second);
    expect(seen).toEqual([
      [1, 1, 1, 1, 3, 2],
      [1, 1, 1, 1, 3, 3],
    ]);
    expect(writes(device, IOVA * 4096)).toBe(true);
  });

  test('invalidation over many scattered ranges reaches all of them', () => {
    const { device, unit, frame, paging } = setUp();
    const domain = paging();
    unit.attach(device, -1, domain);
    const iovas = Array.from({ length: 40 }, (_, at) => IOVA + at * 1000);
    for (const iova of iovas) map(domain, iova, frame);
    expect(iovas.every((iova) => writes(device, iova * 4096))).toBe(true);
    for (const iova of iovas) domain.unmap(iova, 1);
    domain.sync();
    expect(iovas.some((iova) => writes(device, iova * 4096))).toBe(false);
  });

  test('large pages: unmapping a part takes the whole leaf out of the caches', () => {
    const { machine, device, unit, paging } = setUp();
    const frame = machine.memory.allocPages(512, { alignPages: 512 }) / 4096;
    const domain = paging();
    unit.attach(device, -1, domain);
    map(domain, 512, frame, 512);
    expect([writes(device, 512 * 4096), writes(device, 1023 * 4096)]).toEqual([true, true]);
    expect(domain.unmap(512, 1)).toBe(512);
    domain.sync();
    expect([writes(device, 512 * 4096), writes(device, 1023 * 4096)]).toEqual([false, false]);
  });

  test('more faults than the log holds: all are reported, since each sends its message', () => {
    const { device, faults } = setUp();
    for (let at = 0; at < 1000; at++) writes(device, at * 4096);
    expect(faults).toHaveLength(1000);
  });

  test('a listener that provokes more faults than the log holds: it overflows and starts again', () => {
    const { machine, device, faults } = setUp();
    let provoke = 600;
    machine.onFault(() => {
      while (provoke-- > 0) writes(device, 0x1000);
    });
    expect(writes(device, 0)).toBe(false);
    // The first one, and the 511 that fit while it was being reported; the rest is lost.
    expect(faults).toHaveLength(512);
    expect(writes(device, 0x2000)).toBe(false);
    expect(faults.at(-1)?.addressPfn).toBe(2);
  });

  test('unmapping a part of a large leaf names the whole leaf in the command', () => {
    const { machine, device, unit, paging } = setUp();
    const frame = machine.memory.allocPages(512, { alignPages: 512 }) / 4096;
    const domain = paging();
    unit.attach(device, -1, domain);
    map(domain, 512, frame, 512);
    domain.unmap(512, 1);
    const ring =
      (unit.hardware.readReg32(0xc) % 0x10_0000) * 2 ** 32 + (unit.hardware.readReg32(0x8) >>> 0);
    const at = ring + unit.hardware.readReg32(0x2008);
    domain.sync();
    expect(machine.memory.read32(at + 4) >>> 28).toBe(3);
    const size = 0x20_0000;
    expect(machine.memory.read32(at + 8) & ~0xfff).toBe(512 * 4096 + (size / 2 - 0x1000));
  });

  test.each([
    [
      'a PASID',
      (t: ReturnType<typeof setUp>) => t.unit.attach(t.device, 1, t.unit.blocking),
      'EOPNOTSUPP',
    ],
    [
      'a flag',
      (t: ReturnType<typeof setUp>) => t.unit.allocPaging(t.device, { flags: 16 }),
      'EOPNOTSUPP',
    ],
    [
      'another hw_info type',
      (t: ReturnType<typeof setUp>) => t.unit.hwInfo(t.device, 1),
      'EOPNOTSUPP',
    ],
    ['a second probe', (t: ReturnType<typeof setUp>) => t.unit.probeDevice(t.device), 'EBUSY'],
    [
      'a foreign domain',
      (t: ReturnType<typeof setUp>) => t.unit.attach(t.device, -1, setUp().paging()),
      'EINVAL',
    ],
  ])('%s is refused', (_, call, code) => {
    expect(() => call(setUp())).toThrow(expect.objectContaining({ code }));
  });

  test('hw_info has both feature registers', () => {
    const capabilities = { efr: 0x0012_40c0_0000_0840n, efr2: 0x800n };
    const { device, unit } = setUp({ capabilities });
    const { type, data } = unit.hwInfo(device, 0);
    expect(type).toBe(4);
    const view = new DataView(data.buffer);
    expect(view.getBigUint64(0, true)).toBe(0x0012_40c0_0000_0840n);
    expect(view.getBigUint64(8, true)).toBe(0x800n);
  });

  test('a unit without INVALIDATE_IOMMU_ALL comes up too', () => {
    const { device, unit, frame, paging } = setUp({
      capabilities: { efr: 0x0012_40c0_0000_0800n },
    });
    const domain = paging();
    unit.attach(device, -1, domain);
    map(domain, IOVA, frame);
    expect(writes(device, IOVA * 4096)).toBe(true);
  });
});
