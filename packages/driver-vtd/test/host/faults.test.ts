import { INVALIDATION_ANSWER, type UnrecoverableFault } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import { decodeFault } from '../../src/host/faults.ts';
import type { VtdIommuUnit } from '../../src/index.ts';
import {
  attach,
  bench,
  HWPT,
  map,
  nest,
  paging,
  reach,
  reachAts,
  SVA_DEVICE,
  stampedPage,
  unmap,
  writes,
} from './fixture.ts';

const halves = (lo: bigint, hi: bigint): Uint32Array =>
  Uint32Array.from([lo, lo >> 32n, hi, hi >> 32n].map((word) => Number(word & 0xffff_ffffn)));

describe('VT-d 11.4.7.9: fault records in generic terms', () => {
  it.each([
    ['write', 0x1000n, 0x8000_0005_0000_0020n, 5, -1, true, 'LGN.2'],
    ['read with PASID', 0x8000_6000n, 0xc123_4579_8000_0020n, 0x79, 0x12345, false, 'SSS.2'],
    ['atomic', 0x7f12_3456_7000n, 0xc123_4585_b000_0020n, 0x85, 0x12345, false, 'SGN.6'],
    ['page request', 0x7f12_3456_7000n, 0x8123_4547_9000_0020n, 0x47, 0x12345, false, 'SCT.8'],
    ['translation request', 0x8000_5000n, 0xd000_000d_0000_0020n, 0xd, -1, false, 'LCT.5'],
  ])('%s', (_name, lo, hi, reason, pasid, write, condition) => {
    const fault = decodeFault(halves(lo, hi));
    expect(fault).toMatchObject({ rid: 0x20, reason, pasid, write });
    expect(fault.addressPfn).toBe(Number(lo >> 12n));
    expect(fault.name).toMatch(new RegExp(`^${condition}`));
    expect(fault.words).toEqual([...halves(lo, hi)]);
    expect(fault.fields).toMatchObject({ F: 1, SID: 0x20, FR: reason });
  });

  it('an unknown reason is said to be unknown', () => {
    expect(decodeFault(halves(0n, 0x8000_00ff_0000_0020n)).name).toBe('unknown fault reason');
  });
});

describe('VT-d 7.2.3: the fault service', () => {
  const listening = (options = {}, devices = [SVA_DEVICE]) => {
    const at = bench(options, devices);
    const faults: UnrecoverableFault[] = [];
    at.machine.onFault((fault) => faults.push(fault));
    return { ...at, faults };
  };

  it('reports each blocked DMA once, by RID, PASID, address and reason', () => {
    const at = listening({ firstStageByDefault: false });
    reach(at.device, 0x100);
    const domain = paging(at, HWPT.PASID);
    attach(at, domain);
    attach(at, domain, 0x12345);
    map(domain, 0x300, stampedPage(at.machine), 1, 1);
    reach(at.device, 0x100);
    writes(at.device, 0x300);
    reach(at.device, 0x200, 0x12345);
    reach(at.device, 0x200, 9);
    expect(at.faults.map((f) => [f.pasid, f.addressPfn, f.write, f.reason])).toEqual([
      [-1, 0x100, false, 0x51],
      [-1, 0x100, false, 0x79],
      [-1, 0x300, true, 0x85],
      [0x12345, 0x200, false, 0x79],
      [9, 0x200, false, 0x59],
    ]);
    for (const fault of at.faults) expect(fault.rid).toBe(at.device.rid);
  });

  it('nested faults name the stage', () => {
    const at = listening();
    const { guest, table, parent } = nest(at);
    reach(at.device, 7);
    const gfn = guest.page();
    table.map(7, gfn);
    unmap(parent, gfn);
    reach(at.device, 7);
    expect(at.faults.map(({ name }) => name.slice(0, 5))).toEqual(['SFS.2', 'SSS.2']);
  });

  it('more faults than records: overflow is counted, and faults go on afterwards', () => {
    const at = listening();
    const { hardware } = at.unit as VtdIommuUnit;
    hardware.writeReg32(0x38, 0x8000_0000);
    for (let i = 0; i < 20; i++) reach(at.device, i);
    expect(at.faults).toHaveLength(0);
    hardware.writeReg32(0x38, 0);
    expect(at.faults.map(({ addressPfn }) => addressPfn)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    reach(at.device, 0x42);
    expect(at.faults.at(-1)?.addressPfn).toBe(0x42);
    expect(hardware.readReg32(0x34)).toBe(0);
  });

  it('reads around the end of the records', () => {
    const at = listening();
    const { hardware } = at.unit as VtdIommuUnit;
    for (let i = 0; i < 5; i++) reach(at.device, i);
    hardware.writeReg32(0x38, 0x8000_0000);
    for (let i = 5; i < 11; i++) reach(at.device, i);
    hardware.writeReg32(0x38, 0);
    expect(at.faults.map(({ addressPfn }) => addressPfn)).toEqual([
      0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
    ]);
  });

  it('a listener may repair the cause: map, unmap, replace, and DMA again', () => {
    const at = bench({}, [SVA_DEVICE]);
    const domain = paging(at);
    attach(at, domain);
    const frame = stampedPage(at.machine);
    map(domain, 0x500, frame);
    const reached: number[] = [];
    at.machine.onFault(({ addressPfn }) => {
      if (addressPfn !== 0x100) return;
      map(domain, 0x100, frame);
      unmap(domain, 0x500);
      reached.push(reach(at.device, 0x100), reach(at.device, 0x500));
    });
    expect(reach(at.device, 0x100)).toBe(-1);
    expect(reached).toEqual([frame, -1]);
    expect(reach(at.device, 0x100)).toBe(frame);
  });

  it('legacy mode reports legacy reasons', () => {
    const at = listening({ scalable: false });
    reach(at.device, 0x100);
    attach(at, paging(at));
    writes(at.device, 0x100);
    expect(at.faults.map(({ reason }) => reason)).toEqual([2, 5]);
  });
});

describe('VT-d 6.5.2.11: devices that answer invalidations badly', () => {
  const FSTS = 0x34;
  const mapped = (answer: keyof typeof INVALIDATION_ANSWER) => {
    const at = bench({ firstStageByDefault: false }, [SVA_DEVICE, { rid: '00:06.0' }]);
    const faults: UnrecoverableFault[] = [];
    at.machine.onFault((fault) => faults.push(fault));
    const domain = paging(at);
    const frame = stampedPage(at.machine);
    attach(at, domain);
    attach(at, domain, -1, at.devices[1]);
    map(domain, 0x100, frame);
    expect(reachAts(at.device, 0x100)).toBe(frame);
    at.device.invalidationAnswer = INVALIDATION_ANSWER[answer];
    unmap(domain, 0x100);
    return { ...at, faults, frame, registers: (at.unit as VtdIommuUnit).hardware };
  };

  it.each(['UNEXPECTED', 'NONE'] as const)(
    '%s: the unmap ends, no status bit stays, the next fault is reported',
    (answer) => {
      const { devices, faults, registers } = mapped(answer);
      expect(registers.readReg32(FSTS)).toBe(0);
      expect(reach(devices[1] as (typeof devices)[0], 0x100)).toBe(-1);
      expect(faults).toHaveLength(1);
    },
  );

  it('only a device that is silent may go on using its translation', () => {
    const wrong = mapped('UNEXPECTED');
    expect(reachAts(wrong.device, 0x100)).toBe(-1);
    const silent = mapped('NONE');
    expect(reachAts(silent.device, 0x100)).toBe(silent.frame);
  });
});
