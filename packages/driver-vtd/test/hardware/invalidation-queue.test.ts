import { INVALIDATION_ANSWER } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import { IQEI } from '../../src/spec/index.ts';
import { BenchUnit, REG } from './bench-unit.ts';
import { LEGACY, SCALABLE } from './tables.ts';

const IQE = 0x10;
const ICE = 0x20;
const ITE = 0x40;
const WAIT = (data: bigint, address: bigint) => [0x25n | (data << 32n), address];
const iqei = (bench: BenchUnit) => Number(bench.unit.readRegister64(REG.IQERCD) & 0xfn);
const head = (bench: BenchUnit) => Number(bench.unit.readRegister64(REG.IQH));
const fsts = (bench: BenchUnit) => bench.unit.readReg32(REG.FSTS);

function queue(rtaddr: bigint | number = SCALABLE, wide = true, options = {}) {
  return new BenchUnit(options).setRoot(rtaddr).enableQueue(wide);
}

describe('queue errors (VT-d 6.5.2.11, IQERCD)', () => {
  const rows: [string, number, (bench: BenchUnit) => void, (() => BenchUnit)?][] = [
    ['tail beyond the queue', IQEI.INVALID_TAIL, (b) => b.unit.writeRegister64(REG.IQT, 0x1000)],
    [
      'tail not a multiple of 32 with DW=1',
      IQEI.TAIL_NOT_ALIGNED,
      (b) => b.unit.writeRegister64(REG.IQT, 0x10),
    ],
    [
      'descriptor where nothing answers',
      IQEI.FETCH_ERROR,
      (b) => {
        b.unit.writeRegister64(REG.IQA, 0x80_0000_0800n);
        b.unit.writeRegister64(REG.IQT, 0x20);
      },
    ],
    ['type 0', IQEI.INVALID_TYPE, (b) => b.submit([0])],
    ['type 11', IQEI.INVALID_TYPE, (b) => b.submit([0xb])],
    ['type extension bits', IQEI.INVALID_TYPE, (b) => b.submit([0x211])],
    ['iec_inv without interrupt remapping', IQEI.INVALID_TYPE, (b) => b.submit([4])],
    ['hpt_inv without host permission tables', IQEI.INVALID_TYPE, (b) => b.submit([0x3_002a])],
    [
      'dev_tlb_inv without device-TLB support',
      IQEI.INVALID_TYPE,
      (b) => b.submit([3]),
      () => queue(SCALABLE, true, { capabilities: { ecap: { DT: 0, PRS: 0, NWFS: 0, PDS: 0 } } }),
    ],
    [
      'page_grp_resp without page requests',
      IQEI.INVALID_TYPE,
      (b) => b.submit([9]),
      () => queue(SCALABLE, true, { capabilities: { ecap: { PRS: 0 } } }),
    ],
    [
      'p_iotlb_inv in legacy mode',
      IQEI.INVALID_TYPE,
      (b) => b.submit([0x26]),
      () => queue(LEGACY, true),
    ],
    [
      'pc_inv in a 128-bit queue',
      IQEI.INVALID_TYPE,
      (b) => b.submit([7]),
      () => queue(LEGACY, false),
    ],
    [
      'reserved bit in the first qword',
      IQEI.RESERVED_FIELD,
      (b) => b.submit([(0x100_0000_0011n << 12n) | 0x11n]),
    ],
    [
      'reserved upper half of a 256-bit descriptor',
      IQEI.RESERVED_FIELD,
      (b) => b.submit([0x11, 0, 0, 1]),
    ],
    ['cc_inv granularity 0', IQEI.RESERVED_FIELD, (b) => b.submit([0x1])],
    ['iotlb_inv granularity 0', IQEI.RESERVED_FIELD, (b) => b.submit([0x2])],
    ['p_iotlb_inv granularity 1', IQEI.RESERVED_FIELD, (b) => b.submit([0x16])],
    ['pc_inv granularity 2', IQEI.RESERVED_FIELD, (b) => b.submit([0x27])],
    ['iotlb_inv page with AM above MAMV', IQEI.RESERVED_FIELD, (b) => b.submit([0x32, 19])],
    [
      'iotlb_inv page without PSI',
      IQEI.RESERVED_FIELD,
      (b) => b.submit([0x32, 0]),
      () => queue(SCALABLE, true, { capabilities: { cap: { PSI: 0 } } }),
    ],
    ['PFSID without the throttle', IQEI.RESERVED_FIELD, (b) => b.submit([0x1003])],
    [
      'wait with PD without page-request drain',
      IQEI.RESERVED_FIELD,
      (b) => b.submit([0x85]),
      () => queue(SCALABLE, true, { capabilities: { ecap: { PDS: 0 } } }),
    ],
    [
      '128-bit queue in scalable mode',
      IQEI.INVALID_WIDTH,
      (b) => b.submit([0x11]),
      () => queue(SCALABLE, false),
    ],
    [
      '128-bit queue in abort mode',
      IQEI.INVALID_WIDTH,
      (b) => b.submit([0x11]),
      () => queue(0xc00, false),
    ],
    [
      '256-bit queue on a unit without scalable and abort modes',
      IQEI.INVALID_WIDTH,
      (b) => b.submit([0x11]),
      () =>
        queue(LEGACY, true, {
          capabilities: { ver: 0x10, cap: 0xd2_008c_206f_0606n, ecap: 0xf0_0f42n },
        }),
    ],
    ['reserved TTM', IQEI.INVALID_TTM, (b) => b.submit([0x11]), () => queue(0x800)],
  ];
  it.each(rows)('%s: IQEI %i, head stays, IQE set', (_, code, act, make = () => queue()) => {
    const bench = make();
    act(bench);
    expect(iqei(bench)).toBe(code);
    expect(head(bench)).toBe(0);
    expect(fsts(bench) & IQE).toBe(IQE);
    expect(bench.unit.stats().descriptors).toBe(0);
  });

  it('earlier descriptors complete; clearing IQE fetches the replaced descriptor again', () => {
    const bench = queue();
    bench.submit(WAIT(1n, 0x9000n), [0], WAIT(2n, 0x9008n));
    expect(bench.memory.read64(0x9000)).toBe(1n);
    expect([head(bench), iqei(bench)]).toEqual([0x20, IQEI.INVALID_TYPE]);
    bench.unit.writeReg32(REG.FSTS, IQE);
    expect([head(bench), iqei(bench)]).toEqual([0x20, IQEI.INVALID_TYPE]);
    bench.poke({ 1048608: 0x7_0000_0025n, 1048616: 0x9010n });
    bench.unit.writeReg32(REG.FSTS, IQE);
    expect([head(bench), iqei(bench), fsts(bench)]).toEqual([0x60, 0, 0]);
    expect([bench.memory.read64(0x9008), bench.memory.read64(0x9010)]).toEqual([2n, 7n]);
  });

  it('an error raises the fault event', () => {
    const bench = queue();
    bench.unit.writeReg32(REG.FECTL, 0);
    bench.unit.writeReg32(REG.FECTL + 8, 0xfee0_0000);
    bench.submit([0]);
    expect(bench.bus.messages).toEqual([[0xfee0_0000, 0]]);
  });
});

