import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  checkDmar,
  completeDmar,
  type DeviceScope,
  type DmarDescription,
  type DmarStructure,
  readDmar,
  SCOPE_TYPE,
  writeDmar,
} from '../../src/acpi/index.ts';
import { vectorTable } from './fixture.ts';

const pci = (type: number, device: number, fn = 0): DeviceScope => ({
  type,
  flags: 0,
  enumerationId: 0,
  startBus: 0,
  path: [{ device, function: fn }],
});

/** The image among the vectors, from its seven lines of text. */
const VECTOR: DmarDescription = {
  hostAddressWidthBits: 46,
  interruptRemapping: true,
  oemId: 'IOMKIT',
  oemTableId: 'IOMMUKIT',
  structures: [
    {
      kind: 'DRHD',
      includePciAll: false,
      sizePagesLg2: 0,
      segment: 0,
      registerBase: 0xfed9_1000,
      scopes: [pci(SCOPE_TYPE.PCI_ENDPOINT, 4)],
    },
    {
      kind: 'DRHD',
      includePciAll: true,
      sizePagesLg2: 0,
      segment: 0,
      registerBase: 0xfed9_0000,
      scopes: [],
    },
    {
      kind: 'RMRR',
      segment: 0,
      start: 0x7b80_0000,
      last: 0x7b80_ffff,
      scopes: [pci(SCOPE_TYPE.PCI_ENDPOINT, 0x1d)],
    },
    {
      kind: 'ATSR',
      allPorts: false,
      segment: 0,
      scopes: [pci(SCOPE_TYPE.PCI_SUB_HIERARCHY, 0x1c)],
    },
    { kind: 'RHSA', registerBase: 0xfed9_0000, proximityDomain: 0 },
    { kind: 'ANDD', acpiDeviceNumber: 1, objectName: '\\_SB.PCI0.I2C0', paddingBytes: 1 },
    { kind: 'SATC', atcRequired: true, segment: 0, scopes: [pci(SCOPE_TYPE.PCI_ENDPOINT, 2)] },
  ],
};

