/** Device table entries: what they say, and what hardware sees between two stores. */
import { decode } from '@iommukit/bits';
import { type Domain, HostMemory } from '@iommukit/core';
import { describe, expect, it } from 'vitest';
import { DeviceTable } from '../../src/host/device-table.ts';
import { Invalidate } from '../../src/host/invalidate.ts';
import { DTE } from '../../src/index.ts';
import { HWPT, map } from './fixture.ts';
import { GUEST_EFR_4, recorded } from './recording-unit.ts';

type Bench = ReturnType<typeof recorded>;

const wordsOf = (qwords: readonly bigint[]): Uint32Array =>
  Uint32Array.from(qwords.flatMap((q) => [Number(q & 0xffff_ffffn), Number(q >> 32n)]));

const entryOf = ({ registers, device }: Bench) => decode(DTE, wordsOf(registers.entry(device.rid)));

/** Fields that are not zero. */
const fieldsOf = (bench: Bench) =>
  Object.fromEntries(Object.entries(entryOf(bench)).filter(([, value]) => Number(value) !== 0));

describe('AMD IOMMU 2.2.2.1: entries by domain', () => {
  it('blocked: V=1, TV=0', () => {
    expect(fieldsOf(recorded())).toEqual({ V: 1 });
  });

  it('identity: Mode 0; a device with PASIDs has a GCR3 table beside it, GIoV=0', () => {
    const bench = recorded();
    bench.unit.attach(bench.device, -1, bench.unit.identity);
    expect(fieldsOf(bench)).toMatchObject({ V: 1, TV: 1, IR: 1, IW: 1, I: 1, GV: 1, GLX: 2 });
    expect(entryOf(bench)).toMatchObject({ MODE: 0, GIOV: 0, GUEST_PAGING_MODE: 1 });
  });

  it('identity without PASIDs: nothing of a guest', () => {
    const bench = recorded({ efr: 0x0012_40c0_0000_0840n });
    bench.unit.attach(bench.device, -1, bench.unit.identity);
    expect(fieldsOf(bench)).toEqual({ V: 1, TV: 1, IR: 1, IW: 1, I: 1, DOMAIN_ID: 1 });
  });

  it('host table: Mode, root, DomainID; ATS and page requests as the device has them', () => {
    const bench = recorded();
    const domain = bench.unit.allocPaging(bench.device, { flags: 0 });
    bench.unit.attach(bench.device, -1, domain);
    const { HOST_ROOT, ...rest } = fieldsOf(bench);
    expect(rest).toEqual({ V: 1, TV: 1, MODE: 3, IR: 1, IW: 1, I: 1, PPR: 1, DOMAIN_ID: 2 });
    map(domain, 2 ** 46, 1);
    const grown = fieldsOf(bench);
    expect(grown).toMatchObject({ MODE: 6, DOMAIN_ID: 2 });
    expect(grown['HOST_ROOT']).not.toBe(HOST_ROOT);
  });

  it('guest table: GV, GIoV, GCR3 entry 0 with the root, a DomainID of the device', () => {
    const bench = recorded({ efr: GUEST_EFR_4 });
    const domain = bench.unit.allocPaging(bench.device, { flags: HWPT.PASID });
    bench.unit.attach(bench.device, -1, domain);
    const entry = entryOf(bench);
    expect(entry).toMatchObject({ V: 1, TV: 1, MODE: 0, GV: 1, GIOV: 1, GLX: 2, PPR: 1, I: 1 });
    expect(entry).toMatchObject({ GUEST_PAGING_MODE: 0, DOMAIN_ID: 2, HAD: 0 });
    const gcr3 =
      entry.GCR3_14_12 * 2 ** 12 + entry.GCR3_30_15 * 2 ** 15 + entry.GCR3_51_31 * 2 ** 31;
    const next = (pa: number) => Number(bench.registers.qword(pa) & ~0xfffn);
    expect(bench.registers.qword(next(next(gcr3))) & 1n).toBe(1n);
    expect(next(next(next(gcr3)))).toBe(domainRoot(domain));
  });

  it.each([
    ['dirty tracking of a host table', HWPT.DIRTY_TRACKING],
    ['dirty tracking of a nest parent', HWPT.DIRTY_TRACKING | HWPT.NEST_PARENT],
  ])('%s: HAD=3, and back', (_, flags) => {
    const bench = recorded();
    const domain = bench.unit.allocPaging(bench.device, { flags });
    bench.unit.attach(bench.device, -1, domain);
    const seen = [entryOf(bench).HAD];
    for (const on of [true, false]) {
      domain.dirty?.setTracking(on);
      seen.push(entryOf(bench).HAD);
    }
    expect(seen).toEqual([0, 3, 0]);
  });
});