describe('wait descriptors (VT-d 6.5.2.9)', () => {
  it('writes status, sets IWC and sends the completion message once', () => {
    const bench = queue();
    const { unit } = bench;
    unit.writeReg32(REG.IECTL + 4, 0x55);
    unit.writeReg32(REG.IECTL + 8, 0xfee0_2000);
    unit.writeReg32(REG.IECTL, 0);
    bench.submit([0x2_0000_0075n, 0x9004n], [0x15]);
    expect(bench.memory.read64(0x9000)).toBe(0x2_0000_0000n);
    expect(unit.readReg32(REG.ICS)).toBe(1);
    expect(bench.bus.messages).toEqual([[0xfee0_2000, 0x55]]);
    unit.writeReg32(REG.ICS, 1);
    bench.submit([0x15]);
    expect(bench.bus.messages).toHaveLength(2);
  });

  it('a masked completion waits in IP and goes with IWC', () => {
    const bench = queue();
    bench.submit([0x15]);
    expect(bench.unit.readReg32(REG.IECTL)).toBe(0xc000_0000);
    bench.unit.writeReg32(REG.ICS, 1);
    expect(bench.unit.readReg32(REG.IECTL)).toBe(0x8000_0000);
  });

  it('without status write and interrupt it is a fence', () => {
    const bench = queue().submit([0x5]).submit([0x45]).submit([0x85]);
    expect([head(bench), fsts(bench)]).toEqual([0x60, 0]);
  });

  it('a status address where nothing answers loses the status and nothing else', () => {
    const bench = queue().submit(WAIT(1n, 0x80_0000_0000n), WAIT(2n, 0x9000n));
    expect(bench.memory.read64(0x9000)).toBe(2n);
    expect(fsts(bench)).toBe(0);
  });
});

