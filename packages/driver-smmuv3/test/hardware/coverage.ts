/** Which test reaches what: the table in the README is generated from this. */
import { readFileSync } from 'node:fs';
import { CMDQ_ERR, COMMAND, EVENT, EVENT_DOC, GLOBAL_ERROR } from '../../src/spec/index.ts';
import { loadVectors } from '../vector-data.ts';

interface Place {
  readonly file: string;
  /** Text that stands in that file. */
  readonly test: string;
}

const at = (file: string, test: string): Place => ({ file, test });
const A = 'ats.test.ts';
const C = 'commands-and-events.test.ts';
const F = 'configuration-commands.test.ts';
const D = 'hostile-devices.test.ts';
const E = 'explain.test.ts';
const H = 'httu.test.ts';
const P = 'pri.test.ts';
const R = 'registers.test.ts';
const S = 'stalls.test.ts';
const T = 'wide-and-small.test.ts';
const W = 'worlds.test.ts';
const X = 'permissions.test.ts';
const SAN = 'sanitizer.test.ts';
const SNAP = 'snapshot.test.ts';
/** A worked example of the vectors, by its name. */
const vector = (test: string): Place => at('smmuv3-vectors.json.gz', test);

const EVENTS: Readonly<Record<keyof typeof EVENT, Place>> = {
  F_UUT: at(A, 'a unit without ATS: F_UUT for both kinds'),
  C_BAD_STREAMID: vector('sid-out-of-range'),
  F_STE_FETCH: vector('ste-fetch-abort'),
  C_BAD_STE: vector('ste-v0'),
  F_BAD_ATS_TREQ: at(A, 'F_BAD_ATS_TREQ says what was asked for'),
  F_STREAM_DISABLED: vector('nossid-dss0'),
  F_TRANSL_FORBIDDEN: at(A, 'EATS=0 is F_TRANSL_FORBIDDEN'),
  C_BAD_SUBSTREAMID: vector('ssid-too-big'),
  F_CD_FETCH: vector('cd-fetch-abort'),
  C_BAD_CD: vector('cd-v0'),
  F_WALK_EABT: vector('s2-walk-abort'),
  F_TRANSLATION: vector('nested-s2-tt'),
  F_ADDR_SIZE: vector('s1-addr-size-leaf'),
  F_ACCESS: vector('s1-af0-fault'),
  F_PERMISSION: vector('nested-s2-write-denied'),
};

const COMMANDS: Readonly<Record<keyof typeof COMMAND, Place>> = {
  PREFETCH_CONFIG: at(F, 'PREFETCH_CONFIG'),
  PREFETCH_ADDR: at(F, 'PREFETCH_ADDR'),
  CFGI_STE: at(F, 'CFGI_STE of another stream'),
  CFGI_STE_RANGE: at(F, 'CFGI_STE_RANGE of the next 8'),
  CFGI_CD: at(F, 'CFGI_CD of another substream'),
  CFGI_CD_ALL: at(F, 'CFGI_CD_ALL of another stream'),
  TLBI_NH_ALL: at(W, 'NH_ALL of another VMID'),
  TLBI_NH_ASID: at(W, 'NH_ASID, global page'),
  TLBI_NH_VA: at(W, "'NH_VA'"),
  TLBI_NH_VAA: at(W, "'NH_VAA'"),
  TLBI_EL2_ALL: at(W, 'EL2_ALL'),
  TLBI_EL2_ASID: at(W, 'EL2_ASID, global page'),
  TLBI_EL2_VA: at(W, "'EL2_VA'"),
  TLBI_EL2_VAA: at(W, "'EL2_VAA'"),
  TLBI_S12_VMALL: at(C, 'TLBI_S12_VMALL of another VMID'),
  TLBI_S2_IPA: at(C, 'TLBI_S2_IPA inside the block'),
  TLBI_NSNH_ALL: at(W, "'NSNH_ALL'"),
  ATC_INV: at(P, 'ATC_INV all, no SSID'),
  PRI_RESP: at(P, 'PRI_RESP success'),
  RESUME: at(S, 'waits with a tag in its record, and goes on after RESUME'),
  STALL_TERM: at(S, 'STALL_TERM aborts those of its stream'),
  SYNC: at(C, 'SYNC with CS=IRQ writes its message after the consumer index passed it'),
};

