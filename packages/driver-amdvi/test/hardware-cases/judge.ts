/**
 * Compares an outcome with what a case expects: every key given must be equal.
 */
import type { HardwareCase } from './case-file.ts';
import type { CaseOutcome } from './replay.ts';

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const asNumber = (value: unknown): bigint | undefined =>
  typeof value === 'number' || (typeof value === 'string' && /^0x[0-9a-f]+$/i.test(value))
    ? BigInt(value)
    : undefined;

/** Keys with a meaning of their own; an IPA is that of a page. */
const matchesKey = (
  key: string,
  value: unknown,
  actual: Readonly<Record<string, unknown>>,
): boolean => {
  if (key === 'reason_any') return (value as unknown[]).includes(actual['reason']);
  if (key === 'ipa') return pageOf(value) === pageOf(actual['ipa']);
  return matches(value, actual[key]);
};

const pageOf = (value: unknown): bigint | undefined => {
  const number = asNumber(value);
  return number === undefined ? undefined : number / 4096n;
};

/** Subset match: objects by the keys expected, lists by length and place, numbers by value. */
export const matches = (expected: unknown, actual: unknown): boolean => {
  if (Array.isArray(expected)) {
    return (
      Array.isArray(actual) &&
      actual.length === expected.length &&
      expected.every((item, at) => matches(item, actual[at]))
    );
  }
  if (isRecord(expected)) {
    return (
      isRecord(actual) &&
      Object.entries(expected).every(([key, value]) => matchesKey(key, value, actual))
    );
  }
  const number = asNumber(expected);
  return number === undefined ? expected === actual : number === asNumber(actual);
};

/** What differs, one line per probe or memory read; empty when the outcome is right. */
export const differences = (item: HardwareCase, outcome: CaseOutcome): string[] => {
  const lines: string[] = [];
  const { results, memory = [] } = item.expect;
  if (results.length !== outcome.results.length) {
    lines.push(`${results.length} results expected, ${outcome.results.length} given`);
  }
  results.forEach((expected, at) => {
    const actual = outcome.results[at];
    const legal = [expected, ...(item.also_legal?.[String(expected['id'])] ?? [])];
    if (legal.some((answer) => matches(answer, actual))) return;
    lines.push(
      `${expected['id']}: expected ${JSON.stringify(legal)}, got ${JSON.stringify(actual)}`,
    );
  });
  for (const expected of memory) {
    const actual = outcome.memory.find(({ id }) => id === expected.id);
    if (!matches(expected, actual)) {
      lines.push(`${expected.id}: expected ${expected.hex}, got ${actual?.hex}`);
    }
  }
  return lines;
};