describe('device-TLB invalidation (VT-d 6.5.2.5, 6.5.2.6)', () => {
  it.each<[string, (bigint | number)[], [number, number, number, number, boolean]]>([
    ['one page', [0x20_0000_0003n, 0x8000_5000n], [0x20, -1, 0x80005, 12, false]],
    ['64 KiB', [0x20_0000_0003n, 0x8000_7001n], [0x20, -1, 0x80000, 16, false]],
    ['everything', [0x20_0000_0003n, 0x7fff_ffff_ffff_f001n], [0x20, -1, 0, 64, false]],
    [
      'one page of a PASID',
      [0x1_2345_0020_0008n, 0x7f12_3456_7000n],
      [0x20, 0x12345, 0x7_f123_4567, 12, false],
    ],
    [
      'everything of a PASID',
      [0x1_2345_0020_0008n, 0x7fff_ffff_ffff_f800n],
      [0x20, 0x12345, 0, 64, false],
    ],
    ['2 MiB of every PASID', [0x5_0020_0008n, 0x400f_f801n], [0x20, -1, 0x40000, 21, true]],
  ])('%s', (_, words, message) => {
    expect(queue().submit(words).bus.deviceTlb).toEqual([message]);
  });

  it('a device that does not answer: the next wait is aborted, ITE and ITESID are set, fetching stops', () => {
    const bench = queue();
    bench.bus.answerOf = () => INVALIDATION_ANSWER.NONE;
    bench.submit([0x20_0000_0003n, 0x8000_5000n], WAIT(1n, 0x9000n), WAIT(2n, 0x9008n));
    expect(fsts(bench)).toBe(ITE);
    expect(head(bench)).toBe(0x40);
    expect((bench.unit.readRegister64(REG.IQERCD) >> 32n) & 0xffffn).toBe(0x20n);
    expect([bench.memory.read64(0x9000), bench.memory.read64(0x9008)]).toEqual([0n, 0n]);
    bench.unit.writeReg32(REG.FSTS, ITE);
    expect([bench.memory.read64(0x9000), bench.memory.read64(0x9008)]).toEqual([0n, 2n]);
    expect([fsts(bench), head(bench)]).toEqual([0, 0x60]);
  });

  it('a time-out without a wait behind it is reported when the queue is empty', () => {
    const bench = queue();
    bench.bus.answerOf = () => INVALIDATION_ANSWER.NONE;
    bench.submit([0x28_0000_0003n, 0x8000_5000n]);
    expect(fsts(bench)).toBe(ITE);
  });
});

