/** Events of the unit in generic terms, against the worked records. */
import { describe, expect, it } from 'vitest';
import { recorded } from './recording-unit.ts';

const AT = { STATUS: 0x2020, BASE: 0x10, TAIL: 0x2018 };
const EVT_LOG_INT = 2;

const report = (q0: bigint, q1: bigint) => {
  const { registers, parts, faults, machine } = recorded();
  const base =
    (registers.readReg32(AT.BASE + 4) & 0xf_ffff) * 2 ** 32 +
    ((registers.readReg32(AT.BASE) & 0xffff_f000) >>> 0);
  for (const [at, q] of [
    [0, q0],
    [8, q1],
  ] as const) {
    machine.memory.write64(base + at, Number(q & 0xffff_ffffn), Number(q >> 32n));
  }
  registers.values.set(AT.TAIL, 16);
  registers.values.set(AT.STATUS, registers.readReg32(AT.STATUS) | EVT_LOG_INT);
  parts.events.service();
  return { faults, errors: parts.events.commandErrors };
};

describe('AMD IOMMU 2.5: events', () => {
  it.each([
    [
      'ILLEGAL_DEV_TABLE_ENTRY',
      0x10a0_0000_0000_0108n,
      0xfee0_1234n,
      { rid: 0x108, reason: 1, pasid: -1, write: true, addressPfn: 0xf_ee01 },
    ],
    [
      'IO_PAGE_FAULT, host table',
      0x2070_0011_0000_0108n,
      0x123_4567n,
      { reason: 2, pasid: -1, write: true, addressPfn: 0x1234 },
    ],
    [
      'IO_PAGE_FAULT, PASID',
      0x2075_a345_0002_0108n,
      0x7f00_0000_1000n,
      { reason: 2, pasid: 0x2_a345, write: true, addressPfn: 0x7_f000_0001 },
    ],
    ['IOTLB_INV_TIMEOUT', 0x7000_0000_0000_0108n, 0x700_0060n, { reason: 7, rid: 0x108 }],
    [
      'INVALID_DEVICE_REQUEST',
      0x8200_0000_0000_0108n,
      0xab_c000n,
      { reason: 8, addressPfn: 0xabc },
    ],
    [
      'INVALID_PPR_REQUEST',
      0x9200_0155_0005_0108n,
      0x7000n,
      { reason: 9, pasid: 5, write: false, addressPfn: 7, fields: { PRGI: 0x155, RX: 0 } },
    ],
  ] as const)('%s', (name, q0, q1, expected) => {
    const { faults } = report(q0, q1);
    expect(faults).toHaveLength(1);
    expect(faults[0]).toMatchObject(expected);
    expect(faults[0]?.name.startsWith(name.split(',')[0] ?? '')).toBe(true);
  });

  it.each([
    ['ILLEGAL_COMMAND_ERROR', 0x5000_0000_0000_0000n],
    ['COMMAND_HARDWARE_ERROR', 0x6200_0000_0000_0000n],
  ])('%s is about the driver itself: counted, no fault of a device', (_, q0) => {
    expect(report(q0, 0x700_0040n)).toEqual({ faults: [], errors: 1 });
  });
});
