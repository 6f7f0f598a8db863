import { createAmdviUnit } from './amdvi-unit.ts';
import { caseFilesAt, type HardwareCase, readCases } from './case-file.ts';
import { CaseMemory } from './case-memory.ts';
import { differences } from './judge.ts';
import { type CaseUnit, replayCase } from './replay.ts';
import { createSmmuUnit } from './smmuv3-unit.ts';
import { createVtdUnit } from './vtd-unit.ts';

const UNITS: Readonly<Record<string, (item: HardwareCase, memory: CaseMemory) => CaseUnit>> = {
  vtd: createVtdUnit,
  amdvi: createAmdviUnit,
  smmuv3: createSmmuUnit,
};

/** What replaying files came to. */
export interface RunReport {
  cases: number;
  probes: number;
  /** One line per probe or memory check whose answer is none of the legal ones. */
  readonly different: string[];
}

/**
 * Replay one case on a fresh machine.
 *
 * @param file name for messages
 * @throws {RangeError} when the case names an architecture or a step that does not exist
 */
export const runCase = (item: HardwareCase, file: string, report: RunReport): void => {
  const create = UNITS[item.arch ?? ''];
  if (!create) {
    throw new RangeError(
      `${file}: case '${item.name}' is for '${item.arch}': expected ${Object.keys(UNITS).join(', ')}`,
    );
  }
  const memory = new CaseMemory(item);
  const outcome = replayCase(item, memory, create(item, memory));
  report.cases++;
  report.probes += outcome.results.length;
  for (const line of differences(item, outcome))
    report.different.push(`${file}: ${item.name}: ${line}`);
};

/** Replay every case file at or below the given paths. */
export const runPaths = (paths: readonly string[]): RunReport => {
  const report: RunReport = { cases: 0, probes: 0, different: [] };
  for (const file of paths.flatMap(caseFilesAt)) {
    for (const item of readCases(file)) runCase(item, file, report);
  }
  return report;
};
