import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type DmarProblem, formatDmarProblem, readDmar, writeDmar } from '../../src/acpi/index.ts';
import { vectorTable } from './fixture.ts';
import { realTables } from './real-tables.ts';

/** Change bytes and set the checksum right again. */
const patched = (changes: Readonly<Record<number, number>>, fixChecksum = true): Uint8Array => {
  const bytes = vectorTable();
  for (const [offset, value] of Object.entries(changes)) bytes[Number(offset)] = value;
  if (fixChecksum) bytes[9] = ((bytes[9] as number) - bytes.reduce((a, b) => a + b, 0)) & 0xff;
  return bytes;
};

/** The image's own: its ANDD names a device that no unit has. */
const BASELINE =
  'warning: ANDD 0 at 0xa3: no DRHD has a device scope for ACPI device 1 ("\\\\_SB.PCI0.I2C0") ' +
  '(andd-scope)';

const lines = (bytes: Uint8Array): string[] =>
  readDmar(bytes)
    .problems.map(formatDmarProblem)
    .filter((line) => line !== BASELINE);

/** In the vector image: DRHD 0 at 30h, DRHD 1 48h, RMRR 58h, ATSR 78h, RHSA 88h, ANDD 9Ch, SATC B3h. */
const CASES: readonly [string, Uint8Array, string[]][] = [
  [
    'wrong checksum',
    patched({ 9: 0 }, false),
    [`error: header at 0x9: the checksum is 0x0, the bytes ask for 0x43 (checksum)`],
  ],
  [
    'another table (8.1)',
    patched({ 0: 0x46 }),
    ['error: header at 0x0: the signature is "FMAR", expected "DMAR" (signature)'],
  ],
  [
    'shorter than the header',
    vectorTable().subarray(0, 47),
    ['error: header at 0x0: 47 bytes are no table: the header alone has 48 (header-length)'],
  ],
  [
    'length below the header (8.1)',
    patched({ 4: 8 }),
    [
      'error: header at 0x4: the table says it is 8 bytes long, there are 195 (table-length)',
      expect.stringContaining('(checksum)') as string,
      'error: header at 0x4: the table has no DRHD, so no remapping unit (no-unit)',
    ],
  ],
  [
    'zero-length structure (8.2)',
    patched({ 74: 0 }),
    [
      'error: DRHD 1 at 0x4a: the structure is 0 bytes long, expected 4 to the 123 that the table ' +
        'has left; nothing behind it can be read (structure-length)',
    ],
  ],
  [
    'structure that overruns the table (8.2)',
    patched({ 74: 0, 75: 1 }),
    [
      'error: DRHD 1 at 0x4a: the structure is 256 bytes long, expected 4 to the 123 that the ' +
        'table has left; nothing behind it can be read (structure-length)',
    ],
  ],
  [
    'structure too short for its type (8.3)',
    patched({ 74: 8, 80: 9, 81: 0, 82: 8, 83: 0 }),
    [
      'error: structure of type 0 0 at 0x4a: a DRHD of 8 bytes is too short, its fixed fields have 16 (structure-length)',
      'warning: structure of type 9 0 at 0x50: type 9 is not known, expected 0 to 6 (unknown-type)',
      'warning: RHSA 0 at 0x90: no DRHD has the register base 0xfed90000 (rhsa-unit)',
    ],
  ],
  [
    'device scope of length 0 (8.3.1)',
    patched({ 65: 0 }),
    [
      'error: DRHD 0 at 0x41: the device scope is 0 bytes long, expected an even number from 8 to ' +
        'the 8 that the structure has left (scope-length)',
      'warning: DRHD 0 at 0x30: the DRHD has no device scope, so it concerns no device (no-scope)',
    ],
  ],
  [
    'device scope that overruns its structure (8.3.1)',
    patched({ 65: 10 }),
    [
      'error: DRHD 0 at 0x41: the device scope is 10 bytes long, expected an even number from 8 ' +
        'to the 8 that the structure has left (scope-length)',
      'warning: DRHD 0 at 0x30: the DRHD has no device scope, so it concerns no device (no-scope)',
    ],
  ],
  [
    'device above 1Fh in a path (8.3.1)',
    patched({ 70: 0x20 }),
    [
      'error: DRHD 0 at 0x46: the device scope 00:20.0 goes through device 0x20 function 0x0, ' +
        'expected at most 0x1f and 0x7 (scope-path)',
    ],
  ],
  [
    'scope type out of range (8.3.1)',
    patched({ 64: 9 }),
    [
      'error: DRHD 0 at 0x40: the device scope 00:04.0 has type 9, expected 1, 2, 3, 4, 5 in the DRHD (scope-type)',
    ],
  ],
  [
    'flags outside a SIDP, an enumeration id of a PCI device (8.3.1, 8.9)',
    patched({ 66: 4, 68: 7 }),
    [
      'warning: DRHD 0 at 0x42: flags 0x4 of the device scope 00:04.0: the DRHD knows 0x0 (scope-flags)',
      'warning: DRHD 0 at 0x44: the device scope 00:04.0 is a PCI device, its enumeration id is 7, ' +
        'expected 0 (scope-enumeration-id)',
    ],
  ],
  [
    'reserved bits of a DRHD (8.3)',
    patched({ 52: 0x82 }),
    ['warning: DRHD 0 at 0x34: reserved bits 0x82 of this dword are set, expected 0 (reserved)'],
  ],
  [
    'register base of 64 bits (8.3)',
    patched({ 63: 0x80 }),
    [
      'error: DRHD 0 at 0x38: BASE is 0x80000000fed91000, an address has at most 52 bits (address-width)',
      'error: DRHD 0 at 0x38: the register base is 0x80000000fed91000, its 0x1000 bytes end above ' +
        'the host address width of 46 bits (register-base)',
    ],
  ],
  [
    'two units at one place (8.3)',
    patched({ 81: 0x10 }),
    [
      'error: DRHD 1 at 0x50: its registers at 0xfed91000 lie inside those of DRHD 0, which end at ' +
        '0xfed92000 (register-overlap)',
      'warning: RHSA 0 at 0x90: no DRHD has the register base 0xfed90000 (rhsa-unit)',
    ],
  ],
  [
    'a unit behind the one that takes all (8.3)',
    patched({ 52: 1, 76: 0, 64: 3, 68: 2 }),
    [
      'warning: DRHD 1 at 0x4c: it stands behind DRHD 0, which takes all of segment 0 and must be ' +
        'the last (include-all-last)',
      'warning: DRHD 1 at 0x48: the DRHD has no device scope, so it concerns no device (no-scope)',
    ],
  ],
  [
    'two units that take all (8.3)',
    patched({ 52: 1, 64: 3 }),
    [
      'error: DRHD 1 at 0x4c: INCLUDE_PCI_ALL is set, but DRHD 0 already takes all of segment 0 (include-all-last)',
    ],
  ],
  [
    'limit below base (8.4)',
    patched({ 106: 0x70 }),
    [
      'error: RMRR 0 at 0x68: the region 0x7b800000 to 0x7b70ffff is empty: its limit must be above its base (rmrr-range)',
    ],
  ],
  [
    'region that does not end with a page (8.4)',
    patched({ 104: 0xfe }),
    [
      'error: RMRR 0 at 0x68: the region 0x7b800000 to 0x7b80fffe does not end with a page of 0x1000 bytes (rmrr-range)',
    ],
  ],
  [
    'descending types (8.2)',
    patched({ 179: 2 }),
    [
      'warning: ATSR 1 at 0xb3: type 2 stands behind type 4, expected ascending types (structure-order)',
      'warning: ATSR 1 at 0xb7: ALL_PORTS is set, the 1 device scopes mean nothing (all-ports)',
      'warning: ATSR 1 at 0xbb: the device scope 00:02.0 has type 1, expected 2 in the ATSR (scope-type)',
    ],
  ],
  [
    'name without NUL (8.7)',
    patched({ 178: 0x41 }),
    [
      'error: ANDD 0 at 0xa4: the name "\\\\_SB.PCI0.I2C0A" is not ended by a NUL (andd-name)',
      expect.stringContaining('(andd-scope)') as string,
    ],
  ],
  [
    'RHSA with a byte too many (8.6)',
    patched({ 138: 0x17, 156: 0, 159: 4, 161: 20, 162: 0 }),
    [
      'warning: RHSA 0 at 0x9c: 3 bytes stand behind the last field of the RHSA (structure-length)',
      expect.stringContaining('(reserved)') as string,
      expect.stringContaining('(andd-scope)') as string,
    ],
  ],
  [
    'address width (8.1)',
    patched({ 36: 0x0f }),
    [
      'error: header at 0x24: the host address width is 16 bits, expected 32 to 52 (host-address-width)',
      expect.stringContaining('(register-base)') as string,
      expect.stringContaining('(register-base)') as string,
      expect.stringContaining('(rmrr-range)') as string,
    ],
  ],
];

