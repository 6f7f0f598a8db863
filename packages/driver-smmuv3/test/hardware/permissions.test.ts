import { describe, expect, test } from 'vitest';
import {
  BIT7,
  createTableRig,
  EXEC,
  LEAF,
  PRIV,
  READ,
  S1_PAGE,
  S1_ROOT,
  S2_ROOT,
  WRITE,
} from './table-rig.ts';

const VA = 0x1234_5000n;
const PA = 0x9_8000n;
const OK = '0x98000';
const DENIED = 'F_PERMISSION';
const AP1 = 1n << 6n;
const PXN = 1n << 53n;
const UXN = 1n << 54n;
const RO = S1_PAGE | BIT7;

const stage1 = (
  leaf: bigint,
  cd: object = {},
  capabilities: object = {},
  ste: object = {},
  tableBits = 0n,
) => {
  const t = createTableRig({ capabilities });
  t.stream(ste);
  t.context(cd);
  t.map(S1_ROOT, VA, PA, leaf, { tableBits });
  return t;
};

const ACCESSES = {
  'user read': READ,
  'user write': WRITE,
  'user fetch': EXEC,
  'privileged read': READ | PRIV,
  'privileged write': WRITE | PRIV,
  'privileged fetch': EXEC | PRIV,
} as const;
type Access = keyof typeof ACCESSES;
const ALL = Object.keys(ACCESSES) as Access[];
const ROWS: readonly [string, bigint, object, object, readonly Access[]][] = [
  [
    'read-write for all',
    S1_PAGE,
    {},
    {},
    ['user read', 'user write', 'user fetch', 'privileged read', 'privileged write'],
  ],
  [
    'read-only for all',
    RO,
    {},
    {},
    ['user read', 'user fetch', 'privileged read', 'privileged fetch'],
  ],
  [
    'read-write, privileged',
    S1_PAGE & ~AP1,
    {},
    {},
    ['privileged read', 'privileged write', 'privileged fetch'],
  ],
  ['read-only, privileged', RO & ~AP1, {}, {}, ['privileged read', 'privileged fetch']],
  ['UXN', RO | UXN, {}, {}, ['user read', 'privileged read', 'privileged fetch']],
  ['PXN', RO | PXN, {}, {}, ['user read', 'user fetch', 'privileged read']],
  ['WXN, writable', S1_PAGE & ~AP1, { WXN: 1 }, {}, ['privileged read', 'privileged write']],
  [
    'WXN, writable by users',
    S1_PAGE,
    { WXN: 1 },
    {},
    ['user read', 'user write', 'privileged read', 'privileged write'],
  ],
  [
    'WXN, read-only',
    RO,
    { WXN: 1 },
    {},
    ['user read', 'user fetch', 'privileged read', 'privileged fetch'],
  ],
  ['PAN, a user page', RO, { PAN: 1 }, {}, ['user read', 'user fetch', 'privileged fetch']],
  ['PAN, a privileged page', RO & ~AP1, { PAN: 1 }, {}, ['privileged read', 'privileged fetch']],
  [
    'PAN and EPAN, executable by users',
    RO & ~AP1,
    { PAN: 1, EPAN: 1 },
    { idr3: { EPAN: 1 } },
    ['privileged fetch'],
  ],
  [
    'PAN and EPAN, not executable by users',
    (RO & ~AP1) | UXN,
    { PAN: 1, EPAN: 1 },
    { idr3: { EPAN: 1 } },
    ['privileged read', 'privileged fetch'],
  ],
  [
    'EPAN in a unit without it',
    RO & ~AP1,
    { PAN: 1, EPAN: 1 },
    {},
    ['privileged read', 'privileged fetch'],
  ],
];

