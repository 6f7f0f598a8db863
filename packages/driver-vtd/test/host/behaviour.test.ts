import { describe, it } from 'vitest';
import { SCENARIOS } from './scenarios.ts';

describe('through the contract, on the hardware model', () => {
  it.each(Object.entries(SCENARIOS))('%s', (_name, scenario) => scenario());
});
