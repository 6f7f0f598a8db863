/**
 * Enhanced command registers: none of their commands belongs to this model, so each is answered
 * "undefined".
 *
 * @spec VT-d 11.4.13
 */
import { ECRSP } from '../spec/registers.ts';
import type { RegisterFile } from './register-file.ts';

const UNDEFINED_COMMAND = 1;

/** Software wrote the low dword of ECMD. */
export function executeEnhancedCommand(registers: RegisterFile): void {
  registers.set(ECRSP.offset, UNDEFINED_COMMAND << ECRSP.fields.SC.shift);
  registers.set(ECRSP.offset + 4, 0);
}
