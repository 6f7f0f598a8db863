/** Interrupt remapping: from a device's write to the message a processor gets. */
import { ACCESS } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import {
  createVtdHardware,
  formatExplanation,
  INTERRUPT_REQUEST,
} from '../../src/hardware/index.ts';
import { GCMD, IRTA } from '../../src/spec/index.ts';
import { vectorsText } from '../vectors.ts';
import { BenchUnit, REG } from './bench-unit.ts';
import {
  enableInterrupts,
  entry,
  INTERRUPT_OPTIONS,
  interrupt,
  interruptBench,
  postedEntry,
  put,
  remappable,
  TABLE,
} from './interrupt-tables.ts';
import { IOVA, LEGACY, legacy, RID, secondStage } from './tables.ts';

const { IRE, SIRTP } = GCMD.fields;
const remapping = (memory: Record<number, bigint>, setup = {}, options = INTERRUPT_OPTIONS) =>
  enableInterrupts(interruptBench(memory, options), setup);
const cached = (bench: BenchUnit) => bench.unit.interruptCache.entries().map(({ index }) => index);
const message = (addressLo: number, data: number, addressHi = 0) => ({
  addressLo,
  addressHi,
  data,
});

describe('remapped messages (VT-d 5.1.4, 9.9)', () => {
  const rows: [string, Parameters<typeof entry>[1], ReturnType<typeof message>][] = [
    ['fixed, edge, physical', {}, message(0xfee0_3000, 0x4051)],
    ['logical', { DM: 1 }, message(0xfee0_3004, 0x4051)],
    ['redirection hint', { RH: 1 }, message(0xfee0_3008, 0x4051)],
    ['level', { TM: 1 }, message(0xfee0_3000, 0xc051)],
    ['lowest priority', { DLM: 1 }, message(0xfee0_3000, 0x4151)],
    ['SMI', { DLM: 2, V: 0 }, message(0xfee0_3000, 0x4200)],
    ['NMI', { DLM: 4 }, message(0xfee0_3000, 0x4451)],
    ['INIT', { DLM: 5 }, message(0xfee0_3000, 0x4551)],
    ['ExtINT', { DLM: 7 }, message(0xfee0_3000, 0x4751)],
    ['every APIC id', { DST: 0xff00, V: 0xff }, message(0xfeef_f000, 0x40ff)],
    ['AVAIL ignored', { AVAIL: 15 }, message(0xfee0_3000, 0x4051)],
  ];
  it.each(rows)('xAPIC: %s', (_, fields, wanted) => {
    const bench = remapping(entry(9, fields));
    expect(interrupt(bench, remappable(9))).toEqual(wanted);
    // Again from the cache.
    expect(interrupt(bench, remappable(9))).toEqual(wanted);
    expect(bench.unit.stats()).toMatchObject({ interrupts: 2, interruptsBlocked: 0, faults: 0 });
  });

  it('x2APIC: 32 bits of destination, the upper 24 in the upper address', () => {
    const bench = remapping(entry(9, { DST: 0x1234_5678 }), { extended: true });
    expect(interrupt(bench, remappable(9))).toEqual(message(0xfee7_8000, 0x4051, 0x1234_5600));
    const narrow = remapping(entry(9, { DST: 0x1234_5678 }));
    expect(interrupt(narrow, remappable(9))).toBe(-0x24);
  });
});