describe('Arm ARM D8.4: rights of a stage-1 page', () => {
  test.each(ROWS)('%s', (_, leaf, cd, capabilities, allowed) => {
    const seen = ALL.filter(
      (name) => stage1(leaf, cd, capabilities).ask(VA, ACCESSES[name]) === OK,
    );
    expect(seen).toEqual(allowed);
    // And the same out of a TLB that other accesses have filled.
    const t = stage1(leaf, cd, capabilities);
    for (const name of ALL) t.ask(VA, ACCESSES[name]);
    expect(ALL.filter((name) => t.ask(VA, ACCESSES[name]) === OK)).toEqual(allowed);
  });

  test.each([
    ['APTable[0]', 1n << 61n, {}, {}, ['privileged read', 'privileged write', 'privileged fetch']],
    [
      'APTable[1]',
      1n << 62n,
      {},
      {},
      ['user read', 'user fetch', 'privileged read', 'privileged fetch'],
    ],
    [
      'XNTable',
      1n << 60n,
      {},
      {},
      ['user read', 'user write', 'privileged read', 'privileged write'],
    ],
    [
      'PXNTable',
      1n << 59n,
      {},
      {},
      ['user read', 'user write', 'user fetch', 'privileged read', 'privileged write'],
    ],
    [
      'all of them, HAD',
      15n << 59n,
      { HAD0: 1 },
      {},
      ['user read', 'user write', 'user fetch', 'privileged read', 'privileged write'],
    ],
    [
      'APTable[0], HAD in a unit without it',
      1n << 61n,
      { HAD0: 1 },
      { idr3: { HAD: 0 } },
      ['privileged read', 'privileged write', 'privileged fetch'],
    ],
  ])('hierarchical: %s', (_, tableBits, cd, capabilities, allowed) => {
    const ask = (name: Access) =>
      stage1(S1_PAGE, cd, capabilities, {}, tableBits).ask(VA, ACCESSES[name]);
    expect(ALL.filter((name) => ask(name) === OK)).toEqual(allowed);
  });

  test('E0PD: users find nothing, whatever privileged accesses have cached', () => {
    const t = stage1(RO, { E0PD0: 1 }, { idr3: { E0PD: 1 } });
    expect([t.ask(VA, READ | PRIV), t.ask(VA, READ), t.ask(VA, READ | PRIV)]).toEqual([
      OK,
      'F_TRANSLATION',
      OK,
    ]);
    expect(stage1(RO, { E0PD0: 1 }).ask(VA)).toBe(OK);
    expect(stage1(RO, { E0PD1: 1 }, { idr3: { E0PD: 1 } }).ask(VA)).toBe(OK);
  });
});

describe('SMMUv3 5.2: PRIVCFG and INSTCFG', () => {
  const OVERRIDES = { idr1: { ATTR_PERMS_OVR: 1 } } as const;
  test.each([
    ['PRIVCFG 0', {}, READ, RO & ~AP1, DENIED],
    ['PRIVCFG 1', { PRIVCFG: 1 }, READ, RO & ~AP1, DENIED],
    ['PRIVCFG 3: privileged', { PRIVCFG: 3 }, READ, RO & ~AP1, OK],
    ['PRIVCFG 2: unprivileged', { PRIVCFG: 2 }, READ | PRIV, RO & ~AP1, DENIED],
    ['INSTCFG 3: a fetch', { INSTCFG: 3 }, READ, RO | UXN, DENIED],
    ['INSTCFG 3, but not writes', { INSTCFG: 3 }, WRITE, S1_PAGE | UXN, OK],
    ['INSTCFG 2: data', { INSTCFG: 2 }, EXEC, RO | UXN, OK],
  ])('%s', (_, ste, access, leaf, result) => {
    expect(stage1(leaf, {}, OVERRIDES, ste).ask(VA, access)).toBe(result);
  });

  test('INSTCFG 2 leaves a write alone, whatever else it carries', () => {
    const t = createTableRig({ capabilities: OVERRIDES });
    t.stream({ CONFIG: 6, INSTCFG: 2, ...t.stage2() });
    t.map(S2_ROOT, VA, PA, LEAF & ~AP1);
    expect(t.ask(VA, WRITE | EXEC)).toBe(OK);
  });

  test('in a unit without them they are not looked at', () => {
    expect(stage1(RO & ~AP1, {}, {}, { PRIVCFG: 3 }).ask(VA)).toBe(DENIED);
  });

  test('the record shows what is left of the request', () => {
    const t = stage1(0n, {}, OVERRIDES, { PRIVCFG: 3, INSTCFG: 3 });
    t.unit.translatePage(0x10, -1, 1, READ, 0);
    expect((t.events()[0]?.[1] as bigint) & (7n << 33n)).toBe(7n << 33n);
  });
});

