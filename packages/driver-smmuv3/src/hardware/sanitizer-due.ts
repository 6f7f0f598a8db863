/**
 * From a changed structure to the commands that the change asks for, and from commands to words.
 *
 * @spec SMMUv3 3.21 (configuration changes), 4.3, 4.4
 */
import { decode, hex } from '@iommukit/bits';
import { ENTRY_KIND, type IotlbEntry } from '@iommukit/pgtable-fast';
import { CFGI, CFGI_RANGE, COMMAND, RANGE_ALL, TLBI } from '../spec/commands.ts';
import { type HardwareMemory, readDwords } from './memory.ts';
import type {
  LoggedCommand,
  SanitizerFinding,
  SeenStructure,
  StructureChange,
} from './sanitizer-findings.ts';

const NS_EL1_TAGS = 0x1_0000;
const ACCESS_FLAG = 0x400;
const DESCRIPTORS = new Set(['TABLE_DESCRIPTOR', 'S1_LEAF', 'S2_LEAF']);

/** First of `structures` that no longer reads as it did; access flags are no change. */
export const changeOf = (
  memory: HardwareMemory,
  structures: readonly SeenStructure[],
): StructureChange | undefined => {
  for (const { structure, address, words, what } of structures) {
    const now = new Uint32Array(words.length);
    if (!readDwords(memory, address, now, words.length)) continue;
    const newWords = [...now];
    const ignored = DESCRIPTORS.has(structure) ? ACCESS_FLAG : 0;
    const differs = newWords.some(
      (word, at) => ((word ^ (words[at] as number)) & ~(at === 0 ? ignored : 0)) !== 0,
    );
    if (differs) return { structure, address, oldWords: words, newWords, what };
  }
  return undefined;
};

/** A cache entry that is stale. */
export interface StaleEntry {
  readonly kind: SanitizerFinding['kind'];
  readonly rid: number;
  readonly pasid: number;
  readonly iovaPfn: number;
  /** Absent for configuration and device TLBs. */
  readonly entry?: IotlbEntry | undefined;
}

/** The commands that a change asks for; `undefined` = the stream table moved. */
export const dueFor = (change: StructureChange | undefined, stale: StaleEntry): string[] => {
  const { kind, entry } = stale;
  const device = kind === 'stale-device-tlb' ? [deviceCommand(stale)] : [];
  const configuration = configurationCommands(change, stale);
  if (configuration !== undefined) {
    const flush = entry === undefined ? [] : [wholeTag(entry)];
    return [...configuration, ...flush, ...device];
  }
  return [...(entry === undefined ? [] : pageCommands(change, entry)), ...device];
};

const configurationCommands = (
  change: StructureChange | undefined,
  { rid, pasid }: StaleEntry,
): string[] | undefined => {
  const stream = `SID ${hex(rid)}`;
  const context = `${stream} SSID ${hex(Math.max(pasid, 0))}`;
  switch (change?.structure) {
    case undefined:
      return ['CFGI_ALL'];
    case 'L1STD':
      return [`CFGI_STE ${stream} Leaf=0`];
    case 'STE':
      return [`CFGI_STE ${stream}`];
    case 'L1CD':
      return [`CFGI_CD ${context} Leaf=0`];
    case 'CD':
      return [`CFGI_CD ${context}`];
    default:
      return undefined;
  }
};

/** A whole ASID, VMID or world. */
const wholeTag = ({ kind, tagA, tagB }: IotlbEntry): string => {
  if (kind === ENTRY_KIND.SECOND_STAGE) return `TLBI_S12_VMALL VMID ${tagA}`;
  if (tagA >= NS_EL1_TAGS) return tagB < 0 ? 'TLBI_EL2_ALL' : `TLBI_EL2_ASID ASID ${tagB}`;
  return tagB < 0 ? `TLBI_NH_ALL VMID ${tagA}` : `TLBI_NH_ASID VMID ${tagA} ASID ${tagB}`;
};