const domainRoot = (domain: Domain): number =>
  (domain as unknown as { table: { rootPa: number } }).table.rootPa;

/** `[V, GV, GPM, tag]` of an entry; the tag stands in both halves' unused places. */
const shape = (v: number, gv: number, mode: number, domainId: number): Uint32Array => {
  const words = new Uint32Array(8);
  words[0] = v | 2;
  words[1] = gv << 23;
  words[2] = domainId;
  words[5] = mode << 22;
  return words;
};

const NAMES = ['V=0', 'V=1 GV=0', 'V=1 GV=1 four levels', 'V=1 GV=1 five levels'];
const SHAPES: readonly (readonly [number, number, number])[] = [
  [0, 0, 0],
  [1, 0, 0],
  [1, 1, 0],
  [1, 1, 1],
];

const PAIRS = SHAPES.flatMap((from, i) =>
  SHAPES.map((to, j) => [NAMES[i], NAMES[j], from, to] as const),
);

describe('H.2: an entry between its two stores', () => {
  it.each(PAIRS)('%s to %s: the old one, the new one, or blocked', (_, __, from, to) => {
    const { registers } = recorded();
    const memory = new HostMemory(registers.machine.memory);
    const table = new DeviceTable(memory);
    const invalidate = new Invalidate({ push() {}, submit() {} } as never);
    const pa = table.entryPa(7);
    const [old, next] = [shape(...from, 1), shape(...to, 2)];
    memory.store128(pa, old);
    memory.store128(pa + 16, old, 4);
    const words = new Uint32Array(8);
    const seen: string[] = [];
    registers.onStore = (at) => {
      if (at < pa || at >= pa + 32) return;
      memory.loadWords(pa, words);
      seen.push(meaning(words));
    };
    table.write(7, next, invalidate);
    const allowed = [meaning(old), meaning(next), 'blocked'];
    for (const state of seen) expect(allowed).toContain(state);
    if (from[1] === 0 || to[1] === 0 || from[2] === to[2]) expect(seen).not.toContain('blocked');
    expect(seen.at(-1)).toBe(meaning(next));
    expect([...words]).toEqual([...next]);
  });

  it('the entry of the time between is out of the cache before the upper half changes', () => {
    const { registers } = recorded();
    const memory = new HostMemory(registers.machine.memory);
    const table = new DeviceTable(memory);
    const events: string[] = [];
    const invalidate = {
      deviceEntry: (rid: number) => events.push(`invalidate ${rid}`),
      submit: () => events.push('wait'),
    } as unknown as Invalidate;
    memory.store128(table.entryPa(7), shape(1, 1, 0, 1));
    registers.onStore = (at) => events.push(at === table.entryPa(7) ? 'lower' : 'upper');
    table.write(7, shape(1, 1, 1, 2), invalidate);
    expect(events).toEqual(['lower', 'invalidate 7', 'wait', 'upper', 'lower']);
  });
});

/** What hardware makes of an entry: the upper half counts only with V=1 and GV=1. */
const meaning = (words: Uint32Array): string => {
  const { V, TV, GV, DOMAIN_ID, GUEST_PAGING_MODE } = decode(DTE, words);
  if (V === 0) return 'passes';
  if (TV === 0) return 'blocked';
  return GV === 1 ? `guest ${DOMAIN_ID} ${GUEST_PAGING_MODE}` : `host ${DOMAIN_ID}`;
};
