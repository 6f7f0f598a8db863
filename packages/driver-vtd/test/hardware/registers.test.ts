import { readFileSync } from 'node:fs';
import { encode } from '@iommukit/bits';
import { ACCESS } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import {
  BLOCKED_SILENTLY,
  featuresOf,
  LEGACY_PROFILE,
  RECOMMENDED,
} from '../../src/hardware/index.ts';
import { REGISTERS } from '../../src/hardware/register-file.ts';
import * as spec from '../../src/spec/index.ts';
import { BenchUnit, REG } from './bench-unit.ts';
import {
  IOVA,
  LEGACY,
  legacy,
  PT_ENTRY,
  pasidEntry,
  RID,
  SCALABLE,
  scalable,
  secondStage,
} from './tables.ts';

const words = JSON.parse(
  readFileSync(new URL('../data/vtd-vectors.json', import.meta.url)).toString(),
).register_words;
const join = (halves: Uint32Array) =>
  `0x${((BigInt(halves[1] ?? 0) << 32n) | BigInt(halves[0] as number)).toString(16)}`;

describe('register words against computed ones', () => {
  it.each([
    ['ccmd_global', spec.CCMD, { ICC: 1, CIRG: 1 }],
    ['ccmd_domain_5', spec.CCMD, { ICC: 1, CIRG: 2, DID: 5 }],
    ['ccmd_device_5_0x20', spec.CCMD, { ICC: 1, CIRG: 3, DID: 5, SID: 0x20 }],
    ['iotlb_global', spec.IOTLB, { IVT: 1, IIRG: 1, DR: 1, DW: 1 }],
    ['iotlb_domain_5', spec.IOTLB, { IVT: 1, IIRG: 2, DR: 1, DW: 1, DID: 5 }],
    ['iotlb_page_5', spec.IOTLB, { IVT: 1, IIRG: 3, DR: 1, DW: 1, DID: 5 }],
    ['iva_0x80004000_am2_ih1', spec.IVA, { ADDR: 0x8000_4000, AM: 2, IH: 1 }],
    ['iqa_256bit_qs1', spec.IQA, { IQA: 0x10_0000, DW: 1, QS: 1 }],
    ['rtaddr_scalable', spec.RTADDR, { RTA: 0x3000, TTM: 1 }],
    ['rtaddr_abort', spec.RTADDR, { TTM: 3 }],
    ['pqa_4', spec.PQA, { PQA: 0x20_0000, PQS: 4 }],
  ] as const)('%s', (name, register, values) => {
    expect(join(encode(register as never, values as never))).toBe(words[name]);
  });

  it('GSTS masked with 96FFFFFFh plus TE', () => {
    const { gsts, masked, write_to_set_TE } = words.gcmd_from_gsts;
    expect((Number(gsts) & 0x96ff_ffff) >>> 0).toBe(Number(masked));
    const bench = new BenchUnit().setRoot(SCALABLE).enableQueue();
    expect(bench.unit.readReg32(REG.GSTS)).toBe(Number(gsts));
    bench.unit.writeReg32(REG.GCMD, Number(write_to_set_TE));
    expect(bench.unit.readReg32(REG.GSTS)).toBe(0xc400_0000);
  });
});

