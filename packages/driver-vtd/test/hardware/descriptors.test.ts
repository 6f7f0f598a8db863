/** Every descriptor through a unit that has its feature, in queues of both widths. */
import { describe, expect, it } from 'vitest';
import { IQEI } from '../../src/spec/index.ts';
import { vectors } from '../vectors.ts';
import { BenchUnit, REG } from './bench-unit.ts';
import { LEGACY, SCALABLE } from './tables.ts';

const QUEUE = 0x10_0000;
const EVERYTHING = { capabilities: { ecap: { IR: 1, DIT: 1, HPTS: 1 } } };

/** A queue with one descriptor of `words`; what became of it. */
function execute(words: readonly bigint[], wide: boolean, options = EVERYTHING) {
  const bench = new BenchUnit(options).setRoot(wide ? SCALABLE : LEGACY).enableQueue(wide);
  bench.submit(words);
  const { unit } = bench;
  return {
    bench,
    head: Number(unit.readRegister64(REG.IQH)),
    error: Number(unit.readRegister64(REG.IQERCD) & 0xfn),
    status: unit.readReg32(REG.FSTS),
  };
}

const accepted = (wide: boolean) => ({ head: wide ? 0x20 : 0x10, error: 0, status: 0 });
const refused = (error: number) => ({ head: 0, error, status: 0x10 });

const bit = (at: number) => 1n << BigInt(at);
/** Bits `[hi:lo]`, inclusive. */
const bits = (hi: number, lo: number) => bit(hi + 1) - bit(lo);
const TYPE = bits(3, 0);

interface DescriptorForm {
  readonly name: string;
  /** A valid one. */
  readonly valid: readonly [bigint, bigint];
  /** Bits that are not reserved, first and second quad word. */
  readonly fields: readonly [bigint, bigint];
  readonly wideOnly: boolean;
}

/** The table of descriptor formats, as the specification prints it (6.5.2, 7.6.1). */
const FORMS: readonly DescriptorForm[] = [
  {
    name: 'cc_inv',
    valid: [0x11n, 0n],
    fields: [TYPE | bits(5, 4) | bits(31, 16) | bits(47, 32) | bits(49, 48), 0n],
    wideOnly: false,
  },
  {
    name: 'iotlb_inv',
    valid: [0x12n, 0n],
    fields: [TYPE | bits(5, 4) | bits(7, 6) | bits(31, 16), bits(6, 0) | bits(63, 12)],
    wideOnly: false,
  },
  {
    name: 'dev_tlb_inv',
    valid: [3n, 0n],
    fields: [
      TYPE | bits(15, 12) | bits(20, 16) | bits(47, 32) | bits(63, 52),
      bit(0) | bits(63, 12),
    ],
    wideOnly: false,
  },
  {
    name: 'iec_inv',
    valid: [4n, 0n],
    fields: [TYPE | bit(4) | bits(31, 27) | bits(47, 32), 0n],
    wideOnly: false,
  },
  {
    name: 'inv_wait',
    valid: [5n, 0n],
    fields: [TYPE | bits(7, 4) | bits(63, 32), bits(63, 2)],
    wideOnly: false,
  },
  {
    name: 'p_iotlb_inv',
    valid: [0x26n, 0n],
    fields: [TYPE | bits(5, 4) | bits(31, 16) | bits(51, 32), bits(6, 0) | bits(63, 12)],
    wideOnly: true,
  },
  {
    name: 'pc_inv',
    valid: [0x37n, 0n],
    fields: [TYPE | bits(5, 4) | bits(31, 16) | bits(51, 32), 0n],
    wideOnly: true,
  },
  {
    name: 'p_dev_tlb_inv',
    valid: [8n, 0n],
    fields: [
      TYPE | bits(8, 4) | bits(15, 12) | bits(31, 16) | bits(51, 32) | bits(63, 52),
      bit(0) | bit(11) | bits(63, 12),
    ],
    wideOnly: true,
  },
  {
    name: 'page_grp_resp',
    valid: [9n, 0n],
    fields: [TYPE | bit(4) | bits(15, 12) | bits(31, 16) | bits(51, 32), bits(11, 2)],
    wideOnly: true,
  },
  {
    name: 'hpt_inv',
    valid: [0x1an, 0n],
    fields: [TYPE | bits(5, 4) | bits(31, 16), bits(7, 0) | bits(63, 12)],
    wideOnly: true,
  },
];

