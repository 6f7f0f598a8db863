import { describe, expect, test } from 'vitest';
import {
  checkDmar,
  type DeviceScope,
  type DmarStructure,
  type DmarTable,
  formatDmarProblem,
  readDmar,
} from '../../src/acpi/index.ts';
import { vectorTable } from './fixture.ts';

const scope = (type: number, device: number, fn = 0): DeviceScope => ({
  type,
  flags: 0,
  enumerationId: 0,
  startBus: 0,
  path: [{ device, function: fn }],
});

const unit = (changes: Partial<Extract<DmarStructure, { kind: 'DRHD' }>> = {}): DmarStructure => ({
  kind: 'DRHD',
  includePciAll: true,
  sizePagesLg2: 0,
  segment: 0,
  registerBase: 0xfed9_0000,
  scopes: [],
  ...changes,
});

const region = (start: number, last: number): DmarStructure => ({
  kind: 'RMRR',
  segment: 0,
  start,
  last,
  scopes: [scope(1, 2)],
});

const acpiScope = { ...scope(5, 0x15), enumerationId: 1 };
const named = (number: number, objectName: string): DmarStructure => ({
  kind: 'ANDD',
  acpiDeviceNumber: number,
  objectName,
  paddingBytes: 1,
});

const base = readDmar(vectorTable()).table as DmarTable;
const table = (structures: DmarStructure[], changes: Partial<DmarTable> = {}): DmarTable => ({
  ...base,
  ...changes,
  structures,
});

