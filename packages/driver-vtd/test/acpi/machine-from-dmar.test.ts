import { ACCESS, isIommuError, parseRid } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import {
  type DeviceScope,
  type DmarMachineOptions,
  type DmarStructure,
  type DmarTable,
  LEGACY_PROFILE,
  machineFromDmar,
  readDmar,
  SCOPE_TYPE,
} from '../../src/index.ts';
import { vectorTable } from './fixture.ts';
import { realTables } from './real-tables.ts';

const tableOf = (bytes: Uint8Array): DmarTable => {
  const { table } = readDmar(bytes);
  if (!table) throw new Error('no table');
  return table;
};

const vector = tableOf(vectorTable());

const scope = (type: number, startBus: number, ...path: [number, number][]): DeviceScope => ({
  type,
  flags: 0,
  enumerationId: 0,
  startBus,
  path: path.map(([device, fn]) => ({ device, function: fn })),
});

const unit = (
  registerBase: number,
  scopes: readonly DeviceScope[],
  rest: Partial<Extract<DmarStructure, { kind: 'DRHD' }>> = {},
): DmarStructure => ({
  kind: 'DRHD',
  includePciAll: scopes.length === 0,
  sizePagesLg2: 0,
  segment: 0,
  registerBase,
  scopes,
  ...rest,
});

const withStructures = (...structures: DmarStructure[]): DmarTable => ({ ...vector, structures });

const { PCI_ENDPOINT, PCI_SUB_HIERARCHY, IOAPIC, ACPI_NAMESPACE } = SCOPE_TYPE;

/** Unit number of every device, by name. */
const unitsByDevice = (table: DmarTable, options: DmarMachineOptions) => {
  const { units, withoutUnit } = machineFromDmar(table, options);
  const entries = units.flatMap(({ endpoints }, index) =>
    endpoints.map(({ name }) => [name, index] as const),
  );
  return Object.fromEntries([...entries, ...withoutUnit.map(({ name }) => [name, 'none'])]);
};

const refusal = (call: () => unknown): string => {
  try {
    call();
  } catch (error) {
    if (isIommuError(error)) return `${error.code} ${error.reason.rule}`;
    throw error;
  }
  return 'accepted';
};

describe('machineFromDmar', () => {
  test('the image among the vectors: units, RMRR, SATC, and DMA through both units', () => {
    const { machine, units, withoutUnit, problems } = machineFromDmar(vector, {
      devices: [{ rid: '00:06.0' }],
    });
    expect(units.map(({ endpoints }) => endpoints.map(({ rid }) => rid.toString(16)))).toEqual([
      ['20'],
      ['30', 'e8', '10'],
    ]);
    expect(withoutUnit).toEqual([]);
    expect(problems.map(({ rule }) => rule)).toEqual(['andd-scope']);
    expect(machine.endpoint(parseRid('00:02.0'))?.ats).toBe(true);
    const usb = machine.endpoint(parseRid('00:1d.0'));
    expect(usb && units[1]?.unit.reservedRegions(usb)).toEqual([
      { start: 0x7b80_0000, last: 0x7b80_ffff, kind: 'direct' },
      { start: 0xfee0_0000, last: 0xfeef_ffff, kind: 'msi' },
    ]);
    units.forEach(({ unit: one, endpoints: [device] }, index) => {
      expect(device?.dmaWrite(0x10_0000, Uint8Array.of(7))).toBe(0);
      const domain = one.allocPaging(device as never, { flags: 0 });
      one.attach(device as never, -1, domain);
      domain.mapRuns(0x100, Float64Array.of(0x10_0000 + index, 1), 1, 3);
      expect(device?.dmaWrite(0x10_0000, Uint8Array.of(7))).toBe(1);
      expect(machine.memory.read32(0x1_0000_0000 + index * 4096)).toBe(7);
    });
  });

  test('the address width of the table reaches the hardware (8.1)', () => {
    const { units } = machineFromDmar({ ...vector, hostAddressWidthBits: 39 });
    expect(units.map(({ unit: one }) => one.hardware.features.hawBits)).toEqual([39, 39]);
  });

  test('every real table without errors builds; scopes are where the bytes say', () => {
    const seen = new Map<string, number>();
    const count = (name: string, by = 1) => seen.set(name, (seen.get(name) ?? 0) + by);
    for (const { machine: name, bytes } of realTables()) {
      const table = tableOf(bytes);
      const built = refusal(() => machineFromDmar(table, { ramBytes: 4096 * 256 }));
      count(built);
      if (built !== 'accepted') expect(name).toMatch(/IdeaPadFlex 15|ThinkPad E15 Gen 2/);
      const made = machineFromDmar(table, { ramBytes: 4096 * 256, acceptErrors: true });
      count('units', made.units.length);
      count('devices', made.machine.endpoints.length);
      count('unresolved', made.unresolved.length);
      count('without unit', made.withoutUnit.length);
      expect(ownersFromBytes(bytes)).toEqual(ownersOf(made));
    }
    expect(Object.fromEntries(seen)).toEqual({
      accepted: 306,
      'EINVAL register-base': 2,
      units: 620,
      devices: 750,
      unresolved: 10, // the RMRR scopes with two hops: these machines' bridges are not in the table
      'without unit': 0,
    });
  });
});

