/**
 * Which bits of a register a write changes: those of features that are there, of registers that are
 * not guarded at the moment. What is guarded keeps its value, as from v3.2 on.
 *
 * @spec SMMUv3 6.3 (accessibility of each register)
 */
import type { Register } from '@iommukit/bits';
import * as spec from '../spec/registers.ts';
import type { Features } from './capabilities.ts';

const NONE = 0;
const ALL = -1;

/** What guards depend on. */
export interface Enables {
  /** CR0 and IRQ_CTRL as they are. */
  readonly cr0: number;
  readonly irq: number;
}

const { SMMUEN, CMDQEN, EVENTQEN, PRIQEN, ATSCHK, VMW } = spec.CR0.fields;
const IRQ = spec.IRQ_CTRL.fields;
const QUEUES = CMDQEN.mask | EVENTQEN.mask | PRIQEN.mask;
const CR1 = spec.CR1.fields;
const QUEUE_ATTRIBUTES = CR1.QUEUE_IC.mask | CR1.QUEUE_OC.mask | CR1.QUEUE_SH.mask;
const TABLE_ATTRIBUTES = CR1.TABLE_IC.mask | CR1.TABLE_OC.mask | CR1.TABLE_SH.mask;
const CR2 = spec.CR2.fields;

const PAGE_REQUEST_MESSAGE = new Set<Register>(Object.values(spec.PRIQ_IRQ));
const EVENT_MESSAGE = new Set<Register>(Object.values(spec.EVENTQ_IRQ));
const ERROR_MESSAGE = new Set<Register>(Object.values(spec.GERROR_IRQ));

const unless = (guarded: number): number => (guarded === 0 ? ALL : NONE);

/**
 * Bits of each half of a register that a write changes now.
 *
 * @param value the low dword that is written
 */
export const writableBits = (
  register: Register,
  value: number,
  enables: Enables,
  features: Features,
): number => {
  const { cr0 } = enables;
  switch (register) {
    case spec.CR0:
      return enableBits(features);
    case spec.CR1:
      return (
        (unless(cr0 & SMMUEN.mask) & TABLE_ATTRIBUTES) | (unless(cr0 & QUEUES) & QUEUE_ATTRIBUTES)
      );
    case spec.CR2:
      return unless(cr0 & SMMUEN.mask) & controlBits(features);
    case spec.GBPA:
      return (value & spec.GBPA.fields.UPDATE.mask) === 0 ? NONE : ALL;
    case spec.IRQ_CTRL:
      return features.pri ? ALL : ~IRQ.PRIQ_IRQEN.mask;
    case spec.STRTAB_BASE:
    case spec.STRTAB_BASE_CFG:
      return unless(cr0 & SMMUEN.mask);
    default:
      return queueBits(register, enables, features);
  }
};

/** Queues, and the messages of their interrupts. */
const queueBits = (register: Register, { cr0, irq }: Enables, features: Features): number => {
  switch (register) {
    case spec.CMDQ_BASE:
    case spec.CMDQ_CONS:
      return unless(cr0 & CMDQEN.mask);
    case spec.EVENTQ_BASE:
    case spec.EVENTQ_PROD:
      return unless(cr0 & EVENTQEN.mask);
    case spec.PRIQ_BASE:
    case spec.PRIQ_PROD:
      return features.pri ? unless(cr0 & PRIQEN.mask) : NONE;
    case spec.PRIQ_CONS:
      return features.pri ? ALL : NONE;
    default:
      return messageBits(register, irq, features);
  }
};

const messageBits = (register: Register, irq: number, { msi, pri }: Features): number => {
  if (ERROR_MESSAGE.has(register)) return msi ? unless(irq & IRQ.GERROR_IRQEN.mask) : NONE;
  if (EVENT_MESSAGE.has(register)) return msi ? unless(irq & IRQ.EVENTQ_IRQEN.mask) : NONE;
  if (!PAGE_REQUEST_MESSAGE.has(register)) return ALL;
  return pri && (msi || register === spec.PRIQ_IRQ.CFG2) ? unless(irq & IRQ.PRIQ_IRQEN.mask) : NONE;
};

const enableBits = ({ pri, ats, vmidWildcards }: Features): number =>
  SMMUEN.mask |
  CMDQEN.mask |
  EVENTQEN.mask |
  (pri ? PRIQEN.mask : 0) |
  (ats ? ATSCHK.mask : 0) |
  (vmidWildcards ? VMW.mask : 0);

const controlBits = ({ hyp, recordsAtsErrors }: Features): number =>
  CR2.RECINVSID.mask |
  CR2.PTM.mask |
  (hyp ? CR2.E2H.mask : 0) |
  (recordsAtsErrors ? CR2.REC_CFG_ATS.mask : 0);
