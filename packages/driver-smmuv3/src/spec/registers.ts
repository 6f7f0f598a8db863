/**
 * Control, status and queue registers of the Non-secure programming interface.
 *
 * @spec SMMUv3 6.3
 */
import { addr, defineRegister, enumeration, flag, uint } from '@iommukit/bits';

export * from './id-registers.ts';

const RW = 'RW' as const;
const RO = 'RO' as const;

const CR0_FIELDS = {
  SMMUEN: flag(0, 'translate; 0 = GBPA decides'),
  PRIQEN: flag(1, 'page request queue'),
  EVENTQEN: flag(2, 'event queue'),
  CMDQEN: flag(3, 'command queue'),
  ATSCHK: flag(4, 'check translated requests'),
  VMW: uint(8, 6, 'VMID bits that invalidations ignore'),
} as const;

/** Largest CR0.VMW; what is above acts as 0. */
export const MAX_VMW = 4;

/** CR0: enables. */
export const CR0 = defineRegister({
  name: 'CR0',
  offset: 0x20,
  bits: 32,
  spec: 'SMMUv3 6.3.9',
  doc: 'enables',
  fields: {
    SMMUEN: { ...CR0_FIELDS.SMMUEN, access: RW },
    PRIQEN: { ...CR0_FIELDS.PRIQEN, access: RW },
    EVENTQEN: { ...CR0_FIELDS.EVENTQEN, access: RW },
    CMDQEN: { ...CR0_FIELDS.CMDQEN, access: RW },
    ATSCHK: { ...CR0_FIELDS.ATSCHK, access: RW },
    VMW: { ...CR0_FIELDS.VMW, access: RW },
  },
});

/** CR0ACK: what of CR0 has taken effect. */
export const CR0ACK = defineRegister({
  name: 'CR0ACK',
  offset: 0x24,
  bits: 32,
  spec: 'SMMUv3 6.3.10',
  doc: 'enables in effect',
  fields: {
    SMMUEN: { ...CR0_FIELDS.SMMUEN, access: RO },
    PRIQEN: { ...CR0_FIELDS.PRIQEN, access: RO },
    EVENTQEN: { ...CR0_FIELDS.EVENTQEN, access: RO },
    CMDQEN: { ...CR0_FIELDS.CMDQEN, access: RO },
    ATSCHK: { ...CR0_FIELDS.ATSCHK, access: RO },
    VMW: { ...CR0_FIELDS.VMW, access: RO },
  },
});

/** CR1: memory attributes of tables and queues. */
export const CR1 = defineRegister({
  name: 'CR1',
  offset: 0x28,
  bits: 32,
  spec: 'SMMUv3 6.3.11',
  doc: 'memory attributes of tables and queues',
  fields: {
    QUEUE_IC: { ...uint(1, 0), access: RW },
    QUEUE_OC: { ...uint(3, 2), access: RW },
    QUEUE_SH: { ...uint(5, 4), access: RW },
    TABLE_IC: { ...uint(7, 6), access: RW },
    TABLE_OC: { ...uint(9, 8), access: RW },
    TABLE_SH: { ...uint(11, 10), access: RW },
  },
});

/** CR2. */
export const CR2 = defineRegister({
  name: 'CR2',
  offset: 0x2c,
  bits: 32,
  spec: 'SMMUv3 6.3.12',
  doc: 'control 2',
  fields: {
    E2H: { ...flag(0, 'EL2-E2H stream world'), access: RW },
    RECINVSID: { ...flag(1, 'record C_BAD_STREAMID'), access: RW },
    PTM: { ...flag(2, 'ignore TLB maintenance broadcast by CPUs'), access: RW },
    REC_CFG_ATS: { ...flag(3), access: RW },
  },
});

/** STATUSR: nothing to tell, the unit never dozes. */
export const STATUSR = defineRegister({
  name: 'STATUSR',
  offset: 0x40,
  bits: 32,
  spec: 'SMMUv3 6.3.13',
  doc: 'status',
  fields: { DORMANT: { ...flag(0, 'nothing is cached'), access: RO } },
});

/** AGBPA: stored, without effect. */
export const AGBPA = defineRegister({
  name: 'AGBPA',
  offset: 0x48,
  bits: 32,
  spec: 'SMMUv3 6.3.14',
  doc: 'alternate global bypass attributes, implementation defined',
  fields: { IMPDEF: { ...uint(31, 0), access: RW } },
});

/** GBPA: what happens while SMMUEN is 0. */
export const GBPA = defineRegister({
  name: 'GBPA',
  offset: 0x44,
  bits: 32,
  spec: 'SMMUv3 6.3.14',
  doc: 'global bypass attributes',
  reset: 0x1000,
  fields: {
    MEM_ATTR: { ...uint(3, 0), access: RW },
    MTCFG: { ...flag(4), access: RW },
    ALLOCCFG: { ...uint(11, 8), access: RW },
    SHCFG: { ...uint(13, 12), access: RW },
    PRIVCFG: { ...uint(17, 16), access: RW },
    INSTCFG: { ...uint(19, 18), access: RW },
    ABORT: { ...flag(20, 'abort requests; 0 = they pass'), access: RW },
    UPDATE: { ...flag(31, 'take this value over'), access: RW },
  },
});

