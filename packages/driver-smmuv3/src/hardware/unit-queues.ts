/**
 * The queues of a unit over its registers.
 *
 * @spec SMMUv3 3.5
 */
import { decode } from '@iommukit/bits';
import { COMMAND_BYTES } from '../spec/commands.ts';
import { EVENT_BYTES } from '../spec/events.ts';
import { PAGE_REQUEST_BYTES } from '../spec/page-request.ts';
import * as spec from '../spec/registers.ts';
import type { Features } from './capabilities.ts';
import type { DevicePort } from './device-commands.ts';
import { EventQueue } from './event-queue.ts';
import type { GlobalErrors } from './global-errors.ts';
import { EVENTQ_SOURCE, PRIQ_SOURCE } from './interrupt-sources.ts';
import type { Interrupts } from './interrupts.ts';
import type { HardwareMemory } from './memory.ts';
import { PageRequestQueue } from './page-request-queue.ts';
import { Queue } from './queue.ts';
import type { RegisterBank } from './register-bank.ts';
import type { TranslatorParts } from './translate.ts';

/** What every queue is made from. */
export interface QueueParts {
  readonly bank: RegisterBank;
  readonly features: Features;
  readonly memory: HardwareMemory;
  readonly errors: GlobalErrors;
  readonly interrupts: Interrupts;
}

/** The ring that CMDQ_BASE, CMDQ_PROD and CMDQ_CONS describe. */
export const commandRing = ({ bank, features }: QueueParts): Queue => {
  const { commandQueueLg2, oaBits } = features;
  const [prod, cons] = [bank.words(spec.CMDQ_PROD), bank.words(spec.CMDQ_CONS)];
  return new Queue(bank, spec.CMDQ_BASE, prod, cons, COMMAND_BYTES, commandQueueLg2, oaBits);
};

/** The event queue, which interrupts when it was empty. */
export const createEventQueue = (parts: QueueParts): EventQueue => {
  const { bank, features, memory, errors, interrupts } = parts;
  const { eventQueueLg2, oaBits } = features;
  const [prod, cons] = [bank.words(spec.EVENTQ_PROD), bank.words(spec.EVENTQ_CONS)];
  const queue = new Queue(bank, spec.EVENTQ_BASE, prod, cons, EVENT_BYTES, eventQueueLg2, oaBits);
  return new EventQueue(memory, queue, errors, prod, cons, () => interrupts.raise(EVENTQ_SOURCE));
};

/** The page request queue; PRIQ_IRQ_CFG2.LO decides when it interrupts. */
export const createPageRequestQueue = (
  { bank, features, memory, errors, interrupts }: QueueParts,
  { configuration, state }: Pick<TranslatorParts, 'configuration' | 'state'>,
  bus: DevicePort,
): PageRequestQueue => {
  const { pageRequestQueueLg2: lg2, oaBits } = features;
  const [prod, cons] = [bank.words(spec.PRIQ_PROD), bank.words(spec.PRIQ_CONS)];
  const queue = new Queue(bank, spec.PRIQ_BASE, prod, cons, PAGE_REQUEST_BYTES, lg2, oaBits);
  const parts = { memory, features, state, errors, configuration, bus, prod, cons };
  return new PageRequestQueue(queue, {
    ...parts,
    interrupt: (wasEmpty, last) => {
      const lastOnly = decode(spec.PRIQ_IRQ.CFG2, bank.words(spec.PRIQ_IRQ.CFG2)).LO === 1;
      if (lastOnly ? last : wasEmpty) interrupts.raise(PRIQ_SOURCE);
    },
  });
};