describe('remappable requests (VT-d 5.1.2.2, 5.1.3)', () => {
  const BIG = { size: 15 };
  it.each<[string, number, number, number]>([
    ['handle', remappable(5), 0, 5],
    ['handle, bit 15 in address bit 2', remappable(0x8005), 0, 0x8005],
    ['all of the handle', remappable(0xffff), 0, 0xffff],
    ['data is ignored without SHV', remappable(5), 0xffff_ffff, 5],
    ['handle and subhandle', remappable(5, true), 3, 8],
    ['subhandle alone', remappable(0, true), 0x1234, 0x1234],
    ['address bits 1:0 are ignored', remappable(5) + 3, 0, 5],
  ])('%s', (_, address, data, index) => {
    const bench = remapping(entry(index), BIG);
    expect(interrupt(bench, address, data)).toEqual(message(0xfee0_3000, 0x4051));
    expect(cached(bench)).toEqual([index]);
  });

  it('handle and subhandle do not wrap: 21h with the low bits of the index', () => {
    const bench = remapping(entry(0), BIG);
    expect(interrupt(bench, remappable(0xffff, true), 1)).toBe(-0x21);
    expect(bench.record().lo).toBe(0n);
    expect(interrupt(bench, remappable(0xffff, true), 3)).toBe(-0x21);
    expect(bench.record(1).lo).toBe(0x2n << 48n);
  });

  it('S: 2^(S+1) entries', () => {
    for (const size of [0, 3, 15]) {
      const last = 2 ** (size + 1) - 1;
      const bench = remapping(entry(last), { size });
      expect(interrupt(bench, remappable(last))).toEqual(message(0xfee0_3000, 0x4051));
      if (size < 15) expect(interrupt(bench, remappable(last + 1))).toBe(-0x21);
    }
  });

  it('IRTA takes effect with SIRTP; before the first one there is no entry', () => {
    const bench = interruptBench({ ...entry(1), ...entry(1, { V: 0x77 }, 0x9_0000) });
    bench.command(IRE.mask);
    expect(interrupt(bench, remappable(1))).toBe(-0x21);
    enableInterrupts(bench);
    bench.unit.writeRegister64(IRTA.offset, 0x9_0007);
    expect(interrupt(bench, remappable(1))).toEqual(message(0xfee0_3000, 0x4051));
    expect(bench.unit.readReg32(REG.GSTS) & 0x0300_0000).toBe(0x0300_0000);
    bench.command(SIRTP.mask);
    bench.submit([4n]);
    expect(interrupt(bench, remappable(1))).toEqual(message(0xfee0_3000, 0x4077));
  });

  it('EIME is reserved without EIM', () => {
    const bench = interruptBench({}, { capabilities: { ecap: { IR: 1 } } });
    bench.unit.writeRegister64(IRTA.offset, 0xffff_ffff_ffff_ffffn);
    expect(bench.unit.readRegister64(IRTA.offset)).toBe(0xffff_ffff_ffff_f00fn);
    const extended = interruptBench({});
    extended.unit.writeRegister64(IRTA.offset, 0xffff_ffff_ffff_ffffn);
    expect(extended.unit.readRegister64(IRTA.offset)).toBe(0xffff_ffff_ffff_f80fn);
  });

  it('an address outside FEEx_xxxxh is no interrupt request', () => {
    const bench = remapping({});
    for (const address of [0xfed0_0000, 0xfef0_0000, 0x1_fee0_0000])
      expect(() => interrupt(bench, address)).toThrow('is outside FEE00000h to FEEFFFFFh');
    expect(bench.unit.stats().interrupts).toBe(0);
  });
});

describe('source validation (VT-d 9.9, SVT, SQ, SID)', () => {
  const rows: [number, number, number, readonly [number, boolean][]][] = [
    [
      0,
      0,
      0x1234,
      [
        [0, true],
        [0xffff, true],
      ],
    ],
    [
      1,
      0,
      0x0123,
      [
        [0x123, true],
        [0x122, false],
        [0x127, false],
        [0x223, false],
      ],
    ],
    [
      1,
      1,
      0x0123,
      [
        [0x123, true],
        [0x127, true],
        [0x121, false],
        [0x12b, false],
      ],
    ],
    [
      1,
      2,
      0x0123,
      [
        [0x123, true],
        [0x125, true],
        [0x127, true],
        [0x122, false],
        [0x12b, false],
      ],
    ],
    [
      1,
      3,
      0x0123,
      [
        [0x120, true],
        [0x127, true],
        [0x128, false],
        [0x023, false],
      ],
    ],
    [
      2,
      0,
      0x0305,
      [
        [0x300, true],
        [0x4ff, true],
        [0x5aa, true],
        [0x2ff, false],
        [0x600, false],
      ],
    ],
    [
      2,
      3,
      0x0503,
      [
        [0x400, false],
        [0x500, false],
        [0x300, false],
      ],
    ],
  ];
  it.each(rows)('SVT %i, SQ %i, SID %i', (SVT, SQ, SID, requesters) => {
    for (const [rid, passes] of requesters) {
      const bench = remapping(entry(1, { SVT, SQ, SID }));
      const answer = interrupt(bench, remappable(1), 0, rid);
      expect([rid, typeof answer === 'object' || answer]).toEqual([rid, passes || -0x26]);
    }
  });

  it('SVT 3 is reserved', () => {
    expect(interrupt(remapping(entry(1, { SVT: 3 })), remappable(1))).toBe(-0x24);
  });

  it('a cached entry still validates each request', () => {
    const bench = remapping(entry(1, { SVT: 1, SID: RID }));
    expect(interrupt(bench, remappable(1))).toEqual(message(0xfee0_3000, 0x4051));
    expect(interrupt(bench, remappable(1), 0, RID + 1)).toBe(-0x26);
  });

  it('the source is verified before the rest of the entry', () => {
    const bench = remapping(entry(1, { SVT: 1, SID: RID, DLM: 3 }));
    expect(interrupt(bench, remappable(1), 0, RID + 1)).toBe(-0x26);
    expect(interrupt(bench, remappable(1))).toBe(-0x24);
  });
});

