/** IVRS tables: of real machines, worked by hand, and damaged. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  IVHD,
  IVHD_ENTRY,
  type Ivhd,
  type Ivmd,
  type IvrsTable,
  machineFromIvrs,
  readIvrs,
  writeIvrs,
} from '../../src/index.ts';

const load = (name: string) =>
  JSON.parse(gunzipSync(readFileSync(new URL(`../data/${name}`, import.meta.url))).toString());
const bytesOf = (hex: string) => Uint8Array.from(Buffer.from(hex, 'hex'));

const REAL = (load('ivrs-tables.json.gz') as { machine: string; hex: string }[]).map(
  ({ machine, hex }) => ({ machine, bytes: bytesOf(hex) }),
);
const [WORKED] = (load('amdvi-vectors.json.gz') as { acpi: { bytes: string }[] }).acpi;
const worked = (): Uint8Array => bytesOf(WORKED?.bytes ?? '');

const tableOf = (bytes: Uint8Array): IvrsTable => {
  const { table, problems } = readIvrs(bytes);
  if (!table) throw new Error(problems[0]?.message);
  return table;
};

const unitsOf = ({ blocks }: IvrsTable) =>
  blocks.filter((block): block is Ivhd => block.kind === 'IVHD');
const memoryOf = ({ blocks }: IvrsTable) =>
  blocks.filter((block): block is Ivmd => block.kind === 'IVMD');

describe('IVRS tables of 114 real machines', () => {
  it('are read without an error; blocks that nobody knows are warnings', () => {
    const found = REAL.flatMap(({ bytes }) => readIvrs(bytes).problems);
    expect(found.filter(({ severity }) => severity === 'error')).toEqual([]);
    expect(new Set(found.map(({ rule }) => rule))).toEqual(new Set(['block-type']));
    expect(found.filter(({ message }) => message.includes('0x51'))).toHaveLength(6);
    expect(REAL).toHaveLength(114);
  });

  it('every table has a unit with registers, and entries of known types', () => {
    const known = new Set<number>(Object.values(IVHD_ENTRY));
    for (const { machine, bytes } of REAL) {
      const units = unitsOf(tableOf(bytes));
      expect(units.length, machine).toBeGreaterThan(0);
      for (const { base, entries } of units) {
        expect(base, machine).toBeGreaterThan(0);
        for (const { type } of entries) expect(known.has(type), `${machine} ${type}`).toBe(true);
      }
    }
  });

  it('written again they are the same, but for reserved bytes', () => {
    const differing = REAL.filter(({ bytes }) => {
      const again = writeIvrs(tableOf(bytes));
      expect(readIvrs(again).table).toEqual(readIvrs(bytes).table);
      return !again.every((byte, at) => byte === bytes[at]);
    });
    expect(differing.map(({ machine }) => machine)).toEqual([]);
  });

  it('make machines: one unit for each IOMMU, by the block of the highest type', () => {
    for (const { machine: name, bytes } of REAL.slice(0, 12)) {
      const table = tableOf(bytes);
      const ids = new Set(unitsOf(table).map(({ deviceId }) => deviceId));
      const { units, machine, withoutUnit } = machineFromIvrs(table);
      expect(units.length, name).toBe(ids.size);
      for (const { ivhd, unit } of units) {
        const highest = unitsOf(table).filter(({ deviceId }) => deviceId === ivhd.deviceId);
        expect(ivhd.type).toBe(Math.max(...highest.map(({ type }) => type)));
        expect(unit.hardware.readReg32(0x30)).toBe(Number((ivhd.efr ?? 0n) & 0xffff_ffffn));
      }
      expect(machine.endpoints.length, name).toBeGreaterThan(0);
      expect(withoutUnit).toEqual([]);
    }
  });
});

describe('AMD IOMMU 5.2: the worked table', () => {
  it('three blocks of one unit, three of memory', () => {
    const table = tableOf(worked());
    expect(table).toMatchObject({ revision: 2, oemId: 'EXAMPL' });
    expect(unitsOf(table).map(({ type, entries }) => [type, entries.length])).toEqual([
      [IVHD.FIXED, 5],
      [IVHD.WITH_EFR, 5],
      [IVHD.MIXED, 6],
    ]);
    const [, , mixed] = unitsOf(table);
    expect(mixed).toMatchObject({
      deviceId: 2,
      capabilityOffset: 0x40,
      base: 0xfd20_0000,
      efr: 0x0017_02af_0000_98dbn,
    });
    expect(mixed?.entries.map(({ bytes: _, ...entry }) => entry)).toEqual([
      { type: 3, deviceId: 8, setting: 0 },
      { type: 4, deviceId: 0xfffe, setting: 0 },
      { type: 0x42, deviceId: 0x500, setting: 0, aliasId: 0x400 },
      { type: 0x48, deviceId: 0xa0, setting: 0xd7, handle: 0, variety: 1 },
      { type: 0x48, deviceId: 0xa0, setting: 0, handle: 0, variety: 2 },
      { type: 0xf0, deviceId: 0x98, setting: 0, hid: 'AMDI0020', uid: '\\_SB.FUR0' },
    ]);
    expect(memoryOf(table)).toMatchObject([
      { type: 0x21, deviceId: 0x108, flags: 7, start: 0x7f00_0000n, lengthBytes: 0x10_0000n },
      { type: 0x22, deviceId: 0x200, endDeviceId: 0x2ff, start: 0x7f10_0000n },
      { type: 0x20, flags: 8, start: 0x7f20_0000n, lengthBytes: 0x1_0000n },
    ]);
  });

  it('written again: the same bytes', () => {
    expect([...writeIvrs(tableOf(worked()))]).toEqual([...worked()]);
  });

  it('a machine: ranges, named devices, unity maps of each', () => {
    const devices = [{ rid: '01:01.0' }, { rid: '02:00.0' }, { rid: '00:00.1' }];
    // The EFR of the example has no message registers.
    const unit = () => ({ capabilities: { efr: 0x0017_42af_0000_98dbn, efr2: 0n } });
    const { machine, units, withoutUnit } = machineFromIvrs(tableOf(worked()), { devices, unit });
    expect(units).toHaveLength(1);
    expect(withoutUnit.map(({ name }) => name)).toEqual(['00:00.1']);
    expect(machine.endpoints.map(({ rid }) => rid).sort((a, b) => a - b)).toEqual([
      1, 0x98, 0xa0, 0x108, 0x200, 0x500,
    ]);
    const starts = (rid: number) => {
      const endpoint = machine.endpoint(rid);
      if (!endpoint) throw new Error('no device');
      const regions = units[0]?.unit.reservedRegions(endpoint) ?? [];
      return regions.map(({ start, kind }) => `${kind} ${start.toString(16)}`);
    };
    const rest = ['direct 7f200000', 'msi fee00000', 'reserved fd00000000'];
    expect(starts(0x108)).toEqual(['direct 7f000000', ...rest]);
    expect(starts(0x200)).toEqual(['direct 7f100000', ...rest]);
    expect(starts(0x98)).toEqual(rest);
  });

  it('a block of type 10h alone: EFR from its feature field', () => {
    const table = tableOf(worked());
    const [first] = unitsOf(table);
    if (!first) throw new Error('no unit');
    // NX, GT, GLX 2, IA, GA, PASMax 15, GATS 1, HATS 2; prefetch and page requests by the flags.
    const features = 2 | 4 | (2 << 3) | 32 | 64 | (15 << 8) | (1 << 28) | (2 << 30);
    const { units } = machineFromIvrs({
      ...table,
      blocks: [{ ...first, features: features >>> 0 }],
    });
    const [lo = 0, hi = 0] = [0x30, 0x34].map((at) => units[0]?.unit.hardware.readReg32(at));
    expect([lo.toString(16), hi.toString(16)]).toEqual(['98db', '400f']);
  });

  it('no unit in the segment: EINVAL', () => {
    expect(() => machineFromIvrs(tableOf(worked()), { segment: 3 })).toThrow(/EINVAL/);
  });
});

describe('damaged tables', () => {
  const patched = (at: number, ...values: number[]): Uint8Array => {
    const bytes = worked();
    bytes.set(values, at);
    return bytes;
  };

  it.each([
    ['nothing', new Uint8Array(0), 'table-length'],
    ['another signature', patched(0, 0x58), 'signature'],
    ['a length beyond the bytes', patched(4, 0xff, 0xff), 'table-length'],
    ['a length below the header', patched(4, 4, 0), 'table-length'],
    ['a wrong checksum', patched(9, 0), 'checksum'],
    ['a block of length 0', patched(50, 0, 0), 'block-length'],
    ['a block beyond the table', patched(50, 0xff, 0xff), 'block-length'],
    ['a unit too short for its fields', patched(50, 8, 0), 'block-length'],
    ['an entry beyond its block', patched(72, 0xf0), 'entry-length'],
  ])('%s: %s', (_, bytes, rule) => {
    const { problems } = readIvrs(bytes);
    expect(problems.filter(({ severity }) => severity === 'error').map((p) => p.rule)).toContain(
      rule,
    );
  });

  it('any bytes: no exception', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(374), fc.nat(255)), { maxLength: 6 }),
        fc.nat(375),
        (changes, length) => {
          const bytes = worked();
          for (const [at, value] of changes) bytes[at] = value;
          const { table, problems } = readIvrs(bytes.subarray(0, length));
          expect(table !== undefined || problems.length > 0).toBe(true);
          if (table) expect(writeIvrs(table).length).toBeGreaterThanOrEqual(48);
        },
      ),
      { numRuns: 2000 },
    );
  });
});