const COMMAND_ERRORS: Readonly<Record<keyof typeof CMDQ_ERR, Place>> = {
  NONE: at(C, 'after an error: fix the command, acknowledge GERROR, and the queue goes on'),
  ILL: at(C, '%s is CERROR_ILL: the queue stops at it'),
  ABT: at(C, 'a queue outside memory is CERROR_ABT'),
  ATC_INV_SYNC: at(P, '%s: CERROR_ATC_INV_SYNC at the next SYNC, which has not run'),
};

const ERRORS: Readonly<Record<keyof typeof GLOBAL_ERROR, Place>> = {
  CMDQ_ERR: at(R, 'an error toggles its bit when it is not active'),
  EVENTQ_ABT_ERR: at(C, 'a queue outside memory is EVENTQ_ABT_ERR'),
  PRIQ_ABT_ERR: at(P, 'a write that aborts is PRIQ_ABT_ERR'),
  MSI_CMDQ_ABT_ERR: at(R, 'SYNC: its message may abort'),
  MSI_EVENTQ_ABT_ERR: at(R, 'bit %i: a message that aborts'),
  MSI_PRIQ_ABT_ERR: at(P, 'a message that aborts is MSI_PRIQ_ABT_ERR'),
  MSI_GERROR_ABT_ERR: at(R, 'bit %i: a message that aborts'),
};

const MODES: readonly (readonly [string, Place])[] = [
  ['SMMUEN=0, GBPA', at(C, 'SMMUEN = 0: GBPA decides, nothing is recorded')],
  ['stream table, linear', vector('s1-4k-48bit')],
  ['stream table, two levels, spans', vector('st2-beyond-span')],
  ['STE.Config 0 to 3', vector('ste-abort')],
  ['Config 4', vector('ste-bypass-too-big')],
  ['Config 5, 4K', vector('s1-4k-48bit')],
  ['Config 5, 16K', vector('s1-16k-47bit')],
  ['Config 5, 64K, 52-bit addresses', vector('s1-64k-52bit-va')],
  ['LPA2 (DS)', vector('s1-4k-lpa2')],
  ['TTB1', vector('s1-ttb1-4k')],
  ['TBI', vector('s1-tbi0')],
  ['blocks', vector('s1-1g-block')],
  ['contiguous groups', at(W, 'an entry of a contiguous group goes with any page of it')],
  ['hierarchical permissions, HAD', vector('s1-aptable-ro-had')],
  ['Config 6, concatenated tables', vector('s2-16k-concat16')],
  ['Config 7', vector('nested-legacy-A1')],
  ['S2PTW', vector('nested-ttb-device-s2ptw')],
  ['CDs, linear', vector('ssid-linear')],
  ['CDs, two levels, 4K and 64K leaves', vector('ssid-2lvl-64k')],
  ['S1DSS 0', vector('nossid-dss0')],
  ['S1DSS 1', vector('nested-s1dss-bypass')],
  ['S1DSS 2', vector('ssid0-reserved')],
  ['AFFD', vector('s1-af0-affd')],
  ['HTTU: access flag', vector('s1-af0-ha')],
  ['HTTU: dirty state', vector('s1-dbm-write')],
  ['HTTU through stage 2', vector('nested-httu-af-ok')],
  [
    'HTTU: descriptors that change under an update',
    at(H, 'one that changes every time ends as an'),
  ],
  ['HTTU 3: table descriptors', at(H, 'access flag of table descriptors (HTTU 3)')],
  ['permissions of stage 1, PAN, EPAN, WXN', at(X, 'Arm ARM D8.4: rights of a stage-1 page')],
  ['E0PD', at(X, 'E0PD: users find nothing')],
  ['XNX', at(X, 'XN 3 without XNX: nobody')],
  ['PRIVCFG, INSTCFG', at(X, 'PRIVCFG 3: privileged')],
  ['S2FWB', at(X, 'Device with S2FWB')],
  ['stream worlds EL2, EL2-E2H', at(W, 'EL2 has one table base')],
  ['VMW', at(W, 'VMW %i')],
  ['range invalidation', at(C, 'a range that reaches it')],
  ['big-endian tables', at(H, 'big-endian descriptors are updated in their order')],
  ['small tables (STT)', at(T, '4K from level 3 (STT)')],
  ['CD.A=0: RAZ/WI', vector('s1-ro-write-raz')],
  ['CD.R=0: no event', vector('s1-ro-write-silent')],
  ['CD.S, S2S: stalls', at(S, 'of stage 2 (S2S) waits too')],
  ['STALL_MODEL 2', at(S, 'STALL_MODEL 2: what does not stall is illegal')],
  ['EATS 1', at(A, 'EATS=1: the PA passes, up to OAS; a PASID is ignored')],
  ['EATS 2', at(A, 'EATS=2: the IPA goes through stage 2, cached like any other')],
  ['ATSCHK=0', at(A, 'ATSCHK=0: the address is taken as it is, up to OAS')],
  ['REC_CFG_ATS', at(A, 'configuration errors are CA, recorded with CR2.REC_CFG_ATS only')],
  ['ATS, random', at(D, 'with full ATS: the frame and the rights of an untranslated request')],
  ['event queue overflow', at(C, 'the queue overflows: OVFLG toggles once')],
  ['page request queue', at(P, 'entries of the page request queue')],
  ['overflow and inhibition', at(P, 'nothing more enters until the acknowledgement')],
  ['automatic responses, PPS, PPAR', at(P, 'PPS=0 and STE.PPAR=1 repeats it')],
  ['stop markers', at(P, 'a stop marker is owed no answer')],
  ['PRIQ_IRQ_CFG2.LO', at(P, 'for the last of each group, and for no other')],
  ['SEV, wired interrupts', at(R, 'a command queue that is no longer full wakes waiting CPUs')],
  ['explain', at(E, 'the same reads in the same order, nothing changed')],
  ['sanitizer', at(SAN, 'a use of a stale entry: the entry, who changed what, what was due')],
  ['snapshot, restore', at(SNAP, 'the bytes are canonical')],
];

