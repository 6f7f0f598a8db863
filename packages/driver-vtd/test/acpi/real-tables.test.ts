import { describe, expect, test } from 'vitest';
import {
  checkDmar,
  type DmarStructure,
  formatDmarProblem,
  readDmar,
  writeDmar,
} from '../../src/acpi/index.ts';
import { realTables } from './real-tables.ts';

const tables = realTables();

/** Every inconsistency there is among the real tables. */
const INCONSISTENT: Readonly<Record<string, string>> = {
  'Notebook/Lenovo/IdeaPadFlex/IdeaPadFlex 15 20309/D19FB82D46CF':
    'error: DRHD 0 at 0x38: the register base is 0x0, no unit can be there (register-base)',
  'Notebook/Lenovo/ThinkPad/ThinkPad E15 Gen 2 20TD0005MH/188EB681251A':
    'error: DRHD 2 at 0x68: the register base is 0x0, no unit can be there (register-base)',
  'Server/Hewlett-Packard/ProLiant/ProLiant DL360 G7/60DCEE46526A':
    'warning: header at 0x25: X2APIC_OPT_OUT is set without INTR_REMAP, which alone gives it a ' +
    'meaning (x2apic-opt-out)',
};

describe('DMAR tables of 308 real machines (VT-d 8)', () => {
  test('every one reads, or names its inconsistency', () => {
    const found: Record<string, string> = {};
    for (const { machine, bytes } of tables) {
      const { problems } = readDmar(bytes);
      if (problems.length > 0) found[machine] = problems.map(formatDmarProblem).join('\n');
    }
    expect(tables).toHaveLength(308);
    expect(found).toEqual(INCONSISTENT);
  });

  test('every one is written back byte for byte', () => {
    for (const { machine, bytes } of tables) {
      const { table } = readDmar(bytes);
      expect(table && Buffer.from(writeDmar(table)).equals(bytes), machine).toBe(true);
    }
  });

  test('structures, scopes and path lengths are those counted from the raw bytes', () => {
    const structures = readAll().flatMap(({ structures }) => structures);
    expect(countBy(structures, ({ kind }) => kind)).toEqual({
      DRHD: 620,
      RMRR: 494,
      ATSR: 14,
      RHSA: 10,
      ANDD: 70,
      SATC: 6,
      SIDP: 6,
    });
    expect(countBy(structures.flatMap(scopeNames), (name) => name)).toEqual({
      'DRHD 1 1': 292,
      'DRHD 2 1': 44,
      'DRHD 3 1': 318,
      'DRHD 4 1': 368,
      'DRHD 5 1': 70,
      'RMRR 1 1': 640,
      'RMRR 1 2': 10,
      'ATSR 2 1': 50,
      'SATC 1 1': 14,
      'SIDP 1 1': 14,
    });
  });

  test('header fields are those counted from the raw bytes', () => {
    const all = readAll();
    expect(countBy(all, (table) => String(table.hostAddressWidthBits))).toEqual({
      36: 33,
      38: 2,
      39: 255,
      40: 2,
      42: 4,
      46: 12,
    });
    expect(all.filter((table) => table.interruptRemapping)).toHaveLength(173 + 35 + 78 + 7);
    expect(all.filter((table) => table.x2apicOptOut)).toHaveLength(1 + 35 + 7);
    expect(all.filter((table) => table.dmaControlOptIn)).toHaveLength(1 + 78 + 7);
  });

  test('the names of ACPI devices end at their NUL, padding is kept', () => {
    const names = readAll()
      .flatMap(({ structures }) => structures)
      .flatMap((one) => (one.kind === 'ANDD' ? [`${one.objectName}+${one.paddingBytes}`] : []));
    expect(new Set(names)).toEqual(
      new Set(
        ['I2C0', 'I2C1', 'I2C2', 'I2C3', 'SDMA', 'SDHC', 'SPI0', 'UA00'].map(
          (device) => `\\_SB.PCI0.${device}+6`,
        ),
      ),
    );
  });

  test('offsets computed from the structures are the real ones', () => {
    for (const { bytes } of tables) {
      const { table, problems } = readDmar(bytes);
      expect(table && checkDmar(table)).toEqual(problems);
    }
  });
});

const readAll = () => tables.flatMap(({ bytes }) => readDmar(bytes).table ?? []);

const scopeNames = (structure: DmarStructure): string[] =>
  'scopes' in structure
    ? structure.scopes.map(({ type, path }) => `${structure.kind} ${type} ${path.length}`)
    : [];

const countBy = <T>(items: readonly T[], name: (item: T) => string): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (const item of items) counts[name(item)] = (counts[name(item)] ?? 0) + 1;
  return counts;
};