describe('access types and reset values (VT-d 11.4)', () => {
  const { unit } = new BenchUnit();
  it.each(REGISTERS.map((register) => [register.name, register] as const))(
    '%s: only its RW fields change, reserved bits read 0',
    (name, register) => {
      if (['GCMD', 'CCMD', 'VCMD', 'ECMD', 'IVA', 'IOTLB', 'PMEN'].includes(name)) return;
      for (let half = 0; half < register.words; half++) {
        const offset = register.offset + 4 * half;
        const before = unit.readReg32(offset);
        unit.writeReg32(offset, 0xffff_ffff);
        const rw = register.rwMask[half] as number;
        const kept = (unit.readReg32(offset) & ~rw) >>> 0;
        expect((kept & (register.rw1cMask[half] as number)) >>> 0).toBe(0);
        const fixed = ~(rw | (register.rw1cMask[half] as number) | 0x4000_0000);
        expect((unit.readReg32(offset) & fixed) >>> 0).toBe((before & fixed) >>> 0);
        unit.writeReg32(offset, 0);
      }
    },
  );

  it('event controls reset masked; everything else of a fresh unit is 0', () => {
    const fresh = new BenchUnit().unit;
    const nonzero: number[] = [];
    for (let offset = 0; offset < 0x1000; offset += 4)
      if (fresh.readReg32(offset) !== 0) nonzero.push(offset);
    expect(nonzero).toEqual([0, 8, 0xc, 0x10, 0x14, 0x38, 0xa0, 0xe0]);
  });

  it('IQT keeps [18:4], PQH and PQT [18:5], FEADDR [31:2], FEDATA [15:0]', () => {
    const fresh = new BenchUnit().unit;
    fresh.writeRegister64(0x88, 0xffff_ffff_ffff_ffffn);
    fresh.writeRegister64(0xc0, 0xffff_ffff_ffff_ffffn);
    fresh.writeReg32(0x40, 0xffff_ffff);
    fresh.writeReg32(0x3c, 0xffff_ffff);
    expect(fresh.readRegister64(0x88)).toBe(0x7_fff0n);
    expect(fresh.readRegister64(0xc0)).toBe(0x7_ffe0n);
    expect([fresh.readReg32(0x40), fresh.readReg32(0x3c)]).toEqual([0xffff_fffc, 0xffff]);
  });

  it('registers of absent parts read 0 and drop writes', () => {
    const { unit: old } = new BenchUnit({
      capabilities: { ver: 0x10, cap: 0xd2_008c_206f_0606n, ecap: 0xf0_0f40n },
    });
    for (const offset of [0x80, 0x88, 0x90, 0x9c, 0xa0, 0xb8, 0xc8, 0xd0, 0xe0, 0x108, 0xe00]) {
      old.writeReg32(offset, 0xffff_ffff);
      expect([offset, old.readReg32(offset)]).toEqual([offset, 0]);
    }
  });

  it('offsets outside the register pages read 0; misaligned ones are refused', () => {
    const fresh = new BenchUnit().unit;
    fresh.writeReg32(0x10_0000, 1);
    expect(fresh.readReg32(0x10_0000)).toBe(0);
    expect(() => fresh.readReg32(2)).toThrow('register offset 2 is not a multiple of 4');
    expect(() => fresh.readRegister64(4)).toThrow('multiple of 8');
    expect(() => fresh.writeRegister64(8, 1n << 64n)).toThrow('does not have 64 bits');
  });
});

describe('global command (VT-d 11.4.4)', () => {
  it('RTADDR alone changes nothing; SRTP latches it', () => {
    const bench = new BenchUnit().poke({ ...legacy(), ...secondStage() }).enable(LEGACY);
    bench.unit.writeRegister64(REG.RTADDR, 0x9000n);
    expect(bench.read(RID, IOVA)).toBe(0x44000);
    expect(bench.unit.readRegister64(REG.RTADDR)).toBe(0x9000n);
    bench.command(0x4000_0000);
    expect(bench.read(RID, IOVA)).toBe(-1);
  });

  it('TE without SRTP uses root table 0', () => {
    const bench = new BenchUnit();
    bench.unit.writeReg32(REG.GCMD, 0x8000_0000);
    expect(bench.unit.readReg32(REG.GSTS)).toBe(0x8000_0000);
    expect(bench.read(RID, IOVA)).toBe(-1);
  });

  it('WBF and SFL leave no status; IRE needs interrupt remapping', () => {
    const bench = new BenchUnit();
    bench.unit.writeReg32(REG.GCMD, 0x3b00_0000);
    expect(bench.unit.readReg32(REG.GSTS)).toBe(0);
    const remapping = new BenchUnit({ capabilities: { ecap: { IR: 1 } } });
    remapping.unit.writeReg32(REG.GCMD, 0x0380_0000);
    expect(remapping.unit.readReg32(REG.GSTS)).toBe(0x0380_0000);
  });

  it('GCMD reads 0', () => {
    const bench = new BenchUnit().enable(LEGACY);
    expect(bench.unit.readReg32(REG.GCMD)).toBe(0);
  });
});