describe('which unit a device is under (8.3)', () => {
  const bridges = [
    { rid: '00:1c.0', secondaryBus: 1, subordinateBus: 4 },
    { rid: '01:00.0', secondaryBus: 2, subordinateBus: 3 },
    { rid: '00:1d.0', secondaryBus: 5, subordinateBus: 5 },
  ];
  const devices = ['00:02.0', '00:1c.0', '01:00.0', '02:03.0', '03:00.1', '04:00.0', '05:00.0'].map(
    (rid) => ({ rid }),
  );
  const inOrder = (...owners: (number | string)[]) =>
    Object.fromEntries(devices.map(({ rid }, index) => [rid, owners[index]]));

  const CASES: readonly [string, readonly DmarStructure[], ReturnType<typeof inOrder>][] = [
    [
      'INCLUDE_PCI_ALL takes the rest',
      [unit(0x1000_0000, [scope(PCI_ENDPOINT, 0, [2, 0])]), unit(0x1000_1000, [])],
      inOrder(0, 1, 1, 1, 1, 1, 1),
    ],
    [
      'a bridge scope takes the bridge and all buses behind it',
      [unit(0x1000_0000, [scope(PCI_SUB_HIERARCHY, 0, [0x1c, 0])]), unit(0x1000_1000, [])],
      inOrder(1, 0, 0, 0, 0, 0, 1),
    ],
    [
      'a path of two hops goes through the first bridge to the second',
      [unit(0x1000_0000, [scope(PCI_SUB_HIERARCHY, 0, [0x1c, 0], [0, 0])]), unit(0x1000_1000, [])],
      inOrder(1, 1, 0, 0, 0, 1, 1),
    ],
    [
      'a path of three hops ends at a device',
      [
        unit(0x1000_0000, [scope(PCI_ENDPOINT, 0, [0x1c, 0], [0, 0], [3, 0])]),
        unit(0x1000_1000, []),
      ],
      inOrder(1, 1, 1, 0, 1, 1, 1),
    ],
    [
      'a device that is named wins over a bridge above it',
      [
        unit(0x1000_0000, [scope(PCI_SUB_HIERARCHY, 0, [0x1c, 0])]),
        unit(0x1000_1000, [scope(PCI_ENDPOINT, 2, [3, 0])]),
        unit(0x1000_2000, []),
      ],
      inOrder(2, 0, 0, 1, 0, 0, 2),
    ],
    [
      'without INCLUDE_PCI_ALL the others have no unit',
      [unit(0x1000_0000, [scope(PCI_ENDPOINT, 0, [2, 0])])],
      inOrder(0, 'none', 'none', 'none', 'none', 'none', 'none'),
    ],
    [
      'an I/O APIC at the same place is no device',
      [unit(0x1000_0000, [scope(IOAPIC, 0, [2, 0])]), unit(0x1000_1000, [])],
      inOrder(1, 1, 1, 1, 1, 1, 1),
    ],
    [
      'other segments are other buses',
      [unit(0x1000_0000, [scope(PCI_ENDPOINT, 0, [2, 0])], { segment: 1 }), unit(0x1000_1000, [])],
      inOrder(0, 0, 0, 0, 0, 0, 0),
    ],
  ];

  test.each(CASES)('%s', (_, structures, expected) => {
    const options = { devices, bridges, namedDevices: false };
    expect(unitsByDevice(withStructures(...structures), options)).toEqual(expected);
  });

  test('an ACPI device is under the unit whose scope has its number, by the name of its ANDD', () => {
    const table = withStructures(
      unit(0x1000_0000, [{ ...scope(ACPI_NAMESPACE, 0xf0, [0x15, 1]), enumerationId: 3 }]),
      unit(0x1000_1000, []),
      { kind: 'ANDD', acpiDeviceNumber: 3, objectName: '\\_SB.PCI0.I2C1', paddingBytes: 1 },
    );
    expect(unitsByDevice(table, { devices: [{ rid: '00:03.0' }] })).toEqual({
      '\\_SB.PCI0.I2C1': 0,
      '00:03.0': 1,
    });
  });

  test('a path through a bridge that the bus does not have is named', () => {
    const table = withStructures(
      unit(0x1000_0000, [scope(PCI_ENDPOINT, 0, [0x1e, 0], [2, 0])]),
      unit(0x1000_1000, []),
    );
    const { unresolved, machine } = machineFromDmar(table);
    expect(machine.endpoints).toEqual([]);
    expect(unresolved.map(({ message }) => message)).toEqual([
      'the DRHD scope 00:1e.0/02.0 leads through a bridge that the bus does not have: list it in bridges',
    ]);
  });

  test('an RMRR reaches the devices behind its bridge; relaxable ones are told apart (8.4)', () => {
    const table = withStructures(unit(0x1000_0000, []), {
      kind: 'RMRR',
      segment: 0,
      start: 0x7000_0000,
      last: 0x7000_1fff,
      scopes: [scope(PCI_SUB_HIERARCHY, 0, [0x1d, 0]), scope(PCI_ENDPOINT, 0, [2, 0])],
    });
    const relaxable = (rid: number) => rid === parseRid('00:02.0');
    const { units } = machineFromDmar(table, { devices, bridges, relaxable });
    const kinds = units[0]?.endpoints.map((endpoint) => [
      endpoint.name,
      units[0]?.unit.reservedRegions(endpoint).map(({ kind }) => kind),
    ]);
    expect(Object.fromEntries(kinds ?? [])).toMatchObject({
      '00:02.0': ['relaxable', 'msi'],
      '05:00.0': ['direct', 'msi'],
      '04:00.0': ['msi'],
    });
  });
});