const bits = (hi: number, lo: number) => (1n << BigInt(hi + 1)) - (1n << BigInt(lo));

describe('reserved bits of entries (VT-d 9.9, 9.10)', () => {
  /** Bits that may have any value, but for codes that are reserved. */
  const COMMON = bits(1, 0) | bits(11, 8) | bits(23, 16) | bits(83, 64);
  const tables: [string, boolean, object, bigint][] = [
    ['remapped, xAPIC', false, {}, COMMON | bits(7, 2) | bits(47, 40)],
    ['remapped, x2APIC', true, {}, COMMON | bits(7, 2) | bits(63, 32)],
    ['posted', true, { IM: 1 }, COMMON | bits(15, 14) | bits(63, 38) | bits(109, 96)],
  ];
  it.each(tables)('%s: each of them alone is refused', (_, extended, fields, legal) => {
    for (let at = 2; at < 128; at++) {
      if (((legal >> BigInt(at)) & 1n) === 1n || (at === 15 && !('IM' in fields))) continue;
      const words = 'IM' in fields ? postedEntry(1) : entry(1, { DST: extended ? 3 : 0x300 });
      const half = TABLE + 16 + (at >> 6) * 8;
      words[half] = (words[half] as bigint) | (1n << BigInt(at & 63));
      const bench = remapping(words, { extended });
      expect([at, interrupt(bench, remappable(1))]).toEqual([at, -0x24]);
      expect(cached(bench)).toEqual([]);
    }
  });

  it('IM is reserved without CAP.PI', () => {
    const options = { capabilities: { ecap: { IR: 1 } } };
    expect(interrupt(remapping(entry(1, { IM: 1 }), {}, options), remappable(1))).toBe(-0x24);
    const bench = remapping(postedEntry(1), {}, options);
    expect(interrupt(bench, remappable(1))).toBe(-0x24);
  });

  it.each([3, 6])('delivery mode %i is reserved', (DLM) => {
    expect(interrupt(remapping(entry(1, { DLM })), remappable(1))).toBe(-0x24);
  });

  it('an entry with P=0 is not looked at, but for FPD', () => {
    const words = put(TABLE + 16, [0xffff_fffc | 0, -1, -1, -1]);
    expect(interrupt(remapping(words), remappable(1))).toBe(-0x22);
    const silent = remapping(put(TABLE + 16, [-2, -1, -1, -1]));
    expect(interrupt(silent, remappable(1))).toBe(-0x22);
    expect(silent.record().hi).toBe(0n);
  });
});

describe('compatibility format (VT-d 5.1.4)', () => {
  it.each<[string, object, number | object]>([
    ['CFIS=0', {}, -0x25],
    ['CFIS=1', { compatibility: true }, message(0xfee0_1224, 0x1_4055)],
    ['CFIS=1 in extended mode', { compatibility: true, extended: true }, -0x25],
  ])('%s', (_, setup, wanted) => {
    const bench = remapping({}, setup);
    expect(interrupt(bench, 0xfee0_1224, 0x1_4055)).toEqual(wanted);
  });

  it('remapping off: everything passes as it is, remappable format too', () => {
    const bench = interruptBench(entry(1));
    expect(interrupt(bench, remappable(1), 0x1_2345)).toEqual(message(remappable(1), 0x1_2345));
    enableInterrupts(bench);
    bench.unit.writeReg32(REG.GCMD, 0x0400_0000);
    expect(interrupt(bench, remappable(1))).toEqual(message(remappable(1), 0));
    expect(bench.unit.readReg32(REG.GSTS) & 0x0280_0000).toBe(0);
  });

  it('the unit behind a machine without interrupt remapping records nothing', () => {
    const bench = new BenchUnit();
    expect(interrupt(bench, remappable(1))).toEqual(message(remappable(1), 0));
    expect(interrupt(bench, remappable(1), 0, RID, 8)).toBe(-0x29);
    expect(bench.unit.stats()).toMatchObject({ faults: 0, interruptsBlocked: 1 });
  });

  it('2Ah blocks both formats', () => {
    const options = { capabilities: { ecap: { IR: 1, EIM: 1, EIMER: 1 } } };
    const bench = remapping(entry(1), { compatibility: true }, options);
    expect(interrupt(bench, remappable(1))).toBe(-0x2a);
    expect(interrupt(bench, 0xfee0_0000)).toBe(-0x2a);
  });
});