const pageCommands = (change: StructureChange | undefined, entry: IotlbEntry): string[] => {
  const { kind, tagA, tagB, iovaPfn } = entry;
  const leaf = change?.structure === 'TABLE_DESCRIPTOR' ? ' Leaf=0' : '';
  const page = `page ${hex(iovaPfn * 4096)}`;
  if (kind === ENTRY_KIND.SECOND_STAGE) return [`TLBI_S2_IPA ${page} VMID ${tagA}${leaf}`];
  // A combined entry does not know its IPA: TLBI_S2_IPA alone leaves it.
  if (change?.what.startsWith('stage 2') === true)
    return [`TLBI_S2_IPA VMID ${tagA}${leaf}`, `TLBI_NH_ALL VMID ${tagA}`];
  if (tagA >= NS_EL1_TAGS)
    return [tagB < 0 ? `TLBI_EL2_VAA ${page}${leaf}` : `TLBI_EL2_VA ${page} ASID ${tagB}${leaf}`];
  return [
    tagB < 0
      ? `TLBI_NH_VAA ${page} VMID ${tagA}${leaf}`
      : `TLBI_NH_VA ${page} VMID ${tagA} ASID ${tagB}${leaf}`,
  ];
};

const deviceCommand = ({ rid, pasid, iovaPfn }: StaleEntry): string => {
  const substream = pasid < 0 ? '' : ` SSID ${hex(pasid)}`;
  return `ATC_INV SID ${hex(rid)}${substream} page ${hex(iovaPfn * 4096)}`;
};

const OPCODE_NAMES = new Map<number, string>(
  Object.entries(COMMAND).map(([name, code]) => [code, name]),
);

/** Commands that name one VMID. */
const OF_A_VMID = new Set<string>([
  'TLBI_NH_ALL',
  'TLBI_NH_ASID',
  'TLBI_NH_VA',
  'TLBI_NH_VAA',
  'TLBI_S12_VMALL',
  'TLBI_S2_IPA',
]);

/** What a command is about; undefined when it invalidates nothing. */
export const describeCommand = (words: ArrayLike<number>): LoggedCommand | undefined => {
  const unsigned = Uint32Array.from({ length: 4 }, (_, at) => words[at] as number);
  const opcode = (unsigned[0] as number) & 0xff;
  const name = OPCODE_NAMES.get(opcode) ?? '';
  if (name.startsWith('CFGI')) return describeConfiguration(name, unsigned);
  if (name.startsWith('TLBI')) return describeTranslation(name, unsigned);
  if (opcode !== COMMAND.ATC_INV) return undefined;
  const target = unsigned[1] as number;
  return { text: `ATC_INV SID ${hex(target)}`, about: 'device', target, leafOnly: false };
};

const describeConfiguration = (name: string, words: Uint32Array): LoggedCommand => {
  const about = 'configuration';
  if (name === 'CFGI_STE_RANGE') {
    const { SID, RANGE } = decode(CFGI_RANGE, words);
    const text = RANGE === RANGE_ALL ? 'CFGI_ALL' : `${name} SID ${hex(SID)} Range=${RANGE}`;
    return { text, about, target: -1, leafOnly: false };
  }
  const { SID, SSID, LEAF } = decode(CFGI, words);
  const substream = name === 'CFGI_CD' ? ` SSID ${hex(SSID)}` : '';
  const leafOnly = LEAF === 1 && name !== 'CFGI_CD_ALL';
  return { text: `${name} SID ${hex(SID)}${substream}`, about, target: SID, leafOnly };
};

const describeTranslation = (name: string, words: Uint32Array): LoggedCommand => {
  const { VMID, ASID, LEAF, ADDR } = decode(TLBI, words);
  const ofVmid = OF_A_VMID.has(name);
  const parts = [
    name,
    ...(/VAA?$|IPA$/.test(name) ? [`page ${hex(ADDR)}`] : []),
    ...(ofVmid ? [`VMID ${VMID}`] : []),
    ...(/ASID$|VA$/.test(name) ? [`ASID ${ASID}`] : []),
  ];
  const leafOnly = LEAF === 1;
  return { text: parts.join(' '), about: 'translations', target: ofVmid ? VMID : -1, leafOnly };
};