const IRQ_FIELDS = {
  GERROR_IRQEN: flag(0, 'on global errors'),
  PRIQ_IRQEN: flag(1, 'on page requests'),
  EVENTQ_IRQEN: flag(2, 'on events'),
} as const;

/** IRQ_CTRL: interrupt enables. */
export const IRQ_CTRL = defineRegister({
  name: 'IRQ_CTRL',
  offset: 0x50,
  bits: 32,
  spec: 'SMMUv3 6.3.15',
  doc: 'interrupt enables',
  fields: {
    GERROR_IRQEN: { ...IRQ_FIELDS.GERROR_IRQEN, access: RW },
    PRIQ_IRQEN: { ...IRQ_FIELDS.PRIQ_IRQEN, access: RW },
    EVENTQ_IRQEN: { ...IRQ_FIELDS.EVENTQ_IRQEN, access: RW },
  },
});

/** IRQ_CTRLACK. */
export const IRQ_CTRLACK = defineRegister({
  name: 'IRQ_CTRLACK',
  offset: 0x54,
  bits: 32,
  spec: 'SMMUv3 6.3.16',
  doc: 'interrupt enables in effect',
  fields: {
    GERROR_IRQEN: { ...IRQ_FIELDS.GERROR_IRQEN, access: RO },
    PRIQ_IRQEN: { ...IRQ_FIELDS.PRIQ_IRQEN, access: RO },
    EVENTQ_IRQEN: { ...IRQ_FIELDS.EVENTQ_IRQEN, access: RO },
  },
});

/** Global errors: bit numbers of GERROR and GERRORN. */
export const GLOBAL_ERROR = {
  CMDQ_ERR: 0,
  EVENTQ_ABT_ERR: 2,
  PRIQ_ABT_ERR: 3,
  /** Messages that aborted: of a SYNC, of the queues, of global errors. */
  MSI_CMDQ_ABT_ERR: 4,
  MSI_EVENTQ_ABT_ERR: 5,
  MSI_PRIQ_ABT_ERR: 6,
  MSI_GERROR_ABT_ERR: 7,
} as const;

const gerror = (name: string, offset: number, access: 'RO' | 'RW', doc: string) =>
  defineRegister({
    name,
    offset,
    bits: 32,
    spec: 'SMMUv3 6.3.17',
    doc,
    fields: {
      CMDQ_ERR: { ...flag(0, 'command error'), access },
      EVENTQ_ABT_ERR: { ...flag(2, 'a write to the event queue aborted'), access },
      PRIQ_ABT_ERR: { ...flag(3, 'a write to the page request queue aborted'), access },
      MSI_CMDQ_ABT_ERR: { ...flag(4, 'the message of a SYNC aborted'), access },
      MSI_EVENTQ_ABT_ERR: { ...flag(5, 'a message of the event queue aborted'), access },
      MSI_PRIQ_ABT_ERR: { ...flag(6, 'a message of the page request queue aborted'), access },
      MSI_GERROR_ABT_ERR: { ...flag(7, 'a message of global errors aborted'), access },
      SFM_ERR: { ...flag(8, 'service failure mode'), access },
    },
  });

/** GERROR: an error is active when its bit differs from GERRORN's. */
export const GERROR = gerror('GERROR', 0x60, RO, 'global errors, toggled by hardware');
/** GERRORN: software toggles a bit to acknowledge. */
export const GERRORN = gerror('GERRORN', 0x64, RW, 'global errors acknowledged by software');

/** Stream table formats (STRTAB_BASE_CFG.FMT). */
export const STRTAB_FMT = { LINEAR: 0, TWO_LEVEL: 1 } as const;

/** STRTAB_BASE: stream table. */
export const STRTAB_BASE = defineRegister({
  name: 'STRTAB_BASE',
  offset: 0x80,
  bits: 64,
  spec: 'SMMUv3 6.3.23',
  doc: 'stream table base',
  fields: {
    ADDR: { ...addr(51, 6, 'stream table or its first level'), access: RW },
    RA: { ...flag(62, 'read allocate hint'), access: RW },
  },
});

/** STRTAB_BASE_CFG: shape of the stream table. */
export const STRTAB_BASE_CFG = defineRegister({
  name: 'STRTAB_BASE_CFG',
  offset: 0x88,
  bits: 32,
  spec: 'SMMUv3 6.3.24',
  doc: 'stream table shape',
  fields: {
    LOG2SIZE: { ...uint(5, 0, 'lg2 of StreamIDs'), access: RW },
    SPLIT: { ...uint(10, 6, 'StreamID bits of the second level'), access: RW },
    FMT: { ...enumeration(17, 16, STRTAB_FMT, 'format'), access: RW },
  },
});