describe('writeDmar (VT-d 8)', () => {
  test('a description gives the image among the vectors byte for byte', () => {
    const { creatorId, creatorRevision, oemRevision, revision } = readDmar(vectorTable())
      .table as NonNullable<ReturnType<typeof readDmar>['table']>;
    const bytes = writeDmar({ ...VECTOR, creatorId, creatorRevision, oemRevision, revision });
    expect(Buffer.from(bytes).toString('hex')).toBe(Buffer.from(vectorTable()).toString('hex'));
  });

  test('structures stand where the vectors say', () => {
    const file = new URL('../data/vtd-vectors.json', import.meta.url);
    const { dmar } = JSON.parse(readFileSync(file, 'utf8')) as {
      dmar: { structures: { offset: string }[] };
    };
    expect(readDmar(vectorTable()).offsets).toEqual(
      dmar.structures.map(({ offset }) => Number(offset)),
    );
  });

  test('all bytes sum to 0', () => {
    const sum = writeDmar(VECTOR).reduce((a, b) => (a + b) & 0xff, 0);
    expect(sum).toBe(0);
  });

  const u8 = fc.nat(0xff);
  const u16 = fc.nat(0xffff);
  const u32 = fc.nat(0xffff_ffff);
  const address = fc.maxSafeNat().map((value) => value % 2 ** 52);
  const text = (maxLength: number) =>
    fc
      .array(fc.integer({ min: 1, max: 0xff }), { maxLength })
      .map((codes) => String.fromCharCode(...codes));
  const scope = fc.record({
    type: u8,
    flags: u8,
    enumerationId: u8,
    startBus: u8,
    path: fc.array(fc.record({ device: u8, function: u8 }), { minLength: 1, maxLength: 124 }),
  });
  const scopes = fc.array(scope, { maxLength: 3 });
  const structure: fc.Arbitrary<DmarStructure> = fc.oneof(
    fc.record({
      kind: fc.constant('DRHD' as const),
      includePciAll: fc.boolean(),
      sizePagesLg2: fc.nat(15),
      segment: u16,
      registerBase: address,
      scopes,
    }),
    fc.record({
      kind: fc.constant('RMRR' as const),
      segment: u16,
      start: address,
      last: address,
      scopes,
    }),
    fc.record({
      kind: fc.constant('ATSR' as const),
      allPorts: fc.boolean(),
      segment: u16,
      scopes,
    }),
    fc.record({
      kind: fc.constant('RHSA' as const),
      registerBase: address,
      proximityDomain: u32,
    }),
    fc.record({
      kind: fc.constant('ANDD' as const),
      acpiDeviceNumber: u8,
      objectName: text(40),
      paddingBytes: fc.integer({ min: 1, max: 9 }),
    }),
    fc.record({
      kind: fc.constant('SATC' as const),
      atcRequired: fc.boolean(),
      segment: u16,
      scopes,
    }),
    fc.record({ kind: fc.constant('SIDP' as const), segment: u16, scopes }),
    fc.record({
      kind: fc.constant('raw' as const),
      type: fc.integer({ min: 7, max: 0xffff }),
      payload: fc.uint8Array({ maxLength: 40 }),
    }),
  );
  const description: fc.Arbitrary<DmarDescription> = fc.record(
    {
      revision: u8,
      oemId: text(6),
      oemTableId: text(8),
      oemRevision: u32,
      creatorId: text(4),
      creatorRevision: u32,
      hostAddressWidthBits: fc.integer({ min: 1, max: 256 }),
      interruptRemapping: fc.boolean(),
      x2apicOptOut: fc.boolean(),
      dmaControlOptIn: fc.boolean(),
      structures: fc.array(structure, { maxLength: 12 }),
    },
    { requiredKeys: ['hostAddressWidthBits', 'structures'] },
  );

  test('what was written is read back as it was described, sensible or not', () => {
    fc.assert(
      fc.property(description, (described) => {
        const { table, problems } = readDmar(writeDmar(described));
        expect(table).toEqual(completeDmar(described));
        expect(problems).toEqual(checkDmar(completeDmar(described)));
      }),
      { numRuns: 400 },
    );
  });

  const drhd = VECTOR.structures[0] as Extract<DmarStructure, { kind: 'DRHD' }>;
  const withStructure = (one: DmarStructure): DmarDescription => ({ ...VECTOR, structures: [one] });
  const REFUSED: readonly [string, DmarDescription, RegExp][] = [
    ['oemId of seven characters', { ...VECTOR, oemId: 'SEVENTH' }, /header: oemId: 'SEVENTH'/],
    ['address width 257', { ...VECTOR, hostAddressWidthBits: 257 }, /header: .*HAW.*0x100/],
    ['segment of 17 bits', withStructure({ ...drhd, segment: 0x10000 }), /DRHD 0: .*SEGMENT/],
    ['negative base', withStructure({ ...drhd, registerBase: -4096 }), /DRHD 0: .*BASE/],
    [
      'path without a hop',
      withStructure({ ...drhd, scopes: [{ ...pci(1, 1), path: [] }] }),
      /DRHD 0: .*1 to 124 elements, not 0/,
    ],
    [
      'device 256',
      withStructure({ ...drhd, scopes: [pci(1, 256)] }),
      /DRHD 0: DEVICE_SCOPE.DEVICE .*0x100/,
    ],
    [
      'structure above 64 KiB',
      withStructure({ ...drhd, scopes: Array.from({ length: 8192 }, () => pci(1, 1)) }),
      /DRHD 0 takes 65552 bytes/,
    ],
    [
      'NUL inside a name',
      withStructure({ kind: 'ANDD', acpiDeviceNumber: 1, objectName: 'A\0B', paddingBytes: 1 }),
      /ANDD 0: the name "A\\u0000B" contains a NUL/,
    ],
    [
      'type of 17 bits',
      withStructure({ kind: 'raw', type: 0x10000, payload: new Uint8Array() }),
      /structure of type 65536 0: type 65536 does not fit/,
    ],
  ];

  test.each(REFUSED)('refuses a value that does not fit: %s', (_, described, message) => {
    expect(() => writeDmar(described)).toThrow(message);
    expect(() => writeDmar(described)).toThrow(
      expect.objectContaining({ code: 'EINVAL', op: 'writeDmar' }),
    );
  });
});