describe('records of interrupt faults (VT-d 5.1.4.1, 11.4.7.6)', () => {
  it('FI[63:48] is the index, whatever the address width', () => {
    const bench = remapping({}, { size: 15 });
    interrupt(bench, remappable(0xfedc));
    expect(bench.record()).toMatchObject({ lo: 0xfedcn << 48n, hi: 0x8000_0022_0000_0020n });
    const [vector] = JSON.parse(vectorsText).fault_records.filter(({ name }: { name: string }) =>
      name.startsWith('interrupt remapping'),
    );
    const same = remapping({});
    interrupt(same, remappable(0x12));
    expect(same.record()).toMatchObject({ lo: BigInt(vector.lo), hi: BigInt(vector.hi) });
  });

  it.each<[string, number, Record<number, bigint>]>([
    ['24h', 0x24, entry(1, { FPD: 1, DLM: 3 })],
    ['26h', 0x26, entry(1, { FPD: 1, SVT: 1, SID: 9 })],
    ['27h', 0x27, postedEntry(1, { FPD: 1, PDAH: 0x80 })],
    [
      '28h',
      0x28,
      { ...postedEntry(1, { FPD: 1 }), ...put(0x7_0040, [0, 0, 0, 0, 0, 0, 0, 0, 4, 0]) },
    ],
  ])('%s is qualified: FPD silences it', (_, reason, memory) => {
    const bench = remapping(memory);
    expect(interrupt(bench, remappable(1))).toBe(-reason);
    expect([bench.record().hi, bench.unit.stats().interruptsBlocked]).toEqual([0n, 1]);
  });

  it('the FPD of one request says nothing about the next', () => {
    const bench = remapping(entry(1, { FPD: 1 }));
    interrupt(bench, remappable(1));
    expect(interrupt(bench, remappable(0x7fff))).toBe(-0x21);
    expect(bench.record().reason).toBe(0x21);
  });

  it('interrupt faults share records, overflow and event with DMA faults', () => {
    const bench = remapping({});
    bench.unit.writeReg32(REG.FECTL, 0);
    bench.unit.writeReg32(REG.FECTL + 8, 0xfee0_1000);
    for (let i = 0; i < 9; i++) interrupt(bench, remappable(i));
    expect(bench.unit.readReg32(REG.FSTS)).toBe(3);
    expect(bench.bus.messages).toEqual([[0xfee0_1000, 0]]);
  });
});