describe('register-based invalidation (VT-d 6.5.1)', () => {
  const IVA = 0xf0;
  const IOTLB = 0xf8;
  const options = { capabilities: LEGACY_PROFILE };
  function stale() {
    const bench = new BenchUnit(options).poke({ ...legacy(), ...secondStage() }).enable(LEGACY);
    expect(bench.read(RID, IOVA)).toBe(0x44000);
    return bench.poke({ 77864: 0x4500_0003n });
  }

  it.each([
    ['global', 0x9003_0000_0000_0000n, 0n, true, 1n],
    ['domain 5', 0xa003_0005_0000_0000n, 0n, true, 2n],
    ['domain 6', 0xa003_0006_0000_0000n, 0n, false, 2n],
    ['page of domain 5', 0xb003_0005_0000_0000n, 0x8000_4042n, true, 3n],
    ['another page of domain 5', 0xb003_0005_0000_0000n, 0x8000_8000n, false, 3n],
    ['page with address bits above MGAW', 0xb003_0005_0000_0000n, 0xffff_0000_8000_5000n, true, 3n],
    ['page with AM above MAMV', 0xb003_0005_0000_0000n, 0x8000_5013n, false, 0n],
    ['granularity 0', 0x8003_0005_0000_0000n, 0n, false, 0n],
  ])('IOTLB %s', (_, command, iva, goes, granularity) => {
    const bench = stale();
    bench.unit.writeRegister64(IVA, iva);
    bench.unit.writeRegister64(IOTLB, command);
    const after = bench.unit.readRegister64(IOTLB);
    expect([after >> 63n, (after >> 57n) & 3n]).toEqual([0n, granularity]);
    expect(bench.read(RID, IOVA)).toBe(goes ? 0x45000 : 0x44000);
  });

  it.each([
    ['global', 0xa000_0000_0000_0000n, true, 1n],
    ['domain 5', 0xc000_0000_0000_0005n, true, 2n],
    ['domain 6', 0xc000_0000_0000_0006n, false, 2n],
    ['device', 0xe000_0000_0020_0005n, true, 3n],
    ['another device', 0xe000_0000_0028_0005n, false, 3n],
    ['granularity 0', 0x8000_0000_0000_0005n, false, 0n],
  ])('CCMD %s', (_, command, goes, granularity) => {
    const bench = new BenchUnit(options).poke(legacy(0x9n, 0x502n)).enable(LEGACY);
    expect(bench.read(RID, IOVA)).toBe(0x80005);
    bench.poke({ 8704: 0n });
    bench.unit.writeRegister64(REG.CCMD, command);
    const after = bench.unit.readRegister64(REG.CCMD);
    expect([after >> 63n, (after >> 59n) & 3n]).toEqual([0n, granularity]);
    expect(bench.read(RID, IOVA)).toBe(goes ? -2 : 0x80005);
  });

  it.each([
    ['while QIES=1', (bench: BenchUnit) => bench.enableQueue(false)],
    ['in scalable table mode', (bench: BenchUnit) => bench.setRoot(SCALABLE)],
  ])('does nothing and reports granularity 0 %s', (_, prepare) => {
    const bench = stale();
    prepare(bench);
    bench.unit.writeRegister64(IOTLB, 0x9003_0000_0000_0000n);
    expect((bench.unit.readRegister64(IOTLB) >> 57n) & 3n).toBe(0n);
  });

  it('does nothing from major version 6 on', () => {
    const bench = new BenchUnit().poke({ ...legacy(), ...secondStage() }).enable(LEGACY);
    bench.read(RID, IOVA);
    bench.poke({ 77864: 0x4500_0003n });
    bench.unit.writeRegister64(0xf08, 0x9003_0000_0000_0000n);
    expect((bench.unit.readRegister64(0xf08) >> 57n) & 3n).toBe(0n);
    expect(bench.read(RID, IOVA)).toBe(0x44000);
  });
});