describe('ATS as firmware permits (8.5, 8.8)', () => {
  const bridges = [
    { rid: '00:1c.0', secondaryBus: 1, subordinateBus: 2 },
    { rid: '01:00.0', secondaryBus: 2, subordinateBus: 2 },
    { rid: '00:1d.0', secondaryBus: 5, subordinateBus: 5 },
  ];
  const device = (rid: string) => ({ rid, ats: true, pri: true, pasidBits: 20 });
  const atsr = (allPorts: boolean, ...scopes: DeviceScope[]): DmarStructure => ({
    kind: 'ATSR',
    allPorts,
    segment: 0,
    scopes,
  });
  const satc = (atcRequired: boolean): DmarStructure => ({
    kind: 'SATC',
    atcRequired,
    segment: 0,
    scopes: [scope(PCI_ENDPOINT, 0, [2, 0])],
  });
  const port = scope(PCI_SUB_HIERARCHY, 0, [0x1c, 0]);

  const CASES: readonly [string, string, DmarStructure[], boolean, boolean][] = [
    ['integrated device', '00:03.0', [], true, true],
    ['behind a port that no ATSR names', '05:00.0', [atsr(false, port)], true, false],
    ['behind a port that an ATSR names', '01:03.0', [atsr(false, port)], true, true],
    ['two bridges below that port', '02:03.0', [atsr(false, port)], true, true],
    ['ALL_PORTS', '05:00.0', [atsr(true)], true, true],
    ['SATC, scalable mode', '00:02.0', [satc(true)], true, true],
    ['SATC with ATC_REQUIRED, legacy mode', '00:02.0', [satc(true)], false, false],
    ['SATC without ATC_REQUIRED, legacy mode', '00:02.0', [satc(false)], false, true],
  ];

  test.each(CASES)('%s', (_, rid, structures, scalable, permitted) => {
    const table = withStructures(unit(0x1000_0000, []), ...structures);
    const { machine, atsWithheld } = machineFromDmar(table, {
      devices: [device(rid)],
      bridges,
      unit: () => ({ scalable }),
    });
    const endpoint = machine.endpoint(parseRid(rid));
    expect(endpoint?.ats).toBe(permitted);
    expect(endpoint?.pri).toBe(permitted);
    expect(atsWithheld).toEqual(permitted ? [] : [endpoint]);
  });

  test('a unit without scalable mode counts as legacy mode', () => {
    const { atsWithheld } = machineFromDmar(withStructures(unit(0x1000_0000, []), satc(true)), {
      unit: () => ({ capabilities: LEGACY_PROFILE }),
    });
    expect(atsWithheld.map(({ rid }) => rid)).toEqual([parseRid('00:02.0')]);
  });
});