const widths = FORMS.flatMap((form) =>
  form.wideOnly ? [[form, true] as const] : [[form, true] as const, [form, false] as const],
).map(([form, wide]) => [form.name, wide ? 256 : 128, form, wide] as const);

describe('reserved bits of descriptors (VT-d 6.5.2, IQERCD.IQEI 3 and 4)', () => {
  it.each(widths)('%s of %i bits: each reserved bit alone is refused', (_, width, form, wide) => {
    expect(execute(form.valid, wide)).toMatchObject(accepted(wide));
    for (let at = 0; at < width; at++) {
      const half = at >> 6;
      const mask = bit(at & 63);
      if (((form.fields[half] ?? 0n) & mask) !== 0n) continue;
      const words: bigint[] = [...form.valid, 0n, 0n];
      words[half] = (words[half] as bigint) | mask;
      const error = at >= 9 && at <= 11 ? IQEI.INVALID_TYPE : IQEI.RESERVED_FIELD;
      expect({ at, ...execute(words, wide) }).toMatchObject({ at, ...refused(error) });
    }
  });

  it.each(FORMS.filter(({ wideOnly }) => wideOnly).map((form) => [form.name, form] as const))(
    '%s exists in 256-bit queues of scalable mode only',
    (_, { valid }) => {
      expect(execute(valid, false)).toMatchObject(refused(IQEI.INVALID_TYPE));
      const bench = new BenchUnit(EVERYTHING).setRoot(LEGACY).enableQueue(true).submit(valid);
      expect(bench.unit.readRegister64(REG.IQERCD) & 0xfn).toBe(BigInt(IQEI.INVALID_TYPE));
      const abort = new BenchUnit(EVERYTHING).setRoot(0xc00).enableQueue(true).submit(valid);
      expect(abort.unit.readReg32(REG.FSTS)).toBe(0);
    },
  );

  it('bit 2 of a page group response is ignored', () => {
    expect(execute([9n, 4n], true)).toMatchObject(accepted(true));
  });
});

describe('descriptors as computed', () => {
  it.each(
    vectors.descriptors.flatMap((vector) =>
      vector.width === '256'
        ? [[vector.name, 256, vector] as const]
        : [[vector.name, 256, vector] as const, [vector.name, 128, vector] as const],
    ),
  )('%s, %i bits: executed', (_, width, { qw, bytes128 }) => {
    const words = qw.map(BigInt);
    const result = execute(words, width === 256);
    expect(result).toMatchObject(accepted(width === 256));
    expect(result.bench.memory.readHex(QUEUE, 16)).toBe(bytes128);
  });
});

describe('interrupt entry cache invalidation (VT-d 6.5.2.8)', () => {
  const rows: [string, bigint][] = [
    ['global', 4n],
    ['one index', 0x10_0000_0014n],
    ['256 indexes', 0x100_4000_0014n],
    ['the last index', 0xffff_0000_0014n],
    ['largest mask', 0xf800_0014n],
  ];
  it.each(rows)('%s: accepted, with and without others behind it', (_, words) => {
    for (const wide of [true, false]) {
      const { bench } = execute([words, 0n], wide);
      bench.submit([0x7_0000_0025n, 0x9000n]);
      expect(bench.memory.read64(0x9000)).toBe(7n);
      expect(bench.unit.readReg32(REG.FSTS)).toBe(0);
    }
  });

  it('leaves the DMA caches alone', () => {
    const { bench } = execute([4n, 0n], true);
    expect(bench.unit.stats()).toMatchObject({ descriptors: 1, entriesInvalidated: 0 });
  });
});
