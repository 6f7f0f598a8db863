/**
 * `iommu-case/1`: what a case file holds, and reading it.
 */
import { readFileSync } from 'node:fs';
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
  readonly len?: number;
  readonly bdf?: string;
  readonly iova?: CaseNumber;
  readonly write?: boolean;
  readonly pasid?: number;
}

/** A fault as a case names it. */
export type CaseFault = Readonly<Record<string, unknown>>;

/** What one probe gave. */
export interface ProbeResult {
  readonly id?: string;
  readonly ok: boolean;
  readonly pa?: string;
  readonly faults: readonly CaseFault[];
  /** Records that register writes since the previous probe caused. */
  readonly before: readonly CaseFault[];
}

/** A case. */
export interface HardwareCase {
  readonly name: string;
  readonly model?: Readonly<Record<string, unknown>>;
  readonly steps?: readonly CaseStep[];
  readonly memory?: readonly CaseStep[];
  readonly registers?: readonly CaseStep[];
  readonly probes?: readonly CaseStep[];
  readonly expect: {
    readonly results: readonly Readonly<Record<string, unknown>>[];
    readonly memory?: readonly { readonly id: string; readonly hex: string }[];
  };
  readonly also_legal?: Readonly<Record<string, readonly Readonly<Record<string, unknown>>[]>>;
}

/** Read all cases of a `.json` or `.json.gz` file. */
export const readCases = (file: URL): HardwareCase[] => {
  const bytes = readFileSync(file);
  const text = (file.pathname.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8');
  const content = JSON.parse(text) as HardwareCase | { readonly cases: HardwareCase[] };
  return 'cases' in content ? content.cases : [content];
};

/** Steps in order; the short form is memory, registers, probes. */
export const stepsOf = (item: HardwareCase): readonly CaseStep[] => {
  if (item.steps) return item.steps;
  const named = (op: CaseStep['op'], list: readonly CaseStep[] = []) =>
    list.map((step) => ({ ...step, op }));
  return [
    ...named('mem', item.memory),
    ...named('reg', item.registers),
    ...named('probe', item.probes),
  ];
};
