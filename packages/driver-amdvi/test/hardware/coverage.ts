/** Which test reaches what: the table in the README is generated from this. */
import { readFileSync } from 'node:fs';
import { EVENT, EVENT_DOC } from '../../src/spec/index.ts';

interface Row {
  readonly what: string;
  readonly file: string;
  /** Text that stands in that file. */
  readonly test: string;
}

const row = (what: string, file: string, test: string): Row => ({ what, file, test });
const G = 'guest-translation.test.ts';
const A = 'ats-ppr.test.ts';
const C = 'caches.test.ts';
const E = 'commands-and-events.test.ts';
const H = 'special-ranges.test.ts';
const R = 'registers.test.ts';
const S = 'snapshot.test.ts';
const V = 'vectors.ts';

/** By event code: what raises it. */
const EVENTS: Readonly<Partial<Record<keyof typeof EVENT, readonly Row[]>>> = {
  ILLEGAL_DEV_TABLE_ENTRY: [
    row('reserved values of guest fields', G, '%s is a reserved value of the entry'),
    row('bits of absent features', G, 'without EFR.%s its bits of the entry are reserved'),
    row('unsupported Mode', R, 'HATS 3: no host tables, every Mode but 0 is illegal'),
    row('IntCtl 3', E, 'IntCtl 3 is reserved'),
    row('translation request', A, 'a reserved value in the entry'),
  ],
  IO_PAGE_FAULT: [
    row('guest tables: GN, PR, RW, PE, RZ, US, NX', G, 'fault: %s'),
    row('nested: GN=0, the guest physical address', G, 'the host refuses %s: GN=0'),
    row('GCR3 tables through the host', G, 'the host refuses the GCR3 table'),
    row('rights and switches of the entry', G, 'a request with PASID and %s'),
    row('interrupt messages: I', E, 'IntCtl 0 aborts'),
    row('SE, SA, IG', E, 'three page faults with %s leave'),
    row('SE after INVALIDATE_DEVTAB_ENTRY', E, 'SE logs once more'),
    row('host tables, device table size', V, 'export const data'),
  ],
  DEV_TAB_HARDWARE_ERROR: [
    row('nothing answers at the entry', E, 'DEV_TAB_HARDWARE_ERROR when nothing answers'),
  ],
  PAGE_TAB_HARDWARE_ERROR: [
    row('host entry', E, 'PAGE_TAB_HARDWARE_ERROR when nothing answers'),
    row('GCR3 entry, guest entry: GN', G, 'nothing answers at %s: PAGE_TAB_HARDWARE_ERROR'),
    row('host entry of a nested walk', G, 'nothing answers at a host entry'),
    row('translation request: TR', A, 'a table where nothing answers'),
  ],
  ILLEGAL_COMMAND_ERROR: [
    row('opcode, reserved bit, address, device', E, '%s is ILLEGAL_COMMAND_ERROR and stops'),
    row('missing features, fields of each command', C, '%s is ILLEGAL_COMMAND_ERROR'),
  ],
  COMMAND_HARDWARE_ERROR: [row('fetch and store', E, '%s is COMMAND_HARDWARE_ERROR')],
  IOTLB_INV_TIMEOUT: [
    row('no answer, an answer to another request', A, '%s: IOTLB_INV_TIMEOUT, and the buffer'),
  ],
  INVALID_DEVICE_REQUEST: [
    row('Type 0 read of interrupt addresses', E, 'a read is no interrupt'),
    row('Type 1 translated request', A, 'I=0: INVALID_DEVICE_REQUEST Type 1'),
    row('Types 2, 3, 4, 6', H, 'the HyperTransport region'),
    row('TR=1, Types 0 and 1', A, '%s: completer abort and an event with TR'),
    row('TR=1, Type 2', A, 'a DeviceID beyond the table: Type 2'),
  ],
  INVALID_PPR_REQUEST: [
    row('DTE.PPR, V, PASID without GV: RX=1', A, '%s: INVALID_PPR_REQUEST, answered INVALID'),
    row('log disabled: RX=0', A, 'PPRLogEn=0: an event without RX'),
  ],
};

/** Codes that this model never writes. */
const ABSENT: Readonly<Partial<Record<keyof typeof EVENT, string>>> = {
  EVENT_COUNTER_ZERO: 'not modelled: there are no counter banks',
  GUEST_EVENT_FAULT: 'not modelled: no hardware vIOMMU',
  VIOMMU_HARDWARE_ERROR: 'not modelled: no hardware vIOMMU',
};

const COMMANDS: readonly Row[] = [
  row('COMPLETION_WAIT (1) S, I', E, 'COMPLETION_WAIT stores 64 bits and interrupts once'),
  row('INVALIDATE_DEVTAB_ENTRY (2)', E, 'INVALIDATE_DEVTAB_ENTRY: a changed entry counts'),
  row('INVALIDATE_IOMMU_PAGES (3) GN=0', E, 'INVALIDATE_IOMMU_PAGES of %s'),
  row('GN=0 reaches guest translations', C, 'GN=0: one host page reaches every guest translation'),
  row('GN=1: PASID, page, range, DomainID', C, 'what INVALIDATE_IOMMU_PAGES reaches of guest'),
  row('PDE: cached GCR3 entries', C, 'cached GCR3 entries'),
  row('every coding of S and the address', 'vectors.test.ts', 'AMD IOMMU 2.4.3: range of %s'),
  row('INVALIDATE_IOTLB_PAGES (4)', A, '%s reaches the device'),
  row('its timeout, and none', A, 'InvTimeOut %i waits for ever'),
  row('INVALIDATE_INTERRUPT_TABLE (5)', 'fuzz.ts', 'anyCommand'),
  row('PREFETCH_IOMMU_PAGES (6)', C, '%s are cached, absence leaves no event'),
  row('its Inval and PFCount', C, 'Inval forgets the page first'),
  row('COMPLETE_PPR_REQUEST (7)', C, 'COMPLETE_PPR_REQUEST %s'),
  row('INVALIDATE_IOMMU_ALL (8)', C, "['INVALIDATE_IOMMU_ALL', all, false]"),
  row('INSERT_GUEST_EVENT (9), RESET_VMMIO (A): refused', C, 'RESET_VMMIO without vIommuSup'),
  row('restart after an error', E, 'after an error only CmdBufEn 0 to 1 starts'),
];

