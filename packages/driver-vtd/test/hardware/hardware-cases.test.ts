import { readdirSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { type ReplayReport, replayFile } from '../hardware-cases.ts';

const folder = new URL('../data/', import.meta.url);
const files = readdirSync(folder).filter((name) => /^(hardware-cases|vtd-(legacy|sm)-)/.test(name));

function parse(name: string) {
  const bytes = readFileSync(new URL(name, folder));
  return JSON.parse((name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString());
}

describe('hardware cases (iommu-case/1)', () => {
  it.each(files)('%s: every probe gives a legal answer', (name) => {
    const report: ReplayReport = { cases: 0, probes: 0, different: [] };
    replayFile(parse(name), report);
    expect(report.probes).toBeGreaterThan(40);
    expect(report.different).toEqual([]);
  });
});
