/**
 * Explanations as sentences.
 */
import { hex } from '@iommukit/bits';
import type { InterruptMessage } from '@iommukit/core';
import { FAULT_CONDITIONS } from '../spec/fault-reasons.ts';
import type { ExplainRequest, Explanation } from './explain.ts';
import { INTERRUPT_ANSWER } from './interrupt-judge.ts';
import { INTERRUPT_REQUEST } from './request-parts.ts';

/** What a refused request is told; undefined for reasons that are none. */
export function refusalText(
  { kind = 'untranslated' }: ExplainRequest,
  reason: number,
  recorded: boolean,
): string | undefined {
  const condition = FAULT_CONDITIONS.find((row) => row.reason === reason);
  if (condition === undefined) return undefined;
  return `${kind} request refused: ${hex(reason)} (${condition.condition}) ${condition.doc}${recorded ? '' : '; not recorded, FPD is set'}`;
}

/** What became of a request that no fault stopped. */
export function verdictText(
  { kind = 'untranslated' }: ExplainRequest,
  answer: number,
  { addressLo, addressHi, data }: InterruptMessage,
): string {
  if (kind === 'interrupt')
    return answer === INTERRUPT_ANSWER.DELIVER
      ? `interrupt request delivered as ${hex(data)} to ${hex(addressHi * 2 ** 32 + addressLo)}`
      : 'interrupt request posted, no notification';
  if (answer === INTERRUPT_REQUEST) return 'an interrupt request: ask again with kind interrupt';
  if (answer >= 0) return `${kind} request goes to ${hex(answer * 4096)}`;
  return kind === 'page-request'
    ? 'page request goes to the page request queue'
    : `${kind} request refused without a fault reason`;
}

/** The trace as text, one line per step and per field that is not zero. */
export function formatExplanation(explanation: Explanation): string {
  const lines = explanation.steps.flatMap((step) => {
    if (step.kind === 'cache')
      return [`${step.name}: ${step.hit ? 'hit' : 'miss'} ${step.detail}`.trimEnd()];
    if (step.kind === 'rule') return [step.text];
    if (step.kind === 'bus-error')
      return [`${hex(step.address)}: nothing answers (${step.structure})`];
    if (step.kind === 'update') return [`${hex(step.address)}: would set bits ${hex(step.bits)}`];
    const words = step.words.map((word) => word.toString(16).padStart(8, '0')).join(' ');
    const fields = step.fields
      .filter((row) => row.value !== 0 && row.value !== 0n)
      .map(
        (row) =>
          `    ${row.name} [${row.bits}] = ${row.text}${row.symbol ? ` ${row.symbol}` : ''}${row.reservedBitsSet ? ' RESERVED' : ''}  ${row.doc}`,
      );
    return [`${hex(step.address)}: ${step.what} ${step.structure} ${words}`, ...fields];
  });
  return [...lines, explanation.verdict].join('\n');
}