describe('what machineFromDmar refuses', () => {
  const endpoint = scope(PCI_ENDPOINT, 0, [2, 0]);
  const CASES: readonly [string, DmarTable, DmarMachineOptions, string][] = [
    ['a register base of 0', withStructures(unit(0, [])), {}, 'EINVAL register-base'],
    ['no unit', withStructures(), {}, 'EINVAL no-unit'],
    ['no unit in the segment', vector, { segment: 3 }, 'EINVAL units'],
    [
      'a device under two units',
      withStructures(unit(0x1000_0000, [endpoint]), unit(0x1000_1000, [endpoint])),
      {},
      'EINVAL scope-twice',
    ],
    [
      'RAM above the address width',
      { ...vector, hostAddressWidthBits: 36 },
      { ramBase: 2 ** 36 },
      'EINVAL ram-range',
    ],
    [
      'more units than the address width has room for',
      {
        ...withStructures(
          ...Array.from({ length: 9 }, (_, i) =>
            unit(0x1000_0000 + i * 4096, [scope(PCI_ENDPOINT, 0, [i, 0])]),
          ),
        ),
        hostAddressWidthBits: 36,
      },
      {},
      'EINVAL units',
    ],
    [
      'a device that is listed twice',
      vector,
      { devices: [{ rid: '00:03.0' }, { rid: 0x18 }] },
      'EINVAL device-twice',
    ],
    [
      'a bridge whose buses do not lie behind it',
      vector,
      { bridges: [{ rid: '02:00.0', secondaryBus: 2, subordinateBus: 3 }] },
      'EINVAL bridge-buses',
    ],
    [
      'bridges whose buses cross',
      vector,
      {
        bridges: [
          { rid: '00:1c.0', secondaryBus: 1, subordinateBus: 3 },
          { rid: '00:1d.0', secondaryBus: 3, subordinateBus: 4 },
        ],
      },
      'EINVAL bridge-buses',
    ],
    [
      'a bus number that is none',
      vector,
      { bridges: [{ rid: '00:1c.0', secondaryBus: Number.NaN, subordinateBus: 256 }] },
      'EINVAL bridge-buses',
    ],
  ];
  test.each(CASES)('%s', (_, table, options, expected) => {
    expect(refusal(() => machineFromDmar(table, options))).toBe(expected);
  });

  test('with acceptErrors a reserved region that is none is left out', () => {
    const table = withStructures(unit(0x1000_0000, []), {
      kind: 'RMRR',
      segment: 0,
      start: 0x7000_0000,
      last: 0x6fff_ffff,
      scopes: [endpoint],
    });
    expect(refusal(() => machineFromDmar(table))).toBe('EINVAL rmrr-range');
    const { machine, units } = machineFromDmar(table, { acceptErrors: true });
    const [graphics] = machine.endpoints;
    expect(graphics && units[0]?.unit.reservedRegions(graphics).map(({ kind }) => kind)).toEqual([
      'msi',
    ]);
  });
});

/** RID to register base of the unit, from the raw bytes: first unit that names it, else the rest. */
const ownersFromBytes = (bytes: Uint8Array): Record<string, number> => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const named = new Map<number, number>();
  const others = new Set<number>();
  let rest = -1;
  for (let at = 48, index = 0; at < bytes.length; at += view.getUint16(at + 2, true)) {
    const type = view.getUint16(at, true);
    if (type === 0 && view.getUint8(at + 4) === 1) rest = index;
    const first = [16, 24, 8, 20, 1e9, 8, 8][type] ?? 1e9;
    const end = at + view.getUint16(at + 2, true);
    for (let s = at + first; s < end; s += view.getUint8(s + 1)) {
      const kind = view.getUint8(s);
      if (view.getUint8(s + 1) !== 8 || (kind !== 1 && kind !== 5)) continue;
      const devfn = view.getUint8(s + 6) * 8 + view.getUint8(s + 7);
      const rid = view.getUint8(s + 5) * 256 + devfn;
      if (type === 0) named.set(rid, index);
      else others.add(rid);
    }
    if (type === 0) index++;
  }
  const rids = new Set([...named.keys(), ...others]);
  return Object.fromEntries([...rids].map((rid) => [rid, named.get(rid) ?? rest]));
};

const ownersOf = ({ units }: ReturnType<typeof machineFromDmar>): Record<string, number> =>
  Object.fromEntries(
    units.flatMap(({ endpoints }, index) => endpoints.map(({ rid }) => [rid, index])),
  );

test('a device under a unit starts blocked, one without unit passes', () => {
  const table = withStructures(unit(0x1000_0000, [scope(PCI_ENDPOINT, 0, [2, 0])]));
  const { machine } = machineFromDmar(table, { devices: [{ rid: '00:03.0' }] });
  const ask = (rid: string) =>
    machine.endpoint(parseRid(rid))?.agent?.translatePage(parseRid(rid), -1, 1, ACCESS.READ);
  expect(ask('00:02.0')).toBeLessThan(0);
  expect(ask('00:03.0')).toBe(undefined);
});
