/** Which test reaches what: the table in the README is generated from this. */
import { readFileSync } from 'node:fs';
import { FAULT_CONDITIONS } from '../../src/spec/index.ts';
import { vectorsText } from '../vectors.ts';
import { FAULT_CASES } from './fault-cases.ts';

const vectors: { faults: { name: string; fault: { reason: string } }[] } = JSON.parse(vectorsText);

interface Row {
  readonly what: string;
  readonly file: string;
  /** Text that stands in that file. */
  readonly test: string;
}

const row = (what: string, file: string, test: string): Row => ({ what, file, test });
const Q = 'invalidation-queue.test.ts';
const D = 'descriptors.test.ts';
const C = 'caches.test.ts';
const R = 'registers.test.ts';
const A = 'ats-pri.test.ts';
const F = 'faults.test.ts';
const S = 'sanitizer.test.ts';
const H = 'host-permission.test.ts';
const I = 'interrupt-remapping.test.ts';
const P = 'posted-interrupts.test.ts';
const CASES = 'fault-cases.ts';
const V = '../data/vtd-vectors.json';

const COMMANDS: readonly Row[] = [
  row('cc_inv (1) global', C, 'cc_inv global'),
  row('cc_inv domain, legacy', C, 'cc_inv another domain'),
  row('cc_inv domain, scalable: as global', C, 'cc_inv domain acts as global in scalable mode'),
  row('cc_inv device, legacy: with DID', C, 'cc_inv device with another DID'),
  row('cc_inv device, scalable: DID ignored', C, 'cc_inv device, DID ignored'),
  row('cc_inv device, function masks', C, 'cc_inv device, function masked by bit 2'),
  row('iotlb_inv (2) global', C, 'iotlb_inv global'),
  row('iotlb_inv domain', C, 'iotlb_inv another domain'),
  row('iotlb_inv page, AM, over all stages', C, 'iotlb_inv page around'),
  row('iotlb_inv without PSI, AM above MAMV', Q, 'iotlb_inv page with AM above MAMV'),
  row('dev_tlb_inv (3) page, range, everything', Q, 'one page'),
  row('iec_inv (4) global, index and mask', D, '256 indexes'),
  row('iec_inv: what goes', I, 'four indexes, aligned by the mask'),
  row('iec_inv without interrupt remapping', Q, 'iec_inv without interrupt remapping'),
  row('inv_wait (5) SW, IF', Q, 'writes status, sets IWC and sends the completion message once'),
  row('inv_wait FN, PD, neither', Q, 'without status write and interrupt it is a fence'),
  row('p_iotlb_inv (6) PASID', C, 'p_iotlb_inv another PASID'),
  row('p_iotlb_inv page, AM', C, 'p_iotlb_inv page around'),
  row('pc_inv (7) domain', C, 'pc_inv another domain'),
  row('pc_inv PASID', C, 'pc_inv another PASID'),
  row('pc_inv global', C, 'pc_inv global'),
  row('p_dev_tlb_inv (8) page, everything', Q, 'everything of a PASID'),
  row('p_dev_tlb_inv GI', Q, '2 MiB of every PASID'),
  row('page_grp_resp (9) success, invalid, failure', Q, 'failure without PASID'),
  row('hpt_inv (A) global, domain, page, AM', H, 'page of another domain'),
  row('hpt_inv, levels (IH)', H, 'domain, levels 2 and 1'),
  row('hpt_inv without host permission tables', Q, 'hpt_inv without host permission tables'),
  row('every form of 128 and 256 bits', D, '%s, %i bits: executed'),
  row('every reserved bit of every form', D, '%s of %i bits: each reserved bit alone is refused'),
  row('types 6 to 10 in 128-bit queues, legacy', D, '%s exists in 256-bit queues of scalable mode'),
  row('IQEI 1: tail beyond the queue', Q, 'tail beyond the queue'),
  row('IQEI 2: fetch error', Q, 'descriptor where nothing answers'),
  row('IQEI 3: type', Q, 'type 11'),
  row('IQEI 4: reserved field', Q, 'reserved bit in the first qword'),
  row('IQEI 5: width', Q, '128-bit queue in scalable mode'),
  row('IQEI 6: tail alignment', Q, 'tail not a multiple of 32 with DW=1'),
  row('IQEI 7: table mode', Q, "'reserved TTM'"),
  row('IQE: recovery', Q, 'clearing IQE fetches the replaced descriptor again'),
  row('ITE, ITESID', Q, 'a device that does not answer'),
  row('ICE, ICESID', Q, 'ICE: the queue goes on'),
  row('CCMD global, domain, device', R, 'CCMD %s'),
  row('IVA, IOTLB global, domain, page', R, 'IOTLB %s'),
  row('registers while QIES=1, TTM other than 00', R, 'does nothing and reports granularity 0 %s'),
  row('registers from major version 6 on', R, 'does nothing from major version 6 on'),
  row('GCMD.SRTP', R, 'RTADDR alone changes nothing'),
  row('GCMD.TE', R, 'TE without SRTP uses root table 0'),
  row('GCMD.QIE', Q, 'QIES follows QIE; disabling sets the head to 0'),
  row('GCMD.WBF, IRE, CFI, SIRTP', R, 'WBF and SFL leave no status'),
  row('GCMD.SIRTP', I, 'IRTA takes effect with SIRTP'),
  row('VCMD allocate, free, null, undefined', R, 'allocates PASIDs until none is left'),
  row('ECMD: all undefined', R, 'are all undefined'),
];

