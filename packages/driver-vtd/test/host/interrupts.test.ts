/** A device's interrupts on a whole machine: the write, the unit, the processor that hears of it. */
import { encode } from '@iommukit/bits';
import type { Endpoint, EndpointOptions } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import {
  FEADDR,
  FECTL,
  FEDATA,
  GCMD,
  GSTS,
  IRTA,
  IRTE,
  IRTE_POSTED,
  POSTED_INTERRUPT_DESCRIPTOR,
  type VtdIommuUnit,
} from '../../src/index.ts';
import { bench, SVA_DEVICE } from './fixture.ts';

const CAPABILITIES = { cap: { PI: 1 }, ecap: { IR: 1, EIM: 1 } };
const dword = (value: number) => new Uint8Array(Uint32Array.of(value).buffer);

/** A machine whose processor listens at three addresses, and an empty interrupt table. */
function setup(options = {}, device: EndpointOptions = { rid: '00:04.0' }) {
  const at = bench({ capabilities: CAPABILITIES, ...options }, [device]);
  const { machine } = at;
  const { hardware } = at.unit as VtdIommuUnit;
  const heard: [number, number][] = [];
  const addresses = [0, 1, 2].map((cpu) =>
    machine.allocMessageAddress((data) => heard.push([cpu, data])),
  );
  const table = machine.memory.allocPages(1);
  const put = (pa: number, words: ArrayLike<number>) =>
    Array.from(words).forEach((word, i) => {
      machine.memory.write32(pa + i * 4, word);
    });
  /** Byte of the APIC id that the n-th listener has: its address [19:12]. */
  const apicId = (cpu: number) => ((addresses[cpu] as number) >>> 12) & 0xff;
  const enable = () => {
    hardware.writeRegister64(IRTA.offset, BigInt(table) | 7n);
    const status = () => hardware.readReg32(GSTS.offset) & 0x96ff_ffff;
    hardware.writeReg32(GCMD.offset, (status() | GCMD.fields.SIRTP.mask) >>> 0);
    hardware.writeReg32(GCMD.offset, (status() | GCMD.fields.IRE.mask) >>> 0);
  };
  return { ...at, hardware, heard, addresses, table, put, apicId, enable };
}

/** Address of a remappable request. */
const remappable = (index: number) => 0xfee0_0010 + index * 32;
const msi = (device: Endpoint, index: number) => device.dmaWrite(remappable(index), dword(0));

describe('interrupts of a device behind the unit', () => {
  it('remapping off: the message arrives where the device sent it', () => {
    const { device, addresses, heard } = setup();
    expect(device.dmaWrite(addresses[1] as number, dword(0x55))).toBe(4);
    expect(heard).toEqual([[1, 0x55]]);
  });

  it.each([
    ['untranslated', { rid: '00:04.0' }, 'dmaWrite'],
    ['through a device TLB', SVA_DEVICE, 'atsWrite'],
  ] as const)('remapped, %s', (_, options, call) => {
    const { device, put, table, apicId, heard, enable } = setup({}, options);
    put(
      table + 5 * 16,
      encode(IRTE, { P: 1, V: 0x61, DST: apicId(2) << 8, SVT: 1, SID: device.rid }),
    );
    enable();
    expect(device[call](remappable(5), dword(0))).toBe(4);
    expect(heard).toEqual([[2, 0x4061]]);
  });

  it('a device that is not the entry’s source is blocked, and the fault is recorded', () => {
    const { device, put, table, apicId, heard, enable, hardware } = setup();
    put(table + 5 * 16, encode(IRTE, { P: 1, V: 0x61, DST: apicId(2) << 8, SVT: 1, SID: 0x99 }));
    enable();
    const reasons: number[] = [];
    hardware.onFault = ({ reason }) => reasons.push(reason);
    expect([msi(device, 5), msi(device, 6)]).toEqual([0, 0]);
    expect([heard, reasons]).toEqual([[], [0x26, 0x22]]);
  });

  it('posted: the bit is set, the processor is told once', () => {
    const { machine, device, put, table, apicId, heard, enable } = setup();
    const descriptor = machine.memory.allocPages(1);
    put(
      table + 16,
      encode(IRTE_POSTED, {
        P: 1,
        IM: 1,
        VV: 0x21,
        PDAL: (descriptor >>> 6) & 0x3ff_ffff,
        PDAH: Math.floor(descriptor / 2 ** 32),
      }),
    );
    put(descriptor, encode(POSTED_INTERRUPT_DESCRIPTOR, { NV: 0xf2, NDST: apicId(0) << 8 }));
    enable();
    expect([msi(device, 1), msi(device, 1)]).toEqual([4, 4]);
    expect(heard).toEqual([[0, 0x40f2]]);
    expect(machine.memory.read32(descriptor + 4)).toBe(2);
  });

  it('events of the unit itself are never remapped', () => {
    const { device, addresses, heard, enable, hardware } = setup();
    enable();
    const [, address = 0] = addresses;
    hardware.writeReg32(FEDATA.offset, 0x99);
    hardware.writeReg32(FEADDR.offset, address);
    hardware.writeReg32(FECTL.offset, 0);
    // The device's own message to that address is blocked: compatibility format. Its fault is told.
    expect(device.dmaWrite(address, dword(0x55))).toBe(0);
    expect(heard).toEqual([[1, 0x99]]);
  });

  it('writes of other sizes are no interrupts', () => {
    const { device, enable, hardware, heard } = setup();
    enable();
    const reasons: number[] = [];
    hardware.onFault = ({ reason }) => reasons.push(reason);
    expect(device.dmaWrite(0xfee0_0010, new Uint8Array(8))).toBe(0);
    expect([reasons, heard]).toEqual([[0x29], []]);
  });
});