describe('the interrupt entry cache (VT-d 6.4, 6.5.2.8)', () => {
  const filled = (options = INTERRUPT_OPTIONS) => {
    const bench = remapping(
      Object.assign({}, ...[16, 17, 18, 19, 20, 64].map((index) => entry(index))),
      {},
      options,
    );
    for (const index of [16, 17, 18, 19, 20, 64]) interrupt(bench, remappable(index));
    return bench;
  };
  const iec = (index: bigint, mask: bigint) => [0x14n | (mask << 27n) | (index << 32n)];

  it('an entry answers until it is invalidated, whatever happens to the table', () => {
    const bench = filled().poke(entry(16, { V: 0x99 }));
    expect(interrupt(bench, remappable(16))).toEqual(message(0xfee0_3000, 0x4051));
    bench.submit(iec(16n, 0n));
    expect(interrupt(bench, remappable(16))).toEqual(message(0xfee0_3000, 0x4099));
  });

  it.each<[string, bigint[], number[]]>([
    ['global', [4n], []],
    ['global, index and mask ignored', [4n | (3n << 27n) | (99n << 32n)], []],
    ['one index', iec(17n, 0n), [16, 18, 19, 20, 64]],
    ['two indexes', iec(16n, 1n), [18, 19, 20, 64]],
    ['four indexes, aligned by the mask', iec(18n, 2n), [20, 64]],
    ['another index', iec(21n, 0n), [16, 17, 18, 19, 20, 64]],
    ['mask 6', iec(1n, 6n), [64]],
    ['mask 31', iec(0xffffn, 31n), []],
  ])('iec_inv: %s', (_, words, left) => {
    const bench = filled().submit(words);
    expect(cached(bench)).toEqual(left);
    expect(bench.unit.readReg32(REG.FSTS)).toBe(0);
    expect(bench.unit.stats().entriesInvalidated).toBe(6 - left.length);
  });

  it('no other command touches it', () => {
    const bench = filled().submit([0x11n], [0x12n], [0x37n]);
    bench.setRoot(0x3400);
    expect(cached(bench)).toHaveLength(6);
  });

  it.each([0, 1])('ESIRTPS=%i: SIRTP and IRE=0 empty it with ESIRTPS only', (ESIRTPS) => {
    const options = { capabilities: { cap: { ESIRTPS }, ecap: { IR: 1 } } };
    const bench = filled(options);
    bench.command(SIRTP.mask);
    expect(cached(bench)).toHaveLength(ESIRTPS ? 0 : 6);
    const off = filled(options);
    off.unit.writeReg32(REG.GCMD, 0x0400_0000);
    expect(cached(off)).toHaveLength(ESIRTPS ? 0 : 6);
  });

  it('faults are kept with caching mode only', () => {
    for (const CM of [0, 1]) {
      const options = { capabilities: { cap: { CM, PI: 1 }, ecap: { IR: 1 } } };
      const bench = remapping(entry(3, { SVT: 1, SID: 9 }), {}, options);
      expect([interrupt(bench, remappable(1)), interrupt(bench, remappable(3))]).toEqual([
        -0x22, -0x26,
      ]);
      bench.poke(entry(1));
      expect(typeof interrupt(bench, remappable(1))).toBe(CM ? 'number' : 'object');
      bench.submit([4n]);
      expect(interrupt(bench, remappable(1))).toEqual(message(0xfee0_3000, 0x4051));
    }
  });

  it('snapshot, restore and reset carry table and cache', () => {
    const bench = filled();
    const state = bench.unit.snapshot();
    bench.poke(entry(16, { V: 0x99 }));
    bench.unit.reset();
    expect(cached(bench)).toEqual([]);
    bench.command(IRE.mask);
    expect(interrupt(bench, remappable(16))).toBe(-0x21);
    bench.unit.reset();
    expect(interrupt(bench, remappable(16))).toEqual(message(remappable(16), 0));
    bench.unit.restore(state);
    expect(interrupt(bench, remappable(16))).toEqual(message(0xfee0_3000, 0x4051));
    expect(bench.unit.snapshot()).toEqual(state);
    const fresh = createVtdHardware({ memory: bench.memory, bus: bench.bus, ...INTERRUPT_OPTIONS });
    fresh.restore(state);
    expect(fresh.snapshot()).toEqual(state);
  });
});

describe('writes that arrive as DMA (VT-d 3.14)', () => {
  const interrupts = (translating: boolean) => {
    const bench = remapping({ ...entry(1), ...legacy(), ...secondStage() });
    return translating ? bench.enable(LEGACY) : bench;
  };
  it.each([false, true])('TE=%s: no page answers for an interrupt request', (translating) => {
    const bench = interrupts(translating);
    bench.command(IRE.mask);
    const pfn = 0xfee00;
    expect(bench.unit.translatePage(RID, -1, pfn, ACCESS.WRITE)).toBe(INTERRUPT_REQUEST);
    expect(bench.unit.translatePage(RID, -1, pfn, ACCESS.READ)).toBe(-0x29);
    expect(bench.unit.translatePage(RID, -1, pfn, ACCESS.READ | ACCESS.ZERO_LENGTH)).toBe(pfn);
    expect(bench.unit.stats().faults).toBe(1);
  });

  it('with IRE=0 they pass to the platform', () => {
    const bench = interruptBench({ ...legacy(), ...secondStage() }).enable(LEGACY);
    expect(bench.write(RID, 0xfee0_0000n)).toBe(0xfee00);
    expect(bench.write(RID, IOVA)).toBe(0x44000);
  });

  it('IRREQ: also while remapping is off, from power-on', () => {
    const bench = new BenchUnit({ capabilities: { ecap: { IR: 1, IRREQ: 1 } } });
    expect(bench.write(RID, 0xfee0_0000n)).toBe(INTERRUPT_REQUEST);
    bench.unit.reset();
    expect(bench.write(RID, 0xfee0_0000n)).toBe(INTERRUPT_REQUEST);
    bench.unit.restore(
      new BenchUnit({ capabilities: { ecap: { IR: 1, IRREQ: 1 } } }).unit.snapshot(),
    );
    expect(bench.write(RID, 0xfee0_0000n)).toBe(INTERRUPT_REQUEST);
  });

  it('with PASID they are translated', () => {
    const bench = interrupts(true);
    expect(bench.write(RID, 0xfee0_0000n, 5)).toBe(-0x31);
  });
});

