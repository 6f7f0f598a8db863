/** Which test reaches what: the table in the README is generated from this. */
import { readFileSync } from 'node:fs';
import { FAULT_CONDITIONS } from '../../src/spec/index.ts';
import { FAULT_CASES, NOT_MODELLED } from './fault-cases.ts';

const vectors: { faults: { name: string; fault: { reason: string } }[] } = JSON.parse(
  readFileSync(new URL('../data/vtd-vectors.json', import.meta.url)).toString(),
);

interface Row {
  readonly what: string;
  readonly file: string;
  /** Text that stands in that file. */
  readonly test: string;
}

const row = (what: string, file: string, test: string): Row => ({ what, file, test });
const Q = 'invalidation-queue.test.ts';
const C = 'caches.test.ts';
const R = 'registers.test.ts';
const A = 'ats-pri.test.ts';

const COMMANDS: readonly Row[] = [
  row('cc_inv (1) global, domain, device, FM', C, 'cc_inv device with function mask'),
  row('iotlb_inv (2) global, domain, page', C, 'iotlb_inv page around'),
  row('dev_tlb_inv (3)', Q, 'one page'),
  row('iec_inv (4), only with ECAP.IR', Q, 'iec_inv without interrupt remapping'),
  row(
    'inv_wait (5) SW, IF, FN, PD',
    Q,
    'writes status, sets IWC and sends the completion message once',
  ),
  row('p_iotlb_inv (6) PASID, page', C, 'p_iotlb_inv page around'),
  row('pc_inv (7) global, domain, PASID', C, 'pc_inv another PASID'),
  row('p_dev_tlb_inv (8), GI', Q, '2 MiB of every PASID'),
  row('page_grp_resp (9)', Q, 'failure without PASID'),
  row('hpt_inv (A) refused', Q, 'hpt_inv without host permission tables'),
  row('queue errors IQEI 1 to 7', Q, 'IQEI %i, head stays, IQE set'),
  row('ITE, ITESID', Q, 'a device that does not answer'),
  row('CCMD, IVA, IOTLB registers', R, 'IOTLB %s'),
  row('SRTP, TE, QIE handshakes', R, 'RTADDR alone changes nothing'),
  row('virtual commands', R, 'allocates PASIDs until none is left'),
];

const MODES: readonly Row[] = [
  row('TTM 00 legacy, TT 00 and 01', 'vectors.test.ts', 'walks'),
  row('TT 10 pass-through', C, 'legacy context entry: %s'),
  row('TTM 01 scalable, PGTT 1 to 4', 'vectors.test.ts', 'walks'),
  row('TTM 10 reserved, 11 abort-DMA', A, 'abort mode'),
  row('translation off', R, 'translation off: untranslated passes'),
  row('nested with accessed/dirty of both stages', 'vectors.test.ts', 'walks'),
  row('caching mode', C, 'keeps a second-stage fault until its page is invalidated'),
  row('protected memory', R, 'blocks DMA to both regions without a record'),
  row('SSIRWE', 'fault-cases.ts', 'SSIRWE in legacy mode'),
  row('ATS translation requests', A, 'translation requests (VT-d 4.2.4)'),
  row('ATS translated requests', A, 'translated requests (VT-d 4.2.3)'),
  row('page requests, overflow, automatic responses', A, 'a full queue overflows'),
  row('fault overflow, FRI, PPF, events', 'faults.test.ts', 'overflows after the last record'),
  row(
    'snapshot, restore, reset',
    R,
    'brings back registers, latched state and stale cache entries',
  ),
];

/** Every row's file really contains the test it names. */
export function missingRows(): string[] {
  return [...COMMANDS, ...MODES]
    .filter(({ file, test }) => {
      const text = readFileSync(new URL(file, import.meta.url)).toString();
      return !text.includes(test);
    })
    .map(({ file, test }) => `${file}: ${test}`);
}

function faultTests(reason: number): string {
  const absent = NOT_MODELLED.get(reason);
  if (absent !== undefined) return `not modelled: ${absent}`;
  const names = [
    ...vectors.faults
      .filter(({ fault }) => Number(fault.reason) === reason)
      .map(({ name }) => name),
    ...FAULT_CASES.filter((test) => test.reason === reason).map(({ name }) => name),
  ];
  return names.join('; ');
}

/** The generated part of the README. */
export function coverageMarkdown(): string {
  const lines = [
    '| reason | condition | meaning | tests |',
    '|---|---|---|---|',
    ...FAULT_CONDITIONS.map(
      ({ reason, condition, doc }) =>
        `| ${reason.toString(16).toUpperCase().padStart(2, '0')}h | ${condition} | ${doc} | ${faultTests(reason)} |`,
    ),
    '',
    '| command or error | test | file |',
    '|---|---|---|',
    ...COMMANDS.map(({ what, file, test }) => `| ${what} | ${test} | ${file} |`),
    '',
    '| mode | test | file |',
    '|---|---|---|',
    ...MODES.map(({ what, file, test }) => `| ${what} | ${test} | ${file} |`),
  ];
  return lines.join('\n');
}