describe('damaged DMAR tables', () => {
  test('the image that is damaged has one inconsistency itself', () => {
    expect(readDmar(vectorTable()).problems.map(formatDmarProblem)).toEqual([BASELINE]);
  });

  test.each(CASES)('%s', (_, bytes, expected) => {
    expect(lines(bytes)).toEqual(expected);
  });

  test('every truncation is named, and keeps what stands before the cut', () => {
    const whole = vectorTable();
    for (let length = 0; length < whole.length; length++) {
      const { table, problems } = readDmar(whole.subarray(0, length));
      const { severity, layer } = problems[0] as DmarProblem;
      expect([severity, layer]).toEqual(['error', 'bytes']);
      expect(table === undefined).toBe(length < 48);
      if (length >= 0x58) expect(table?.structures.slice(0, 2)).toEqual(firstTwo());
    }
  });

  test('bytes behind the table are left alone', () => {
    const longer = new Uint8Array(200).fill(0xff);
    longer.set(vectorTable());
    expect(lines(longer)).toEqual([
      'warning: header at 0x4: the table says it is 195 bytes long, there are 200 (table-length)',
    ]);
  });
});

describe('mutated tables', () => {
  const tables = realTables().map(({ bytes }) => bytes);
  const mutation = fc.record({
    at: fc.nat(),
    value: fc.oneof(fc.constantFrom(0, 1, 4, 7, 8, 0x7f, 0x80, 0xff), fc.nat(0xff)),
  });
  const damaged = fc
    .record({
      table: fc.constantFrom(...tables),
      mutations: fc.array(mutation, { maxLength: 4 }),
      cut: fc.option(fc.nat(), { freq: 1, nil: undefined }),
      repair: fc.nat(4).map((one) => one > 0),
    })
    .map(({ table, mutations, cut, repair }) => damage(table, mutations, cut, repair));

  test('a table without problems in its bytes is written back byte for byte', () => {
    let regular = 0;
    let irregular = 0;
    fc.assert(
      fc.property(damaged, (bytes) => {
        const { table, problems } = readDmar(bytes);
        expect(problems.every(isComplete)).toBe(true);
        if (problems.some(({ layer }) => layer === 'bytes')) {
          irregular++;
          return;
        }
        regular++;
        expect(table && Buffer.from(writeDmar(table)).equals(bytes)).toBe(true);
      }),
      { numRuns: 3000 },
    );
    expect(regular).toBeGreaterThan(200);
    expect(irregular).toBeGreaterThan(200);
  });

  test('random bytes behind a header neither throw nor hang', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), (tail) => {
        const bytes = new Uint8Array(48 + tail.length);
        bytes.set(vectorTable().subarray(0, 48));
        bytes.set(tail, 48);
        const { problems } = readDmar(bytes);
        expect(problems.every(isComplete)).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  test('a table of 2 MB with the shortest structures and scopes is read in linear time', () => {
    const bytes = new Uint8Array(2_000_000);
    bytes.set(vectorTable().subarray(0, 48));
    new DataView(bytes.buffer).setUint32(4, bytes.length, true);
    for (let at = 48; at + 24 <= bytes.length; at += 24) bytes.set([0, 0, 24], at);
    for (let at = 48; at + 24 <= bytes.length; at += 24) bytes.set([1, 8], at + 16);
    const started = performance.now();
    const { table, problems } = readDmar(bytes);
    expect(performance.now() - started).toBeLessThan(10_000);
    expect(table?.structures).toHaveLength(Math.floor((bytes.length - 48) / 24));
    expect(problems.length).toBeGreaterThan(1000);
  });
});

const firstTwo = () => readDmar(vectorTable()).table?.structures.slice(0, 2);

const damage = (
  table: Uint8Array,
  mutations: readonly { at: number; value: number }[],
  cut: number | undefined,
  repair: boolean,
): Uint8Array => {
  const bytes = table.slice(0, cut === undefined ? undefined : cut % table.length);
  if (bytes.length === 0) return bytes;
  for (const { at, value } of mutations) bytes[at % bytes.length] = value;
  if (repair && bytes.length > 9) {
    bytes[9] = ((bytes[9] as number) - bytes.reduce((a, b) => a + b, 0)) & 0xff;
  }
  return bytes;
};

const isComplete = ({ structure, offset, rule, message }: DmarProblem): boolean =>
  structure !== '' && offset >= 0 && rule !== '' && message !== '';