describe('device-TLB completions that go wrong (VT-d 6.5.2.11, IQERCD)', () => {
  const DEV_TLB = (sid: bigint) => [3n | (sid << 32n), 0x8000_5000n];
  const P_DEV_TLB = (sid: bigint) => [8n | (sid << 16n), 0x8000_5000n];
  const sources = (bench: BenchUnit) => {
    const record = bench.unit.readRegister64(REG.IQERCD);
    return { ITESID: Number((record >> 32n) & 0xffffn), ICESID: Number(record >> 48n) };
  };
  type Answers = Record<number, keyof typeof INVALIDATION_ANSWER>;
  const rows: [string, Answers, bigint[][], number, ReturnType<typeof sources>, bigint][] = [
    ['completes', {}, [DEV_TLB(0x20n)], 0, { ITESID: 0, ICESID: 0 }, 1n],
    ['answers wrongly', { 32: 'UNEXPECTED' }, [DEV_TLB(32n)], ICE, { ITESID: 0, ICESID: 32 }, 1n],
    [
      'answers wrongly, source id above 7FFFh',
      { 65281: 'UNEXPECTED' },
      [P_DEV_TLB(65_281n)],
      ICE,
      { ITESID: 0, ICESID: 65_281 },
      1n,
    ],
    ['does not answer', { 32: 'NONE' }, [P_DEV_TLB(32n)], ITE, { ITESID: 32, ICESID: 0 }, 0n],
    [
      'two answer wrongly: the first is named',
      { 32: 'UNEXPECTED', 40: 'UNEXPECTED' },
      [DEV_TLB(32n), DEV_TLB(40n)],
      ICE,
      { ITESID: 0, ICESID: 32 },
      1n,
    ],
    [
      'one of each kind',
      { 32: 'NONE', 40: 'UNEXPECTED' },
      [DEV_TLB(32n), DEV_TLB(40n)],
      ICE | ITE,
      { ITESID: 32, ICESID: 40 },
      0n,
    ],
  ];
  it.each(rows)('a device %s: ICE, ITE and source ids', (_, answers, commands, bits, ids, done) => {
    const bench = queue();
    const { bus, memory } = bench;
    bus.answerOf = (rid) => INVALIDATION_ANSWER[answers[rid] ?? 'COMPLETE'];
    bench.submit(...commands, WAIT(1n, 0x9000n));
    expect(fsts(bench)).toBe(bits);
    expect(sources(bench)).toEqual(ids);
    expect([memory.read64(0x9000), iqei(bench)]).toEqual([done, 0]);
  });

  it('ICE: the queue goes on, the fault event is sent once, and clearing it latches anew', () => {
    const bench = queue();
    bench.bus.answerOf = () => INVALIDATION_ANSWER.UNEXPECTED;
    bench.unit.writeReg32(REG.FECTL, 0);
    bench.submit(DEV_TLB(0x20n), DEV_TLB(0x28n), WAIT(1n, 0x9000n));
    expect([head(bench), fsts(bench)]).toEqual([0x60, ICE]);
    expect(bench.bus.messages).toHaveLength(1);
    bench.unit.writeReg32(REG.FSTS, ICE);
    bench.submit(DEV_TLB(0x30n));
    expect(sources(bench).ICESID).toBe(0x30);
    expect(bench.bus.messages).toHaveLength(2);
  });
});

describe('page group responses (VT-d 7.6)', () => {
  it.each([
    ['success', 0x1_2345_0020_0019n, { pasid: 0x12345, code: 0 }],
    ['invalid request', 0x1_2345_0020_1019n, { pasid: 0x12345, code: 1 }],
    ['failure without PASID', 0x20_f009n, { pasid: -1, code: 15 }],
  ])('%s goes to the device', (_, qw0, { pasid, code }) => {
    const bench = queue().submit([qw0, 0xacn]);
    expect(bench.bus.responses).toEqual([{ rid: 0x20, pasid, prgi: 0x15, code }]);
  });
});

describe('queue handshake (VT-d 6.5.2, 11.4.4)', () => {
  it('QIES follows QIE; disabling sets the head to 0', () => {
    const bench = queue().submit([0x11]);
    expect(bench.unit.readReg32(REG.GSTS) & 0x0400_0000).not.toBe(0);
    expect(head(bench)).toBe(0x20);
    bench.unit.writeReg32(REG.GCMD, 0);
    expect(bench.unit.readReg32(REG.GSTS) & 0x0400_0000).toBe(0);
    expect(head(bench)).toBe(0);
    bench.unit.writeRegister64(REG.IQT, 0x40);
    expect(head(bench)).toBe(0);
  });

  it('a stale tail is fetched when the queue is enabled', () => {
    const bench = new BenchUnit().setRoot(SCALABLE).poke({ 1048576: 0x11n });
    bench.unit.writeRegister64(REG.IQA, 0x10_0800);
    bench.unit.writeRegister64(REG.IQT, 0x20);
    bench.command(0x0400_0000);
    expect(head(bench)).toBe(0x20);
  });

  it('abort-DMA mode still executes descriptors', () => {
    const bench = queue(0xc00).submit(WAIT(3n, 0x9000n));
    expect(bench.memory.read64(0x9000)).toBe(3n);
  });
});
