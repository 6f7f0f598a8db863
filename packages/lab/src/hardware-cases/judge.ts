/**
 * Compares an outcome with what a case expects: every key given must be equal.
 */
import type { CaseAnswer, HardwareCase } from './case-file.ts';
import type { CaseOutcome } from './replay.ts';

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const asNumber = (value: unknown): bigint | undefined =>
  typeof value === 'number' || (typeof value === 'string' && /^0x[0-9a-f]+$/i.test(value))
    ? BigInt(value)
    : undefined;

const pageOf = (value: unknown): bigint | undefined => {
  const number = asNumber(value);
  return number === undefined ? undefined : number / 4096n;
};

/** Keys that say more about the case than about the answer. */
const COMMENTS = new Set(['why', 'note', 'doc']);

/** Keys with a meaning of their own: a choice of reasons, an IPA that is a page, `null` = any. */
const matchesKey = (
  key: string,
  value: unknown,
  actual: Readonly<Record<string, unknown>>,
): boolean => {
  if (COMMENTS.has(key)) return true;
  if (key === 'reason_any') {
    const got = asNumber(actual['reason']);
    return (value as unknown[]).some((reason) => asNumber(reason) === got);
  }
  if (key === 'ipa') return pageOf(value) === pageOf(actual['ipa']);
  if (value === null) return true;
  return matches(value, actual[key]);
};

/** Subset match: objects by the keys expected, lists by length and place, numbers by value. */
const matches = (expected: unknown, actual: unknown): boolean => {
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
  const { results = [], memory = [] } = item.expect;
  const lines: string[] = [];
  if (results.length !== outcome.results.length) {
    lines.push(`${results.length} results expected, ${outcome.results.length} given`);
  }
  results.forEach((expected, at) => {
    const legal: CaseAnswer[] = [expected, ...(item.also_legal?.[String(expected['id'])] ?? [])];
    const actual = outcome.results[at];
    if (legal.some((answer) => matches(answer, actual))) return;
    lines.push(
      `${expected['id']}: expected ${JSON.stringify(legal)}, got ${JSON.stringify(actual)}`,
    );
  });
  for (const { id, hex } of memory) {
    const got = outcome.memory.find((read) => read.id === id)?.hex;
    if (got !== hex) lines.push(`memory ${id}: expected ${hex}, got ${got}`);
  }
  return lines;
};
