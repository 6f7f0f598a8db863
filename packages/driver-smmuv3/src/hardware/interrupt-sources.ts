/** What interrupts of the queues and of global errors are programmed by. */
import { EVENTQ_IRQ, GERROR_IRQ, GLOBAL_ERROR, IRQ_CTRL, PRIQ_IRQ } from '../spec/registers.ts';
import { INTERRUPT_LINE, type InterruptSource } from './interrupts.ts';

const { EVENTQ_IRQEN, GERROR_IRQEN, PRIQ_IRQEN } = IRQ_CTRL.fields;

/** The event queue is no longer empty. */
export const EVENTQ_SOURCE: InterruptSource = {
  line: INTERRUPT_LINE.EVENTQ,
  enable: EVENTQ_IRQEN.mask,
  message: EVENTQ_IRQ,
  abortError: GLOBAL_ERROR.MSI_EVENTQ_ABT_ERR,
};

/** The page request queue is no longer empty, or a group is complete. */
export const PRIQ_SOURCE: InterruptSource = {
  line: INTERRUPT_LINE.PRIQ,
  enable: PRIQ_IRQEN.mask,
  message: PRIQ_IRQ,
  abortError: GLOBAL_ERROR.MSI_PRIQ_ABT_ERR,
};

/** A global error is active. */
export const GERROR_SOURCE: InterruptSource = {
  line: INTERRUPT_LINE.GERROR,
  enable: GERROR_IRQEN.mask,
  message: GERROR_IRQ,
  abortError: GLOBAL_ERROR.MSI_GERROR_ABT_ERR,
};
