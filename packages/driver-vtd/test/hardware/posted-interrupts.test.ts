/** Posted interrupts: recorded in memory, told when it is time. */
import { describe, expect, it } from 'vitest';
import { POSTED_INTERRUPT_DESCRIPTOR } from '../../src/spec/index.ts';
import type { BenchUnit } from './bench-unit.ts';
import {
  DESCRIPTOR,
  descriptor,
  enableInterrupts,
  interrupt,
  interruptBench,
  postedEntry,
  remappable,
} from './interrupt-tables.ts';

const posting = (memory: Record<number, bigint>, setup = {}) =>
  enableInterrupts(interruptBench(memory), setup);
const send = (bench: BenchUnit) => interrupt(bench, remappable(1));
const notification = { addressLo: 0xfee0_5000, addressHi: 0, data: 0x40f2 };
/** Vectors whose PIR bit is set. */
const pending = (bench: BenchUnit) => {
  const vectors: number[] = [];
  for (let vector = 0; vector < 256; vector++) {
    const word = bench.memory.read32(DESCRIPTOR + (vector >>> 5) * 4) as number;
    if ((word >>> (vector & 31)) & 1) vectors.push(vector);
  }
  return vectors;
};
const control = (bench: BenchUnit) => bench.memory.read32(DESCRIPTOR + 32);

describe('posting (VT-d 5.2.3)', () => {
  it.each<[string, number, number, number, boolean, number]>([
    ['nothing outstanding', 0, 0, 0, true, 1],
    ['outstanding already', 1, 0, 0, false, 1],
    ['suppressed', 0, 1, 0, false, 2],
    ['suppressed, urgent', 0, 1, 1, true, 3],
    ['outstanding, suppressed', 1, 1, 0, false, 3],
    ['outstanding, urgent', 1, 1, 1, false, 3],
  ])('%s: ON %i, SN %i, URG %i', (_, ON, SN, URG, told, after) => {
    const bench = posting({ ...postedEntry(1, { URG }), ...descriptor({ ON, SN }) });
    expect(send(bench)).toEqual(told ? notification : 0);
    expect(pending(bench)).toEqual([0x42]);
    expect(control(bench)).toBe(after | 0xf2_0000);
    expect(bench.unit.stats()).toMatchObject({ interruptsPosted: 1, interruptsBlocked: 0 });
  });

  it('a second one joins the first without another notification', () => {
    const bench = posting({ ...postedEntry(1), ...postedEntry(2, { VV: 0xff }), ...descriptor() });
    expect(send(bench)).toEqual(notification);
    expect(interrupt(bench, remappable(2))).toBe(0);
    expect(pending(bench)).toEqual([0x42, 0xff]);
  });

  it('every vector has its bit', () => {
    for (const VV of [0, 31, 32, 63, 64, 128, 224, 255]) {
      const bench = posting({ ...postedEntry(1, { VV }), ...descriptor() });
      send(bench);
      expect(pending(bench)).toEqual([VV]);
      expect(control(bench)).toBe(0xf2_0001);
    }
  });

  it('x2APIC: 32 bits of destination', () => {
    const bench = posting(
      { ...postedEntry(1), ...descriptor({ NDST: 0x8765_4321 }) },
      { extended: true },
    );
    expect(send(bench)).toEqual({ addressLo: 0xfee2_1000, addressHi: 0x8765_4300, data: 0x40f2 });
  });

  it('the descriptor may stand above 4 GiB', () => {
    const bench = posting({
      ...postedEntry(1, { PDAH: 2 }),
      ...descriptor({}, 0x2_0000_0000 + DESCRIPTOR),
    });
    expect(send(bench)).toEqual(notification);
    expect(bench.memory.read32(0x2_0000_0000 + DESCRIPTOR + 8)).toBe(4);
  });

  it('the entry is cached, the descriptor is not', () => {
    const bench = posting({ ...postedEntry(1), ...descriptor() });
    send(bench);
    bench.poke(descriptor({ NV: 0x77, NDST: 0x900 }));
    expect(send(bench)).toEqual({ addressLo: 0xfee0_9000, addressHi: 0, data: 0x4077 });
  });
});

describe('faults of posting', () => {
  it('a descriptor in read-only memory: 27h', () => {
    const bench = interruptBench(postedEntry(1));
    bench.memory.readOnly.push({ base: 0x7_0000, size: 0x1_0000 });
    expect(send(enableInterrupts(bench))).toBe(-0x27);
    expect(pending(bench)).toEqual([]);
  });

  it.each([false, true])(
    'each reserved bit of the descriptor, x2APIC %s: 28h, unchanged',
    (extended) => {
      const masks = [...POSTED_INTERRUPT_DESCRIPTOR.reservedMasks];
      if (!extended) masks[9] = 0xffff_00ff;
      expect(masks.slice(0, 10)).toEqual([
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0xff00_fffc,
        extended ? 0 : 0xffff_00ff,
      ]);
      masks.forEach((mask, word) => {
        for (let bit = 0; bit < 32; bit++) {
          if (((mask >>> bit) & 1) === 0) continue;
          const bench = posting(
            { ...postedEntry(1), ...descriptor({ NDST: 0x500 }) },
            { extended },
          );
          const at = DESCRIPTOR + word * 4;
          bench.memory.write32(at, ((bench.memory.read32(at) as number) | (1 << bit)) >>> 0);
          expect([word, bit, send(bench)]).toEqual([word, bit, -0x28]);
          expect(pending(bench)).toEqual([]);
          expect(bench.unit.interruptCache.entries()).toEqual([]);
        }
      });
    },
  );

  it('the descriptor address has bits above the host width: 24h', () => {
    expect(send(posting(postedEntry(1, { PDAH: 0x4000 })))).toBe(-0x24);
  });
});