describe('checkDmar', () => {
  test('a table with every kind of structure and nothing wrong', () => {
    const structures: DmarStructure[] = [
      unit({ includePciAll: false, scopes: [scope(1, 2), scope(2, 0x1c)] }),
      unit({ registerBase: 0xfed9_1000, sizePagesLg2: 4, scopes: [scope(3, 0x1e), acpiScope] }),
      region(0x7000_0000, 0x7000_0fff),
      { kind: 'ATSR', allPorts: true, segment: 0, scopes: [] },
      { kind: 'RHSA', registerBase: 0xfed9_0000, proximityDomain: 1 },
      named(1, '\\_SB.A'),
      { kind: 'SATC', atcRequired: false, segment: 0, scopes: [scope(1, 2)] },
      { kind: 'SIDP', segment: 0, scopes: [{ ...scope(1, 2), flags: 0x1f }] },
    ];
    expect(checkDmar(table(structures))).toEqual([]);
  });

  const CASES: readonly [string, DmarTable, string[]][] = [
    [
      'revision 0 (8.1)',
      table([unit()], { revision: 0 }),
      ['warning: header at 0x8: the revision is 0, the first one is 1 (revision)'],
    ],
    [
      'address width 53 (8.1)',
      table([unit()], { hostAddressWidthBits: 53 }),
      [
        'error: header at 0x24: the host address width is 53 bits, expected 32 to 52 (host-address-width)',
      ],
    ],
    [
      'X2APIC_OPT_OUT alone (8.1)',
      table([unit()], { interruptRemapping: false, x2apicOptOut: true }),
      [
        'warning: header at 0x25: X2APIC_OPT_OUT is set without INTR_REMAP, which alone gives it a meaning (x2apic-opt-out)',
      ],
    ],
    [
      'misaligned register base (8.3)',
      table([unit({ registerBase: 0xfed9_0800 })]),
      [
        'error: DRHD 0 at 0x38: the register base is 0xfed90800, expected a multiple of 0x1000 (register-base)',
      ],
    ],
    [
      'register set that ends above the address width (8.3)',
      table([unit({ registerBase: 2 ** 39 - 4096, sizePagesLg2: 1 })], {
        hostAddressWidthBits: 39,
      }),
      [
        'error: DRHD 0 at 0x38: the register base is 0x7ffffff000, its 0x2000 bytes end above the host address width of 39 bits (register-base)',
      ],
    ],
    [
      'register set inside a larger one below (8.3)',
      table([
        unit({ includePciAll: false, sizePagesLg2: 4, scopes: [scope(1, 1)] }),
        unit({ includePciAll: false, registerBase: 0xfed9_1000, scopes: [scope(1, 2)] }),
        unit({ registerBase: 0xfed9_f000 }),
      ]),
      [
        'error: DRHD 1 at 0x50: its registers at 0xfed91000 lie inside those of DRHD 0, which end at 0xfeda0000 (register-overlap)',
        'error: DRHD 2 at 0x68: its registers at 0xfed9f000 lie inside those of DRHD 0, which end at 0xfeda0000 (register-overlap)',
      ],
    ],
    [
      'one taker per segment, each last of its own (8.3)',
      table([
        unit({ segment: 1 }),
        unit({ registerBase: 0xfed9_1000, includePciAll: false, scopes: [scope(1, 1)] }),
        unit({ registerBase: 0xfed9_2000 }),
      ]),
      [],
    ],
    [
      'a PCI device named by the unit that takes all (8.3)',
      table([unit({ scopes: [scope(1, 2)] })]),
      [
        'warning: DRHD 0 at 0x40: the device scope 00:02.0 has type 1, expected 3, 4, 5 in the DRHD with INCLUDE_PCI_ALL (scope-type)',
      ],
    ],
    [
      'region with a misaligned base (8.4)',
      table([unit(), region(0x7000_0800, 0x7000_1fff)]),
      [
        'error: RMRR 0 at 0x48: the region 0x70000800 to 0x70001fff does not start at a multiple of 0x1000 (rmrr-range)',
      ],
    ],
    [
      'region above the address width (8.4)',
      table([unit(), region(2 ** 39 - 4096, 2 ** 39 + 4095)], { hostAddressWidthBits: 39 }),
      [
        'error: RMRR 0 at 0x50: the region 0x7ffffff000 to 0x8000000fff ends above the host address width of 39 bits (rmrr-range)',
      ],
    ],
    [
      'function 8 (8.3.1)',
      table([unit({ includePciAll: false, scopes: [scope(1, 2, 8)] })]),
      [
        'error: DRHD 0 at 0x46: the device scope 00:02.8 goes through device 0x2 function 0x8, expected at most 0x1f and 0x7 (scope-path)',
      ],
    ],
    [
      'an impossible second hop, at its own offset (8.3.1)',
      table([
        unit({
          includePciAll: false,
          scopes: [
            {
              ...scope(1, 2),
              path: [
                { device: 2, function: 0 },
                { device: 32, function: 0 },
              ],
            },
          ],
        }),
      ]),
      [
        'error: DRHD 0 at 0x48: the device scope 00:02.0/20.0 goes through device 0x20 function 0x0, expected at most 0x1f and 0x7 (scope-path)',
      ],
    ],
    [
      'a device twice under one unit (8.3)',
      table([unit({ includePciAll: false, scopes: [scope(1, 2), scope(1, 2)] })]),
      ['warning: DRHD 0 at 0x48: the device 00:02.0 is under DRHD 0 already (scope-twice)'],
    ],
    [
      'an ATSR that names an endpoint, a SATC that names an I/O APIC (8.5, 8.8)',
      table([
        unit(),
        { kind: 'ATSR', allPorts: false, segment: 0, scopes: [scope(1, 2)] },
        { kind: 'SATC', atcRequired: false, segment: 0, scopes: [scope(3, 2)] },
      ]),
      [
        'warning: ATSR 0 at 0x48: the device scope 00:02.0 has type 1, expected 2 in the ATSR (scope-type)',
        'warning: SATC 0 at 0x58: the device scope 00:02.0 has type 3, expected 1, 2 in the SATC (scope-type)',
      ],
    ],
    [
      'flag 5 in a SIDP (8.9)',
      table([unit(), { kind: 'SIDP', segment: 0, scopes: [{ ...scope(1, 2), flags: 0x30 }] }]),
      [
        'warning: SIDP 0 at 0x4a: flags 0x30 of the device scope 00:02.0: the SIDP knows 0x1f (scope-flags)',
      ],
    ],
    [
      'one ACPI device number for two names (8.7)',
      table([unit({ scopes: [acpiScope] }), named(1, '\\_SB.A'), named(1, '\\_SB.B')]),
      ['warning: ANDD 1 at 0x5e: ACPI device number 1 belongs to ANDD 0 already (andd-number)'],
    ],
    [
      'an empty name (8.7)',
      table([unit({ scopes: [acpiScope] }), named(1, '')]),
      ['error: ANDD 0 at 0x50: the name "" is empty (andd-name)'],
    ],
  ];

  test.each(CASES)('%s', (_, checked, expected) => {
    expect(checkDmar(checked).map(formatDmarProblem)).toEqual(expected);
  });
});