describe('requests before any table (VT-d 3.14, sheet D.1)', () => {
  it('translation off: untranslated passes, ATS and page requests are refused without a record', () => {
    const bench = new BenchUnit();
    expect(bench.read(RID, IOVA)).toBe(0x80005);
    expect(bench.unit.translatedPage(RID, -1, 0x44000, ACCESS.READ)).toBe(BLOCKED_SILENTLY);
    expect(bench.unit.readReg32(REG.FSTS)).toBe(0);
  });

  it('FEEx_xxxxh: writes go to interrupt logic, zero-length reads complete, the rest is refused', () => {
    const bench = new BenchUnit().poke({ ...legacy(), ...secondStage() }).enable(LEGACY);
    expect(bench.write(RID, 0xfeef_f000n)).toBe(0xfeeff);
    expect(bench.read(RID, 0xfee0_0000n, -1, ACCESS.ZERO_LENGTH)).toBe(0xfee00);
    expect(bench.read(RID, 0xfee0_0000n)).toBe(-0x29);
    expect(bench.unit.readReg32(REG.FSTS)).toBe(0);
  });
});

describe('protected memory (VT-d 11.4.8)', () => {
  const options = { capabilities: { cap: { PLMR: 1, PHMR: 1 } } };
  function protect(bench: BenchUnit) {
    const { unit } = bench;
    unit.writeReg32(0x68, 0x4400_0000);
    unit.writeReg32(0x6c, 0x4400_0000);
    unit.writeRegister64(0x70, 0x1_0000_0000n);
    unit.writeRegister64(0x78, 0x1_0fff_ffffn);
    unit.writeReg32(0x64, 0x8000_0000);
    return bench;
  }

  it('blocks DMA to both regions without a record, translated or not', () => {
    const bench = protect(new BenchUnit(options));
    expect(bench.unit.readReg32(0x64)).toBe(0x8000_0001);
    expect(bench.read(RID, 0x4400_0000n)).toBe(BLOCKED_SILENTLY);
    expect(bench.read(RID, 0x440f_f000n)).toBe(BLOCKED_SILENTLY);
    expect(bench.read(RID, 0x4410_0000n)).toBe(0x44100);
    expect(bench.read(RID, 0x1_0800_0000n)).toBe(BLOCKED_SILENTLY);
    expect(bench.read(RID, 0x1_1000_0000n)).toBe(0x11_0000);
    bench.poke({ ...legacy(), ...secondStage() }).enable(LEGACY);
    expect(bench.read(RID, IOVA)).toBe(BLOCKED_SILENTLY);
    expect(bench.unit.readReg32(REG.FSTS)).toBe(0);
    bench.unit.writeReg32(0x64, 0);
    expect(bench.read(RID, IOVA)).toBe(0x44000);
  });

  it('a limit below the base is no region, and registers are locked while active', () => {
    const bench = new BenchUnit(options);
    bench.unit.writeReg32(0x68, 0x4410_0000);
    bench.unit.writeReg32(0x6c, 0x4400_0000);
    bench.unit.writeRegister64(0x70, 0x2_0000_0000n);
    bench.unit.writeReg32(0x64, 0x8000_0000);
    expect(bench.read(RID, 0x4400_0000n)).toBe(0x44000);
    bench.unit.writeReg32(0x68, 0);
    expect(bench.unit.readReg32(0x68)).toBe(0x4410_0000);
  });
});