const MODES: readonly Row[] = [
  row('IommuEn=0, V=0, TV=0, Mode 0 to 7', V, 'export const data'),
  row('host tables: levels, skips, sizes, rights, HAD', V, 'export const data'),
  row('guest tables, 4 levels, 4 KiB, 2 MiB, 1 GiB', G, 'a page of %s'),
  row('GuestPagingMode 1: five levels', G, 'GuestPagingMode 1: five levels'),
  row('GLX 0, 1, 2; PASMax', G, 'GLX %i: PASID %o through its levels'),
  row('GIoV, GV without GIoV', G, 'a request without PASID: %s'),
  row('canonical and unsigned addresses', G, 'PASID 0 is unsigned, others are sign-extended'),
  row('USSup, NXSup absent', G, 'without EFR.%s'),
  row('PAsize', G, 'address bits above PAsize are reserved'),
  row('GTEn', G, 'Control.GTEn=0: GV and its fields have no effect'),
  row('A and D, GAUpdateDis, GDUpdateDis', G, 'accessed and dirty bits of guest tables'),
  row('nested', G, 'every guest access goes through the host table'),
  row('GCR3TRPMode', G, 'GCR3TRPMode %s'),
  row('nested with HAD=3', G, 'HAD=3: writing accessed bits'),
  row('exclusion range', V, 'export const data'),
  row('HyperTransport region: IntCtl, IoCtl, SysMgt', H, 'the HyperTransport region'),
  row('interrupt range, IV, IntCtl, IG', E, 'interrupt range: %s'),
  row('ATS translation requests', A, 'answer with frame, rights and size of the page'),
  row('ATS with PASID', A, 'with PASID, %s'),
  row('U and FC of host entries', A, 'HOST_PTE.U and FC are told'),
  row('ATS translated requests', A, 'AMD IOMMU 2.1.4: translated requests'),
  row('page requests, groups, stop markers', A, 'stop markers with %o'),
  row('PPREn=0', A, 'PPREn=0: answered INVALID without an event'),
  row('PPR overflow and restart', A, 'a full log overflows, stops'),
  row('automatic responses, MaskGn', A, 'PprAutoRspAon: every request is answered'),
  row('PprOverflowEarly', A, 'PprOverflowEarly: a status bit and an interrupt'),
  row('dual PPR logs, swap', A, 'DualPprLogEn 2: log B takes over'),
  row('event overflow and restart', E, 'a full log overflows, stops'),
  row('dual event logs, swap', R, 'DualEventLogEn 2 swaps when A is full'),
  row('copies of hardware errors (HESup)', R, 'the first hardware error is kept'),
  row('MSI', R, 'MSI needs its enable'),
  row('x2APIC interrupts (IntCapXTEn)', R, 'IntCapXTEn: events and page requests'),
  row('every register: reset value, access', R, '%s: reset value, and what a write of ones'),
  row('registers of absent features', R, 'registers of absent features, and offsets without one'),
  row('real EFR values', R, 'the machine with EFR %s'),
  row('caches answer as fresh walks', 'fuzz.test.ts', 'same address or same event'),
  row('explain', 'explain.test.ts', 'reads what the worked example reads'),
  row('sanitizer', 'sanitizer.test.ts', 'names entry, change and due command'),
  row('snapshot, restore, reset', S, 'registers, caches and stops come back'),
];

/** What no row names, and rows whose file does not contain the test. */
export const missingRows = (): string[] => {
  const names = Object.keys(EVENT) as (keyof typeof EVENT)[];
  const unnamed = names.filter((name) => !EVENTS[name] && !ABSENT[name]);
  const rows = [...Object.values(EVENTS).flat(), ...COMMANDS, ...MODES];
  const lost = rows.filter(({ file, test }) => {
    const folder = file === V ? '../' : '';
    return !readFileSync(new URL(folder + file, import.meta.url))
      .toString()
      .includes(test);
  });
  return [
    ...unnamed.map((name) => `no test reaches ${name}`),
    ...lost.map(({ file, test }) => `${file}: ${test}`),
  ];
};

const testText = ({ file, test }: Row): string => {
  const name = file === V ? 'worked translations' : test.replaceAll("'", '');
  return `${name} | ${file === V ? 'vectors.test.ts' : file}`;
};

/** The generated part of the README. */
export const coverageMarkdown = (): string => {
  const events = (Object.keys(EVENT) as (keyof typeof EVENT)[]).flatMap((name) => {
    const head = `| ${EVENT[name]} | ${name} |`;
    const absent = ABSENT[name];
    if (absent !== undefined) return [`${head} ${EVENT_DOC[name]} | ${absent} | |`];
    return (EVENTS[name] ?? []).map((item) => `${head} ${item.what} | ${testText(item)} |`);
  });
  const plain = (item: Row): string => `| ${item.what} | ${testText(item)} |`;
  return [
    '| code | event | cause | test | file |',
    '|---|---|---|---|---|',
    ...events,
    '',
    '| command | test | file |',
    '|---|---|---|',
    ...COMMANDS.map(plain),
    '',
    '| mode | test | file |',
    '|---|---|---|',
    ...MODES.map(plain),
  ].join('\n');
};
