/**
 * What software starts by writing a register.
 *
 * @spec VT-d 11.4
 */
import {
  CCMD,
  ECMD,
  FECTL,
  FSTS,
  GCMD,
  ICS,
  IECTL,
  IOTLB,
  IQT,
  PECTL,
  PMEN,
  PRS,
  VCMD,
} from '../spec/registers.ts';
import type { Features } from './capabilities.ts';
import { executeEnhancedCommand } from './enhanced-command.ts';
import type { EventUnit } from './event-unit.ts';
import type { FaultRecorder } from './fault-recording.ts';
import type { GlobalCommand } from './global-command.ts';
import type { InvalidationQueue } from './invalidation-queue.ts';
import type { PageRequestQueue } from './page-request-queue.ts';
import type { RegisterFile } from './register-file.ts';
import type { RegisterInvalidation } from './register-invalidation.ts';
import type { Translator } from './translate.ts';
import { executeVirtualCommand, type PasidAllocator } from './virtual-command.ts';

/** The parts that registers act on. */
export interface EffectParts {
  readonly registers: RegisterFile;
  readonly features: Features;
  readonly translator: Translator;
  readonly global: GlobalCommand;
  readonly queue: InvalidationQueue;
  readonly registerInvalidation: RegisterInvalidation;
  readonly faults: FaultRecorder;
  readonly pageRequests: PageRequestQueue;
  readonly faultEvent: EventUnit;
  readonly completionEvent: EventUnit;
  readonly pageEvent: EventUnit;
  readonly pasids: PasidAllocator;
  readonly protectedMemoryWritten: () => void;
}

/** Side effects by offset of the dword that starts them. */
export function registerEffects(parts: EffectParts): Map<number, (written: number) => void> {
  const { registers, features, translator, global, queue, faultEvent } = parts;
  const { ivaOffset } = features;
  const effects = new Map<number, (written: number) => void>([
    [GCMD.offset, (written) => global.execute(written)],
    [FSTS.offset, () => faultStatusWritten(parts)],
    [FECTL.offset, () => faultEvent.controlWritten()],
    [CCMD.offset + 4, () => parts.registerInvalidation.context(translator.ttm)],
    [ivaOffset + IOTLB.offset + 4, () => parts.registerInvalidation.iotlb(translator.ttm)],
    [PMEN.offset, parts.protectedMemoryWritten],
  ]);
  if (features.qi) {
    effects.set(IQT.offset, () => global.runQueue());
    effects.set(ICS.offset, () => queue.completionWritten());
    effects.set(IECTL.offset, () => parts.completionEvent.controlWritten());
  }
  if (features.pageRequests) {
    effects.set(PRS.offset, () => parts.pageRequests.statusWritten());
    effects.set(PECTL.offset, () => parts.pageEvent.controlWritten());
  }
  if (features.virtualCommands)
    effects.set(VCMD.offset, () => executeVirtualCommand(registers, parts.pasids));
  if (features.enhancedCommands) effects.set(ECMD.offset, () => executeEnhancedCommand(registers));
  return effects;
}

function faultStatusWritten({ faults, features, queue, global }: EffectParts): void {
  faults.statusWritten();
  if (!features.qi) return;
  queue.statusWritten();
  global.runQueue();
}