describe('virtual commands (VT-d 11.4.15)', () => {
  const virtual = () => new BenchUnit({ capabilities: { ecap: { VCS: 1, PSS: 1 } } }).unit;
  it('allocates PASIDs until none is left, frees them, refuses the rest', () => {
    const unit = virtual();
    expect(unit.readRegister64(0xe30)).toBe(7n);
    const allocate = () => {
      unit.writeRegister64(0xe00, 1n);
      return unit.readRegister64(0xe10);
    };
    expect([allocate(), allocate(), allocate(), allocate()]).toEqual([
      0x1_0000n,
      0x2_0000n,
      0x3_0000n,
      0x20n,
    ]);
    unit.writeRegister64(0xe00, 0x2_0002n);
    expect(unit.readRegister64(0xe10)).toBe(0n);
    unit.writeRegister64(0xe00, 0x2_0002n);
    expect(unit.readRegister64(0xe10)).toBe(0x20n);
    expect(allocate()).toBe(0x2_0000n);
    unit.writeRegister64(0xe00, 0n);
    expect(unit.readRegister64(0xe10)).toBe(0n);
    unit.writeRegister64(0xe00, 9n);
    expect(unit.readRegister64(0xe10)).toBe(2n);
  });

  it('carries PASIDs of 20 bits as the computed words do', () => {
    const freed: number[] = [];
    const { unit } = new BenchUnit({
      capabilities: { ecap: { VCS: 1 } },
      pasidAllocator: {
        allocatePasid: () => 0x12345,
        freePasid: (pasid) => freed.push(pasid) > 0,
      },
    });
    unit.writeRegister64(0xe00, BigInt(words.vcmd_alloc));
    expect(unit.readRegister64(0xe10)).toBe(BigInt(words.vcrsp_alloc_ok_pasid_0x12345));
    unit.writeRegister64(0xe00, BigInt(words.vcmd_free));
    expect(freed).toEqual([0x12345]);
  });
});

describe('enhanced commands (VT-d 11.4.13)', () => {
  it('are all undefined', () => {
    const { unit } = new BenchUnit({ capabilities: { cap: { ECMDS: 1 } } });
    unit.writeRegister64(0x400, 0xf0n);
    expect(unit.readRegister64(0x410)).toBe(2n);
  });
});

describe('capabilities', () => {
  it.each([
    ['ECAP.NEST=1 needs ECAP.FSTS=1', { ecap: { FSTS: 0, EAFS: 0 } }],
    ['ECAP.SSADS=1 needs ECAP.SMPWCS=1', { ecap: { SMPWCS: 0, EAFS: 0 } }],
    ['ECAP.PRS=1 needs ECAP.DT=1', { ecap: { DT: 0 } }],
    ['ECAP.PMS=0 (not part of this model)', { ecap: { PMS: 1 } }],
    ['ECAP.HPT1GPS=1 needs ECAP.HPTS=1', { ecap: { HPT1GPS: 1 } }],
    ['ECAP.HPTS=1 needs ECAP.DT=1', { ecap: { HPTS: 1, DT: 0, PRS: 0, PDS: 0, NWFS: 0 } }],
    ['ECAP.EIMER=1 needs ECAP.EIM=1', { ecap: { IR: 1, EIMER: 1 } }],
    ['ECAP.IRREQ=1 needs ECAP.IR=1', { ecap: { IRREQ: 1 } }],
    ['CAP.PI=1 needs ECAP.IR=1', { cap: { PI: 1 } }],
    ['CAP.SSLPS is 0, 1 or 3', { cap: { SSLPS: 2 } }],
    ['CAP.SAGAW has bits 1, 2 and 3 only', { cap: { SAGAW: 1 } }],
  ])('%s', (text, capabilities) => {
    expect(() => featuresOf(capabilities)).toThrow(text);
  });

  it('raw values of real machines are taken as they are', () => {
    const machine = { ver: 0x10, cap: 0x1c0_000c_4066_0462n, ecap: 0x49e_2ff0_505en };
    const { unit } = new BenchUnit({ capabilities: machine });
    expect(unit.readRegister64(8)).toBe(machine.cap);
    expect(unit.readRegister64(0x10)).toBe(machine.ecap);
    expect(unit.features).toMatchObject({
      scalable: false,
      mgawBits: 39,
      didBits: 8,
      frcdOffset: 0x400,
    });
  });

  it('a host address width outside 32 to 52 is refused', () => {
    expect(() => featuresOf(RECOMMENDED, 60)).toThrow('hostAddressWidthBits is 60');
  });
});