describe('Arm ARM D8.4: rights of a stage-2 page', () => {
  const XN = (code: number) => BigInt(code) << 53n;
  const stage2 = (leaf: bigint, XNX = 1) => {
    const t = createTableRig({ capabilities: { idr3: { XNX } } });
    t.stream({ CONFIG: 6, ...t.stage2() });
    t.map(S2_ROOT, VA, PA, leaf);
    return t;
  };
  const users = ['user read', 'user write', 'privileged read', 'privileged write'];
  test.each([
    ['XN 0: all execute', LEAF, 1, ['user fetch', 'privileged fetch']],
    ['XN 1: users', LEAF | XN(1), 1, ['user fetch']],
    ['XN 2: nobody', LEAF | XN(2), 1, []],
    ['XN 3: privileged', LEAF | XN(3), 1, ['privileged fetch']],
    ['XN 1 without XNX: all', LEAF | XN(1), 0, ['user fetch', 'privileged fetch']],
    ['XN 3 without XNX: nobody', LEAF | XN(3), 0, []],
  ])('%s', (_, leaf, xnx, fetches) => {
    const t = stage2(leaf, xnx);
    const seen = ALL.filter((name) => t.ask(VA, ACCESSES[name]) === OK);
    expect(seen).toEqual(
      ALL.filter((name) => users.includes(name) || (fetches as string[]).includes(name)),
    );
  });

  test('S2AP: read and write apart; execution needs read', () => {
    const readOnly = stage2(LEAF & ~BIT7);
    expect([readOnly.ask(VA, READ), readOnly.ask(VA, WRITE)]).toEqual([OK, 'F_PERMISSION S2 IN']);
    const writeOnly = stage2(LEAF & ~AP1);
    expect([WRITE, READ, EXEC].map((access) => writeOnly.ask(VA, access))).toEqual([
      OK,
      'F_PERMISSION S2 IN',
      'F_PERMISSION S2 IN',
    ]);
  });

  const FWB = { idr3: { FWB: 1 } } as const;
  const memory = (attr: bigint) => (LEAF & ~0x3cn) | (attr << 2n);
  test.each([
    ['Device', 0n, {}, {}, 'F_PERMISSION S2 CD'],
    ['Device-GRE', 3n, {}, {}, 'F_PERMISSION S2 CD'],
    ['Normal NC', 5n, {}, {}, OK],
    ['Normal WB', 15n, {}, {}, OK],
    ['Device with S2FWB', 1n, FWB, { S2FWB: 1 }, 'F_PERMISSION S2 CD'],
    ['forced WB with S2FWB', 6n, FWB, { S2FWB: 1 }, OK],
    ['attribute 8 with S2FWB: Device', 8n, FWB, { S2FWB: 1 }, 'F_PERMISSION S2 CD'],
    ['attribute 8, S2FWB in a unit without it: Normal', 8n, {}, { S2FWB: 1 }, OK],
    ['Device without S2PTW', 0n, {}, { S2PTW: 0 }, OK],
  ])('SMMUv3 5.2, S2PTW: tables in %s memory', (_, attr, capabilities, ste, result) => {
    const t = createTableRig({ capabilities });
    t.stream({ CONFIG: 7, ...t.stage2({ S2PTW: 1, ...ste }) });
    t.context();
    t.map(S1_ROOT, VA, PA, S1_PAGE);
    t.map(S2_ROOT, PA, PA, LEAF);
    for (const page of [0x6_0000n, BigInt(S1_ROOT), 0x400_0000n, 0x401_0000n])
      t.map(S2_ROOT, page, page, page === 0x6_0000n ? memory(attr) : LEAF);
    expect(t.ask(VA)).toBe(result);
  });

  test('both stages: what neither takes away', () => {
    const t = createTableRig();
    t.stream({ CONFIG: 7, ...t.stage2() });
    t.context();
    t.map(S1_ROOT, VA, PA, S1_PAGE);
    t.map(S2_ROOT, PA, PA, LEAF & ~BIT7);
    for (const page of [0x6_0000n, BigInt(S1_ROOT), 0x400_0000n, 0x401_0000n])
      t.map(S2_ROOT, page, page, LEAF);
    expect([t.ask(VA, READ), t.ask(VA, WRITE), t.ask(VA, EXEC)]).toEqual([
      OK,
      'F_PERMISSION S2 IN',
      OK,
    ]);
  });
});
