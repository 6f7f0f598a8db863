/**
 * Relative mode: numbers of objects are everybody's own, so they are not compared.
 * @module
 */
import type { StepAnswer } from './memory-steps.ts';
import type { GoldenStep } from './sequence.ts';

const OWN = 'own';

/** Fields that hold numbers of objects: `out_ioas_id`, `pt_id`, `out_devid`. */
const NAMES_OBJECT = /(_id|devid)$/;

/** An answer without numbers of objects, and without bytes that the step captures as one. */
export const hideNumbers = (step: GoldenStep, answer: StepAnswer): StepAnswer => {
  const out = answer['out'] as Readonly<Record<string, unknown>> | undefined;
  const hidden = { ...answer };
  if (out) hidden['out'] = hideFields(out);
  if (typeof answer['data'] === 'string' && typeof step.save === 'object') {
    const places = Object.values(step.save).filter((place) => typeof place !== 'string');
    hidden['data'] = hideBytes(answer['data'], places);
  }
  return hidden;
};

const hideFields = (out: Readonly<Record<string, unknown>>) =>
  Object.fromEntries(
    Object.entries(out).map(([name, value]) => [name, NAMES_OBJECT.test(name) ? OWN : value]),
  );

/** Two hexadecimal digits a byte; hidden ones become dashes. */
const hideBytes = (data: string, places: readonly (readonly [at: number, width: number])[]) =>
  places.reduce(
    (left, [at, width]) =>
      left.slice(0, 2 * at) + '-'.repeat(2 * width) + left.slice(2 * (at + width)),
    data,
  );