describe('explain', () => {
  const ask = (bench: BenchUnit, address: number, data = 0, cachedToo = true) =>
    bench.unit.explain({ rid: RID, iova: address, data, kind: 'interrupt', cached: cachedToo });

  it('shows entry and message, and changes nothing', () => {
    const bench = remapping(entry(9, { SVT: 1, SID: RID }));
    const trace = ask(bench, remappable(9));
    expect(trace).toMatchObject({
      reason: 0,
      pfn: undefined,
      message: message(0xfee0_3000, 0x4051),
      verdict: 'interrupt request delivered as 0x4051 to 0xfee03000',
    });
    expect(trace.steps.map(({ kind }) => kind)).toEqual(['cache', 'read']);
    expect(formatExplanation(trace)).toContain('V [23:16] = 0x51');
    expect([cached(bench), bench.unit.stats().interrupts]).toEqual([[], 0]);
    interrupt(bench, remappable(9));
    bench.poke(entry(9, { V: 0x99 }));
    expect(ask(bench, remappable(9)).message?.data).toBe(0x4051);
    expect(ask(bench, remappable(9), 0, false).message?.data).toBe(0x4099);
  });

  it('names the rule that blocks, and does not post', () => {
    const bench = remapping({ ...entry(1, { SVT: 1, SID: 9 }), ...postedEntry(2) });
    expect(ask(bench, remappable(1))).toMatchObject({
      reason: 0x26,
      reasonName: 'IR_SOURCE',
      recorded: true,
      message: undefined,
    });
    expect(bench.unit.stats().faults).toBe(0);
    const posted = ask(bench, remappable(2));
    expect(formatExplanation(posted)).toContain('would set PIR bit 66 and ON');
    expect(bench.memory.read64(0x7_0048)).toBe(0n);
    const write = bench.unit.explain({ rid: RID, iova: 0xfee0_0000, access: ACCESS.WRITE });
    expect(write.verdict).toContain('ask again with kind interrupt');
    expect(ask(bench, 0xfee0_0000).verdict).toContain('compatibility format blocked');
  });
});

describe('sanitizer', () => {
  const watched = () => {
    const bench = remapping(
      { ...entry(1), ...entry(2) },
      {},
      { ...INTERRUPT_OPTIONS, sanitize: true },
    );
    interrupt(bench, remappable(1));
    return bench;
  };
  const findings = (bench: BenchUnit) => bench.unit.sanitizer?.findings ?? [];

  it('names an entry that changed without iec_inv', () => {
    const bench = watched().poke(entry(1, { V: 0x99 }));
    bench.submit([0x1_0000_0014n + (5n << 32n)], [0x12n]);
    interrupt(bench, remappable(1));
    expect(findings(bench)).toMatchObject([
      {
        kind: 'stale-interrupt',
        verdict: 'partial',
        found: 'use',
        interruptIndex: 1,
        change: { structure: 'IRTE', address: TABLE + 16 },
        due: ['iec_inv index 0x1'],
      },
    ]);
    expect(findings(bench)[0]?.seen).toHaveLength(1);
    expect(findings(bench)[0]?.text).toMatch(/^stale-interrupt: cache says interrupt entry 1: /);
    bench.submit([0x1_0000_0014n]);
    expect(findings(bench)[0]?.verdict).toBe('late');
  });

  it('is silent after iec_inv, about AVAIL, and about entries that nobody used', () => {
    const bench = watched()
      .poke(entry(2, { V: 0x99 }))
      .poke(entry(1, { AVAIL: 7 }));
    interrupt(bench, remappable(1));
    bench.poke(entry(1, { V: 0x99 })).submit([0x1_0000_0014n]);
    expect(interrupt(bench, remappable(1))).toEqual(message(0xfee0_3000, 0x4099));
    expect([findings(bench), bench.unit.sanitizer?.audit()]).toEqual([[], []]);
  });

  it('another table without iec_inv is found by the audit', () => {
    const bench = watched().poke(entry(1, { AVAIL: 7 }));
    enableInterrupts(bench, { base: 0x9_0000 });
    expect(bench.unit.sanitizer?.audit()).toMatchObject([
      { kind: 'stale-interrupt', verdict: 'missing', due: ['iec_inv global'], change: undefined },
    ]);
  });
});