const VECTOR_NAMES = new Set(
  loadVectors<{ walks: readonly { readonly name: string }[] }>().walks.map(({ name }) => name),
);

const exists = ({ file, test }: Place): boolean =>
  file.endsWith('.gz')
    ? VECTOR_NAMES.has(test)
    : readFileSync(new URL(file, import.meta.url))
        .toString()
        .includes(test);

const places = (): Place[] => [
  ...[EVENTS, COMMANDS, COMMAND_ERRORS, ERRORS].flatMap((table) => Object.values<Place>(table)),
  ...MODES.map(([, place]) => place),
];

/** Rows whose file does not contain the test that they name. */
export const missingRows = (): string[] =>
  places()
    .filter((place) => !exists(place))
    .map(({ file, test }) => `${file}: ${test}`);

const cells = ({ file, test }: Place): string => `${test.replaceAll("'", '')} | ${file}`;
const hex = (code: number): string => `0x${code.toString(16).padStart(2, '0')}`;

const table = (head: string, rows: readonly string[]): string[] => [
  `| ${head} | test | file |`,
  `|${'---|'.repeat(head.split('|').length + 2)}`,
  ...rows,
  '',
];

/** The generated part of the README. */
export const coverageMarkdown = (): string => {
  const keys = <K extends string>(codes: Readonly<Record<K, number>>) => Object.keys(codes) as K[];
  return [
    ...table(
      'event | meaning',
      keys(EVENT).map(
        (name) => `| ${hex(EVENT[name])} ${name} | ${EVENT_DOC[name]} | ${cells(EVENTS[name])} |`,
      ),
    ),
    ...table(
      'command',
      keys(COMMAND).map((name) => `| ${hex(COMMAND[name])} ${name} | ${cells(COMMANDS[name])} |`),
    ),
    ...table(
      'command error',
      keys(CMDQ_ERR).map(
        (name) => `| ${CMDQ_ERR[name]} CERROR_${name} | ${cells(COMMAND_ERRORS[name])} |`,
      ),
    ),
    ...table(
      'GERROR',
      keys(GLOBAL_ERROR).map(
        (name) => `| ${GLOBAL_ERROR[name]} ${name} | ${cells(ERRORS[name])} |`,
      ),
    ),
    ...table(
      'mode',
      MODES.map(([what, place]) => `| ${what} | ${cells(place)} |`),
    ),
  ]
    .join('\n')
    .trimEnd();
};