const MODES: readonly Row[] = [
  row('translation off', R, 'translation off: untranslated passes'),
  row('TTM 00 legacy, TT 00', V, 'legacy-4level-4k-read'),
  row('TT 01 (ATS)', V, 'legacy TT=01 4K rw'),
  row('TT 10 pass-through', V, 'legacy-passthrough'),
  row('TT 11 reserved', V, 'ctx-tt3'),
  row('TTM 01 scalable, both halves of a root entry', V, 'sm-ss-devfn-80-upper-table'),
  row('TTM 10 reserved', V, 'reserved-ttm'),
  row('TTM 11 abort-DMA', V, 'abort-dma-mode'),
  row('abort-DMA: the queue still runs', Q, 'abort-DMA mode still executes descriptors'),
  row('SSIRWE', CASES, 'SSIRWE in legacy mode'),
  row('AW 1, 2, 3', V, 'legacy-3level-1g-atomic'),
  row('PGTT 1 first stage, 4 levels', V, 'sm-fs-4level-4k-write-pasid'),
  row('FSPM 1: 5 levels', V, 'sm-fs-5level-4k-read-eafe'),
  row('PGTT 2 second stage', V, 'sm-ss-4level-4k'),
  row('PGTT 3 nested', V, 'sm-nested-4k-over-2m-write'),
  row('PGTT 4 pass-through', V, 'sm-passthrough'),
  row('PGTT 0, 5 to 7', V, 'sm-pgtt-reserved'),
  row('RID_PASID', V, 'sm-nested-2m-over-2m-rid-pasid'),
  row('SSADE', V, 'sm-ss-ssade-write-sets-A-and-D'),
  row('SSADE below a first stage', V, 'sm-nested-ssade-read'),
  row('EAFE', V, 'sm-fs-5level-4k-read-eafe'),
  row('SRE, WPE', V, 'sm-fs-supervisor-write-wpe0-ro-page'),
  row('PWSNP=0', V, 'fs-ad-update-nonsnooped'),
  row('PGSNP, SNP', A, 'PGSNP sets N'),
  row('ZLR', C, 'a zero-length read of a write-only page succeeds with ZLR only'),
  row('NWFS', A, 'without NWFS a read-only request sets the dirty bit too'),
  row('FPD', V, 'sm-pasid-np-fpd-in-directory'),
  row('caching mode: second stage', C, 'keeps a second-stage fault until its page is invalidated'),
  row('caching mode: context entries', C, 'keeps a missing context entry with domain id 0'),
  row('caching mode: PASID entries', C, 'keeps a missing PASID entry'),
  row('caching mode: interrupt entries', I, 'faults are kept with caching mode only'),
  row('ESRTPS', C, 'SRTP empties every cache with ESRTPS, none without'),
  row('protected memory', R, 'blocks DMA to both regions without a record'),
  row('interrupt range, without PASID', R, 'FEEx_xxxxh: writes go to interrupt logic'),
  row('host permission tables: 4 KiB, 2 MiB, 1 GiB pages', H, '%s with access %i and pair %s: %i'),
  row('HPTSZ 0 to 3', H, 'HPTSZ: bits 51:49 of the address'),
  row('HPT1GPS', H, 'pairs of level 3 are reserved without HPT1GPS'),
  row('HPTE, EPTR: whose table', H, 'without PASID the table of RID_PASID'),
  row('HPT cache', H, 'keeps the entry of every level'),
  row('interrupts: compatibility format, CFI', I, 'CFIS=1 in extended mode'),
  row('interrupts: handle, SHV, subhandle', I, 'handle and subhandle do not wrap'),
  row('interrupts: SVT, SQ, SID', I, 'SVT %i, SQ %i, SID %i'),
  row('interrupts: x2APIC mode (EIME)', I, 'x2APIC: 32 bits of destination'),
  row('interrupts: posted, URG, SN, ON', P, 'ON %i, SN %i, URG %i'),
  row('interrupt entry cache', I, 'an entry answers until it is invalidated'),
  row('ESIRTPS', I, 'SIRTP and IRE=0 empty it with ESIRTPS only'),
  row('ATS translation requests', A, 'translation requests (VT-d 4.2.4)'),
  row('ATS translated requests', A, 'translated requests (VT-d 4.2.3)'),
  row('page requests, overflow, automatic responses', A, 'a full queue overflows'),
  row('fault overflow, FRI, PPF, events', F, 'overflows after the last record'),
  row(
    'snapshot, restore, reset',
    R,
    'brings back registers, latched state and stale cache entries',
  ),
  row('warm reset', R, 'a warm reset keeps sticky status and records'),
  row('stop markers', A, 'a stop marker that overflows'),
  row('sanitizer', S, 'names entry, change and due command when a stale translation is used'),
  row('sanitizer: host permissions', H, 'names a permission that was taken away without hpt_inv'),
  row('sanitizer: interrupts', I, 'names an entry that changed without iec_inv'),
];

/** Every row's file really contains the test it names. */
export function missingRows(): string[] {
  const unnamed = FAULT_CONDITIONS.filter(({ reason }) => faultTests(reason) === '');
  return [
    ...unnamed.map(({ condition }) => `no test reaches ${condition}`),
    ...[...COMMANDS, ...MODES]
      .filter(({ file, test }) => {
        const text = readFileSync(new URL(file, import.meta.url)).toString();
        return !text.includes(test);
      })
      .map(({ file, test }) => `${file}: ${test}`),
  ];
}

function faultTests(reason: number): string {
  const names = [
    ...vectors.faults
      .filter(({ fault }) => Number(fault.reason) === reason)
      .map(({ name }) => name),
    ...FAULT_CASES.filter((test) => test.reason === reason).map(({ name }) => name),
  ];
  return names.join('; ');
}

const rowMarkdown = ({ what, file, test }: Row): string =>
  `| ${what} | ${test.replaceAll("'", '')} | ${file.replace(/^.*\//, '')} |`;

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
    ...COMMANDS.map(rowMarkdown),
    '',
    '| mode | test | file |',
    '|---|---|---|',
    ...MODES.map(rowMarkdown),
  ];
  return lines.join('\n');
}