describe('snapshot and restore', () => {
  it('brings back registers, latched state and stale cache entries', () => {
    const bench = new BenchUnit();
    bench.poke({ ...scalable(), ...pasidEntry(0, PT_ENTRY), ...secondStage() });
    bench.setRoot(SCALABLE).enableQueue().enable(SCALABLE);
    bench.read(RID, IOVA);
    bench.read(0x28, IOVA);
    const state = bench.unit.snapshot();
    bench.poke({ 28672: 0n });
    bench.submit([0x37], [0x11]);
    bench.unit.writeReg32(REG.GCMD, 0);
    bench.setRoot(LEGACY);
    bench.unit.restore(state);
    expect(bench.unit.readReg32(REG.GSTS)).toBe(0xc400_0000);
    expect(bench.read(RID, IOVA)).toBe(0x80005);
    expect(bench.unit.snapshot().registers).toEqual(state.registers);
    const other = new BenchUnit();
    other.poke({ ...scalable() });
    other.unit.restore(state);
    expect(other.read(RID, IOVA)).toBe(0x80005);
  });

  it.each([
    ['register space', { capabilities: { cap: { FRO: 0x200 } } }, 'register dwords'],
    ['IOTLB size', { iotlbEntriesLg2: 5 }, 'sets of 4 KiB entries'],
  ])('refuses the state of a unit with another %s, and changes nothing', (_, options, text) => {
    const other = new BenchUnit(options);
    other.setRoot(SCALABLE);
    const bench = new BenchUnit().poke({ ...legacy(), ...secondStage() }).enable(LEGACY);
    expect(bench.read(RID, IOVA)).toBe(0x44000);
    const before = bench.unit.snapshot();
    expect(() => bench.unit.restore(other.unit.snapshot())).toThrow(text);
    expect(bench.unit.snapshot()).toEqual(before);
  });

  it('a warm reset keeps sticky status and records, and nothing else (VT-d 11.2)', () => {
    const bench = new BenchUnit().poke({ ...legacy(), ...secondStage() }).enable(LEGACY);
    const { unit } = bench;
    bench.read(RID, 0x1000n);
    bench.enableQueue(false).submit([0x15], [0]);
    unit.writeReg32(REG.FECTL + 4, 0x55);
    unit.registers.set(REG.PRS, 3);
    const sticky = [REG.FSTS, REG.ICS, REG.IQERCD, REG.PRS, REG.FRCD, REG.FRCD + 8, REG.FRCD + 12];
    const before = sticky.map((offset) => unit.readReg32(offset));
    expect(before).toEqual([0x12, 1, 3, 3, 0x1000, RID, 0xc000_0006]);
    unit.reset('warm');
    expect(sticky.map((offset) => unit.readReg32(offset))).toEqual(before);
    const fresh = new BenchUnit().unit;
    for (let offset = 0; offset < REG.FRCD; offset += 4)
      if (!(sticky as number[]).includes(offset))
        expect([offset, unit.readReg32(offset)]).toEqual([offset, fresh.readReg32(offset)]);
    expect(bench.read(RID, IOVA)).toBe(0x80005);
    unit.reset();
    expect(sticky.map((offset) => unit.readReg32(offset))).toEqual([0, 0, 0, 0, 0, 0, 0]);
  });

  it('reset is power-on', () => {
    const bench = new BenchUnit().poke({ ...legacy(), ...secondStage() }).enable(LEGACY);
    bench.read(RID, 0x1000n);
    bench.unit.reset();
    expect(bench.unit.snapshot().registers).toEqual(new BenchUnit().unit.snapshot().registers);
    expect(bench.read(RID, IOVA)).toBe(0x80005);
  });
});
