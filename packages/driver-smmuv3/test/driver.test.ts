import {
  createMachine,
  type Endpoint,
  type PagingDomain,
  PROT,
  type UnrecoverableFault,
} from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import { SmmuIommuUnit, smmuv3 } from '../src/index.ts';

const RW = PROT.READ | PROT.WRITE;
const IOVA = 0x1000;
const REQUEST = { flags: 0 } as const;
const STAGE2_ONLY = { capabilities: { idr0: { S1P: 0 } } } as const;
const STAGE1_ONLY = { capabilities: { idr0: { S2P: 0 } } } as const;

const setUp = (options: Parameters<typeof smmuv3>[0] = {}) => {
  const machine = createMachine();
  const device = machine.addEndpoint({ rid: '00:04.0' });
  const other = machine.addEndpoint({ rid: '81:05.0' });
  const unit = machine.addUnit(smmuv3(options));
  if (!(unit instanceof SmmuIommuUnit)) throw new Error('not an SMMUv3');
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

describe('SMMUv3 through the bus', () => {
  test('a device starts aborted, silently', () => {
    const { device, faults } = setUp();
    expect(writes(device, 0x12345678)).toBe(false);
    expect(faults).toEqual([]);
  });

  test('a device without a stream table leaf is C_BAD_STREAMID', () => {
    const { machine, unit, faults } = setUp();
    expect(unit.agent.translatePage(0x4200, -1, 5, 1)).toBeLessThan(0);
    expect(faults[0]).toMatchObject({
      rid: 0x4200,
      reason: 2,
      name: expect.stringMatching(/^C_BAD_STREAMID/),
    });
    expect(machine.units).toHaveLength(1);
  });

  test('identity lets DMA through unchanged', () => {
    const { machine, device, unit, frame } = setUp();
    unit.attach(device, -1, unit.identity);
    expect(writes(device, frame * 4096)).toBe(true);
    expect(machine.memory.read32(frame * 4096)).toBe(0x04030201);
  });

  test.each([
    ['TLBI_NH_VA', {}],
    ['TLBI_S2_IPA', STAGE2_ONLY],
  ])('map, DMA, unmap: stale until sync sends %s', (_, options) => {
    const { machine, device, unit, faults, frame, paging } = setUp(options);
    const domain = paging();
    unit.attach(device, -1, domain);
    expect(map(domain, IOVA, frame, 2)).toBe(0);
    expect(writes(device, IOVA * 4096)).toBe(true);
    expect(machine.memory.read32(frame * 4096)).toBe(0x04030201);
    expect(domain.unmap(IOVA, 2)).toBe(2);
    expect(writes(device, IOVA * 4096)).toBe(true);
    expect(writes(device, (IOVA + 1) * 4096)).toBe(false);
    domain.sync();
    expect(writes(device, IOVA * 4096)).toBe(false);
    expect(faults.map(({ addressPfn, name }) => [addressPfn, name.split(':')[0]])).toEqual([
      [IOVA + 1, 'F_TRANSLATION'],
      [IOVA, 'F_TRANSLATION'],
    ]);
  });

  test('a record holds the whole address of the access', () => {
    const { device, unit, faults, paging } = setUp();
    unit.attach(device, -1, paging());
    expect(writes(device, IOVA * 4096 + 0x678)).toBe(false);
    const [, , , , lo] = (faults[0] as UnrecoverableFault).words;
    expect((lo as number) % 4096).toBe(0x678);
  });

  test.each([
    [1, {}, { S2: 0, IPA: 0 }],
    [1, STAGE1_ONLY, { S2: 0, IPA: 0 }],
    [2, STAGE2_ONLY, { S2: 1, IPA: IOVA * 4096 }],
  ])('a write to a read-only page is F_PERMISSION of stage %i, %o', (_, options, fields) => {
    const { device, unit, faults, frame, paging } = setUp(options);
    const domain = paging();
    unit.attach(device, -1, domain);
    map(domain, IOVA, frame, 1, PROT.READ);
    expect(device.dmaRead(IOVA * 4096, new Uint8Array(4))).toBe(4);
    expect(writes(device, IOVA * 4096)).toBe(false);
    expect(faults[0]).toMatchObject({
      rid: 0x20,
      pasid: -1,
      write: true,
      reason: 0x13,
      fields: { CLASS: 2, RNW: 0, ...fields },
    });
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

  test.each([
    ['an ASID', {}],
    ['a VMID', STAGE2_ONLY],
  ])('%s is used again only when nothing is cached under it', (_, options) => {
    const { device, unit, frame, paging } = setUp(options);
    const first = paging();
    unit.attach(device, -1, first);
    map(first, IOVA, frame);
    expect(writes(device, IOVA * 4096)).toBe(true);
    unit.attach(device, -1, unit.blocking);
    first.free();
    const second = paging();
    unit.attach(device, -1, second);
    expect(writes(device, IOVA * 4096)).toBe(false);
  });

  test('two devices on two buses share a domain; detaching one leaves the other', () => {
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

  test('a new stream table leaf is announced by CFGI_STE that reaches level 1', () => {
    const { machine, unit } = setUp();
    const { hardware } = unit;
    const ring =
      (hardware.readReg32(0x94) % 0x10_0000) * 2 ** 32 + ((hardware.readReg32(0x90) & ~31) >>> 0);
    const at = ring + (hardware.readReg32(0x98) % 256) * 16;
    const late = machine.addEndpoint({ rid: '42:00.0' });
    unit.probeDevice(late);
    const words = [0, 4, 8].map((offset) => machine.memory.read32(at + offset));
    expect(words).toEqual([3, 0x4200, 0]);
  });

  test.each([{}, STAGE2_ONLY])(
    'replacing a paging domain works, and bypass in between, %o',
    (options) => {
      const { device, unit, frame, paging } = setUp(options);
      const [first, second] = [paging(), paging()];
      map(first, IOVA, frame);
      map(second, IOVA + 1, frame);
      unit.attach(device, -1, first);
      expect([IOVA, IOVA + 1].map((iova) => writes(device, iova * 4096))).toEqual([true, false]);
      unit.attach(device, -1, second);
      expect([IOVA, IOVA + 1].map((iova) => writes(device, iova * 4096))).toEqual([false, true]);
      unit.attach(device, -1, unit.identity);
      expect(writes(device, frame * 4096)).toBe(true);
      unit.attach(device, -1, first);
      expect([IOVA, IOVA + 1].map((iova) => writes(device, iova * 4096))).toEqual([true, false]);
    },
  );

  test.each([
    {},
    STAGE2_ONLY,
    { capabilities: { idr3: { RIL: 0 } } },
    { capabilities: { idr0: { S1P: 0 }, idr3: { RIL: 0 } } },
  ])('invalidation over many scattered ranges reaches all of them, %o', (options) => {
    const { device, unit, frame, paging } = setUp(options);
    const domain = paging();
    unit.attach(device, -1, domain);
    const iovas = Array.from({ length: 40 }, (_, at) => IOVA + at * 1000);
    for (const iova of iovas) map(domain, iova, frame);
    expect(iovas.every((iova) => writes(device, iova * 4096))).toBe(true);
    for (const iova of iovas) domain.unmap(iova, 1);
    domain.sync();
    expect(iovas.some((iova) => writes(device, iova * 4096))).toBe(false);
  });

  test.each([{}, STAGE2_ONLY, { capabilities: { idr3: { RIL: 0 } } }])(
    'large pages: unmapping a part takes the whole leaf out of the caches, %o',
    (options) => {
      const { machine, device, unit, paging } = setUp(options);
      const frame = machine.memory.allocPages(512, { alignPages: 512 }) / 4096;
      const domain = paging();
      unit.attach(device, -1, domain);
      map(domain, 512, frame, 512);
      expect([writes(device, 512 * 4096), writes(device, 1023 * 4096)]).toEqual([true, true]);
      expect(domain.unmap(512, 1)).toBe(512);
      domain.sync();
      expect([writes(device, 512 * 4096), writes(device, 1023 * 4096)]).toEqual([false, false]);
    },
  );

  test('more faults than the queue holds: all are reported, since each sends its message', () => {
    const { device, unit, faults, paging } = setUp();
    unit.attach(device, -1, paging());
    for (let at = 0; at < 1000; at++) writes(device, at * 4096);
    expect(faults).toHaveLength(1000);
  });

  test('a listener that provokes more faults than the queue holds: overflow is acknowledged', () => {
    const { machine, device, unit, faults, paging } = setUp();
    unit.attach(device, -1, paging());
    let provoke = 600;
    machine.onFault(() => {
      while (provoke-- > 0) writes(device, 0x1000);
    });
    expect(writes(device, 0)).toBe(false);
    // The first one, and the 128 that fit while it was being reported; the rest is lost.
    expect(faults).toHaveLength(129);
    const { hardware } = unit;
    expect((hardware.readReg32(0x100a8) ^ hardware.readReg32(0x100ac)) >>> 31).toBe(0);
    expect(writes(device, 0x2000)).toBe(false);
    expect(faults.at(-1)?.addressPfn).toBe(2);
  });

  test.each([
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
    ['a unit without 4K', () => setUp({ capabilities: { idr5: { GRAN4K: 0 } } }), 'ENODEV'],
    ['a unit without MSI', () => setUp({ capabilities: { idr0: { MSI: 0 } } }), 'ENODEV'],
    ['a device beyond SIDSIZE', () => setUp({ capabilities: { idr1: { SIDSIZE: 10 } } }), 'ENODEV'],
  ])('%s is refused', (_, call, code) => {
    expect(() => call(setUp())).toThrow(expect.objectContaining({ code }));
  });

  test('a field that is not modelled is refused by name', () => {
    expect(() => setUp({ capabilities: { idr1: { ECMDQ: 1 } } })).toThrow(/IDR1\.ECMDQ = 1/);
  });

  test.each([
    ['a linear stream table', { idr0: { ST_LEVEL: 0 } }],
    ['stage 1 alone', { idr0: { S2P: 0 } }],
    ['stage 2 alone', { idr0: { S1P: 0 } }],
    ['stage 1 with 40-bit output', { idr5: { OAS: 2 } }],
    ['40-bit addresses: a concatenated root', { idr0: { S1P: 0 }, idr5: { OAS: 2 } }],
    ['36-bit addresses', { idr0: { S1P: 0 }, idr5: { OAS: 1 } }],
    ['8-bit ASIDs', { idr0: { ASID16: 0 } }],
    ['small queues', { idr1: { CMDQS: 2, EVENTQS: 2 } }],
  ])('works with %s', (_, capabilities) => {
    const { device, unit, faults, frame, paging } = setUp({ capabilities });
    const domain = paging();
    unit.attach(device, -1, domain);
    const last = domain.apertureLastFrame;
    expect([map(domain, IOVA, frame), map(domain, last, frame + 2)]).toEqual([0, 0]);
    expect(map(domain, last + 1, frame)).toBe(-34);
    expect(writes(device, IOVA * 4096)).toBe(true);
    expect(writes(device, BigInt(last) * 4096n)).toBe(true);
    expect(writes(device, (BigInt(last) + 1n) * 4096n)).toBe(false);
    expect(faults).toHaveLength(1);
  });

  test('hw_info has the identification registers', () => {
    const { device, unit } = setUp({ capabilities: { iidr: 0x4832_043b } });
    const { type, data } = unit.hwInfo(device, 0);
    const view = new DataView(data.buffer);
    expect(type).toBe(2);
    expect(data).toHaveLength(40);
    const at = (offset: number) => view.getUint32(offset, true);
    expect(at(32)).toBe(0x4832_043b);
    expect([at(8), at(12), at(20), at(28), at(32), at(36)]).toEqual(
      [0x0, 0x4, 0xc, 0x14, 0x18, 0x1c].map((offset) => unit.hardware.readReg32(offset)),
    );
  });
});
