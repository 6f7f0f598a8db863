/**
 * `iommu-case/1`: what a case file holds, and reading it.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';

/** A number as a case spells it: JSON number or `'0x...'`. */
export type CaseNumber = number | string;

/** One step; which keys count depends on `op`. */
export interface CaseStep {
  readonly op: 'mem' | 'reg' | 'check_reg' | 'read_mem' | 'probe';
  readonly id?: string;
  readonly addr?: CaseNumber;
  readonly hex?: string;
  readonly q?: readonly CaseNumber[];
  readonly off?: CaseNumber;
  readonly size?: number;
  readonly value?: CaseNumber;
  readonly mask?: CaseNumber;
  readonly len?: CaseNumber;
  readonly bdf?: string;
  readonly iova?: CaseNumber;
  readonly write?: boolean;
  readonly pasid?: CaseNumber;
}

/** A fault as a case names it. */
export type CaseFault = Readonly<Record<string, unknown>>;

/** An answer of `expect.results` or `also_legal`: the keys that are given count. */
export type CaseAnswer = Readonly<Record<string, unknown>>;

/** A case. */
export interface HardwareCase {
  readonly name?: string;
  readonly arch?: string;
  readonly model?: Readonly<Record<string, unknown>>;
  readonly steps?: readonly CaseStep[];
  readonly memory?: readonly Omit<CaseStep, 'op'>[];
  readonly registers?: readonly Omit<CaseStep, 'op'>[];
  readonly probes?: readonly Omit<CaseStep, 'op'>[];
  readonly fill?: readonly { readonly addr: CaseNumber; readonly len: CaseNumber }[];
  readonly expect: {
    readonly results?: readonly CaseAnswer[];
    readonly memory?: readonly { readonly id: string; readonly hex: string }[];
  };
  readonly also_legal?: Readonly<Record<string, readonly CaseAnswer[]>>;
}

/** The steps of a case in order; the short form is memory, registers, probes. */
export const stepsOf = (item: HardwareCase): readonly CaseStep[] => {
  const as = (op: CaseStep['op'], list: readonly Omit<CaseStep, 'op'>[] = []): CaseStep[] =>
    list.map((step) => ({ ...step, op }));
  return (
    item.steps ?? [
      ...as('mem', item.memory),
      ...as('reg', item.registers),
      ...as('probe', item.probes),
    ]
  );
};

/** The cases in the text of a file: one case, or `{ cases }`; none when it is no case file. */
const casesIn = (text: string): readonly HardwareCase[] => {
  const content = JSON.parse(text) as {
    readonly cases?: HardwareCase[];
    readonly expect?: unknown;
  };
  if (Array.isArray(content.cases)) return content.cases;
  return content.expect === undefined ? [] : [content as unknown as HardwareCase];
};

/** Case files (`.json`, `.json.gz`) at or below a path, in order of name. */
export const caseFilesAt = (path: string): string[] => {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path)
    .sort()
    .map((name) => join(path, name))
    .flatMap((entry) => (statSync(entry).isDirectory() ? caseFilesAt(entry) : [entry]))
    .filter((entry) => /\.json(\.gz)?$/.test(entry));
};

/**
 * Read all cases of a `.json` or `.json.gz` file.
 *
 * @throws {Error} when the file cannot be read or is no JSON
 */
export const readCases = (file: string): readonly HardwareCase[] => {
  const bytes = readFileSync(file);
  return casesIn((file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8'));
};