const queueBase = (name: string, offset: number, doc: string) =>
  defineRegister({
    name,
    offset,
    bits: 64,
    spec: 'SMMUv3 6.3.25',
    doc,
    fields: {
      LOG2SIZE: { ...uint(4, 0, 'lg2 of entries'), access: RW },
      ADDR: { ...addr(51, 5, 'queue'), access: RW },
      HINT: { ...flag(62, 'allocate hint'), access: RW },
    },
  });

const queueIndex = (name: string, offset: number, doc: string) =>
  defineRegister({
    name,
    offset,
    bits: 32,
    spec: 'SMMUv3 6.3.26',
    doc,
    fields: {
      INDEX: { ...uint(19, 0, 'index and wrap bit'), access: RW },
      OVERFLOW: { ...flag(31, 'overflow, or its acknowledgement'), access: RW },
    },
  });

/** CMDQ_BASE. */
export const CMDQ_BASE = queueBase('CMDQ_BASE', 0x90, 'command queue base');

/** CMDQ_PROD: a write is the doorbell. */
export const CMDQ_PROD = defineRegister({
  name: 'CMDQ_PROD',
  offset: 0x98,
  bits: 32,
  spec: 'SMMUv3 6.3.26',
  doc: 'command queue producer index',
  fields: { INDEX: { ...uint(19, 0, 'index and wrap bit'), access: RW } },
});

/** Command errors (CMDQ_CONS.ERR). */
export const CMDQ_ERR = { NONE: 0, ILL: 1, ABT: 2, ATC_INV_SYNC: 3 } as const;

/** CMDQ_CONS. */
export const CMDQ_CONS = defineRegister({
  name: 'CMDQ_CONS',
  offset: 0x9c,
  bits: 32,
  spec: 'SMMUv3 6.3.27',
  doc: 'command queue consumer index and error',
  fields: {
    INDEX: { ...uint(19, 0, 'index and wrap bit'), access: RW },
    ERR: { ...enumeration(30, 24, CMDQ_ERR, 'why processing stopped'), access: RW },
  },
});

/** EVENTQ_BASE. */
export const EVENTQ_BASE = queueBase('EVENTQ_BASE', 0xa0, 'event queue base');
/** EVENTQ_PROD, on page 1. */
export const EVENTQ_PROD = queueIndex('EVENTQ_PROD', 0x100a8, 'event queue producer index');
/** EVENTQ_CONS, on page 1. */
export const EVENTQ_CONS = queueIndex('EVENTQ_CONS', 0x100ac, 'event queue consumer index');

/** PRIQ_BASE. */
export const PRIQ_BASE = queueBase('PRIQ_BASE', 0xc0, 'page request queue base');
/** PRIQ_PROD, on page 1. */
export const PRIQ_PROD = queueIndex('PRIQ_PROD', 0x100c8, 'page request queue producer index');
/** PRIQ_CONS, on page 1. */
export const PRIQ_CONS = queueIndex('PRIQ_CONS', 0x100cc, 'page request queue consumer index');

const messageRegisters = (name: string, offset: number) => ({
  CFG0: defineRegister({
    name: `${name}_CFG0`,
    offset,
    bits: 64,
    spec: 'SMMUv3 6.3.18',
    doc: 'message address; 0 = none',
    fields: { ADDR: { ...addr(51, 2, 'where to write'), access: RW } },
  }),
  CFG1: defineRegister({
    name: `${name}_CFG1`,
    offset: offset + 8,
    bits: 32,
    spec: 'SMMUv3 6.3.19',
    doc: 'message data',
    fields: { DATA: { ...uint(31, 0, 'what to write'), access: RW } },
  }),
  CFG2: defineRegister({
    name: `${name}_CFG2`,
    offset: offset + 12,
    bits: 32,
    spec: 'SMMUv3 6.3.20',
    doc: 'message attributes',
    fields: {
      MEM_ATTR: { ...uint(3, 0), access: RW },
      SH: { ...uint(5, 4), access: RW },
    },
  }),
});

/** Message of global errors. */
export const GERROR_IRQ = messageRegisters('GERROR_IRQ', 0x68);
/** Message of the event queue. */
export const EVENTQ_IRQ = messageRegisters('EVENTQ_IRQ', 0xb0);

const PRIQ_MESSAGE = messageRegisters('PRIQ_IRQ', 0xd0);
/** Message of the page request queue. */
export const PRIQ_IRQ = {
  ...PRIQ_MESSAGE,
  CFG2: defineRegister({
    name: 'PRIQ_IRQ_CFG2',
    offset: 0xdc,
    bits: 32,
    spec: 'SMMUv3 6.3.37',
    doc: 'message attributes, and when it is sent',
    fields: {
      MEM_ATTR: { ...uint(3, 0), access: RW },
      SH: { ...uint(5, 4), access: RW },
      LO: { ...flag(31, 'only for the last request of a group'), access: RW },
    },
  }),
} as const;
