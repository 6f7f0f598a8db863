/**
 * Registers of a remapping unit: control and status, protected memory, commands. The others are in
 * the files it re-exports.
 *
 * @spec VT-d 11.4
 */
import { addr, defineRegister, enumeration, flag, uint } from '@iommukit/bits';

export * from './capability-registers.ts';
export * from './event-registers.ts';
export * from './queue-registers.ts';

/** Translation table modes (RTADDR.TTM). */
export const TTM = { LEGACY: 0, SCALABLE: 1, RESERVED: 2, ABORT: 3 } as const;

/** GCMD: global command. */
export const GCMD = defineRegister({
  name: 'GCMD',
  offset: 0x18,
  bits: 32,
  spec: 'VT-d 11.4.4.1',
  doc: 'global command',
  fields: {
    CFI: { ...flag(23, 'compatibility-format interrupts'), access: 'WO' },
    SIRTP: { ...flag(24, 'set interrupt table pointer'), access: 'WO' },
    IRE: { ...flag(25, 'interrupt remapping enable'), access: 'WO' },
    QIE: { ...flag(26, 'queued invalidation enable'), access: 'WO' },
    WBF: { ...flag(27, 'write-buffer flush'), access: 'WO' },
    SRTP: { ...flag(30, 'set root table pointer'), access: 'WO' },
    TE: { ...flag(31, 'translation enable'), access: 'WO' },
  },
});

/** GSTS: global status. */
export const GSTS = defineRegister({
  name: 'GSTS',
  offset: 0x1c,
  bits: 32,
  spec: 'VT-d 11.4.4.2',
  doc: 'global status',
  fields: {
    CFIS: { ...flag(23, 'compatibility-format interrupt status'), access: 'RO' },
    IRTPS: { ...flag(24, 'interrupt table pointer set'), access: 'RO' },
    IRES: { ...flag(25, 'interrupt remapping enabled'), access: 'RO' },
    QIES: { ...flag(26, 'queued invalidation enabled'), access: 'RO' },
    WBFS: { ...flag(27, 'write-buffer flush running'), access: 'RO' },
    RTPS: { ...flag(30, 'root table pointer set'), access: 'RO' },
    TES: { ...flag(31, 'translation enabled'), access: 'RO' },
  },
});

/** RTADDR: root table address. */
export const RTADDR = defineRegister({
  name: 'RTADDR',
  offset: 0x20,
  bits: 64,
  spec: 'VT-d 11.4.5',
  doc: 'root table address',
  fields: {
    SSIRWE: {
      ...flag(7, 'second-stage I/O read/write enable: IR, IW count, not R, W'),
      access: 'RW',
    },
    TTM: { ...enumeration(11, 10, TTM, 'translation table mode'), access: 'RW' },
    RTA: { ...addr(63, 12, 'root table'), access: 'RW' },
  },
});

/** FSTS: fault status. */
export const FSTS = defineRegister({
  name: 'FSTS',
  offset: 0x34,
  bits: 32,
  spec: 'VT-d 11.4.7.1',
  doc: 'fault status',
  fields: {
    PFO: { ...flag(0, 'fault record overflow'), access: 'RW1C' },
    PPF: { ...flag(1, 'a fault record is pending'), access: 'RO' },
    IQE: { ...flag(4, 'invalidation queue error'), access: 'RW1C' },
    ICE: { ...flag(5, 'invalidation completion error'), access: 'RW1C' },
    ITE: { ...flag(6, 'invalidation time-out'), access: 'RW1C' },
    FRI: { ...uint(15, 8, 'index of the first pending record'), access: 'RO' },
  },
});

/** PMEN: protected memory enable. */
export const PMEN = defineRegister({
  name: 'PMEN',
  offset: 0x64,
  bits: 32,
  spec: 'VT-d 11.4.8.1',
  doc: 'protected memory enable',
  fields: {
    PRS: { ...flag(0, 'protected memory active'), access: 'RO' },
    EPM: { ...flag(31, 'enable protected memory'), access: 'RW' },
  },
});

/** PLMBASE: protected low memory base. */
export const PLMBASE = defineRegister({
  name: 'PLMBASE',
  offset: 0x68,
  bits: 32,
  spec: 'VT-d 11.4.8.2',
  doc: 'protected low memory base',
  fields: {
    PLMB: { ...uint(31, 20, 'address [31:20]'), access: 'RW' },
  },
});

/** PLMLIMIT: protected low memory limit. */
export const PLMLIMIT = defineRegister({
  name: 'PLMLIMIT',
  offset: 0x6c,
  bits: 32,
  spec: 'VT-d 11.4.8.3',
  doc: 'protected low memory limit',
  fields: {
    PLML: { ...uint(31, 20, 'address [31:20], inclusive'), access: 'RW' },
  },
});

/** PHMBASE: protected high memory base. */
export const PHMBASE = defineRegister({
  name: 'PHMBASE',
  offset: 0x70,
  bits: 64,
  spec: 'VT-d 11.4.8.4',
  doc: 'protected high memory base',
  fields: {
    PHMB: { ...addr(63, 20, 'address'), access: 'RW' },
  },
});

/** PHMLIMIT: protected high memory limit. */
export const PHMLIMIT = defineRegister({
  name: 'PHMLIMIT',
  offset: 0x78,
  bits: 64,
  spec: 'VT-d 11.4.8.5',
  doc: 'protected high memory limit',
  fields: {
    PHML: { ...addr(63, 20, 'address, inclusive'), access: 'RW' },
  },
});

/** IRTA: interrupt remapping table address. */
export const IRTA = defineRegister({
  name: 'IRTA',
  offset: 0xb8,
  bits: 64,
  spec: 'VT-d 11.4.10.1',
  doc: 'interrupt remapping table address',
  fields: {
    S: { ...uint(3, 0, '2^(S+1) entries'), access: 'RW' },
    EIME: { ...flag(11, 'extended interrupt mode'), access: 'RW' },
    IRTA: { ...addr(63, 12, 'table base'), access: 'RW' },
  },
});

/** MTRRCAP: memory type range capabilities. */
export const MTRRCAP = defineRegister({
  name: 'MTRRCAP',
  offset: 0x100,
  bits: 64,
  spec: 'VT-d 11.4.12',
  doc: 'memory type range capabilities',
  fields: {
    VCNT: { ...uint(7, 0, 'variable ranges'), access: 'RO' },
    FIX: { ...flag(8, 'fixed ranges'), access: 'RO' },
    WC: { ...flag(10, 'write combining'), access: 'RO' },
  },
});

/** MTRRDEF: default memory type. */
export const MTRRDEF = defineRegister({
  name: 'MTRRDEF',
  offset: 0x108,
  bits: 64,
  spec: 'VT-d 11.4.12',
  doc: 'default memory type',
  fields: {
    TYPE: { ...uint(7, 0, 'type'), access: 'RW' },
    FE: { ...flag(10, 'fixed ranges enabled'), access: 'RW' },
    E: { ...flag(11, 'enabled'), access: 'RW' },
  },
});

/** ECMD: enhanced command. */
export const ECMD = defineRegister({
  name: 'ECMD',
  offset: 0x400,
  bits: 64,
  spec: 'VT-d 11.4.13',
  doc: 'enhanced command',
  fields: {
    CMD: { ...uint(7, 0, 'command'), access: 'WO' },
    OA: { ...uint(63, 16, 'operand A'), access: 'WO' },
  },
});

/** ECEO: enhanced command extended operand. */
export const ECEO = defineRegister({
  name: 'ECEO',
  offset: 0x408,
  bits: 64,
  spec: 'VT-d 11.4.13',
  doc: 'enhanced command extended operand',
  fields: {
    OB: { ...uint(63, 0, 'operand B'), access: 'WO' },
  },
});

/** ECRSP: enhanced command response. */
export const ECRSP = defineRegister({
  name: 'ECRSP',
  offset: 0x410,
  bits: 64,
  spec: 'VT-d 11.4.13',
  doc: 'enhanced command response',
  fields: {
    IP: { ...flag(0, 'in progress'), access: 'RO' },
    SC: { ...uint(7, 1, '0 success, 1 undefined command, 2 aborted'), access: 'RO' },
    RSLT: { ...uint(63, 16, 'result'), access: 'RO' },
  },
});

/** RDTC: resource director control. */
export const RDTC = defineRegister({
  name: 'RDTC',
  offset: 0xdc0,
  bits: 64,
  spec: 'VT-d 11.4.14',
  doc: 'resource director control',
  fields: {
    RMID: { ...uint(11, 0, 'monitoring id'), access: 'RW' },
    CLOS: { ...uint(36, 32, 'class of service'), access: 'RW' },
  },
});

/** VCMD: virtual command. */
export const VCMD = defineRegister({
  name: 'VCMD',
  offset: 0xe00,
  bits: 64,
  spec: 'VT-d 11.4.15',
  doc: 'virtual command',
  fields: {
    CMD: { ...uint(7, 0, '0 null, 1 allocate PASID, 2 free PASID'), access: 'RW' },
    OA: { ...uint(63, 16, 'operand: PASID in [35:16] for free'), access: 'RW' },
  },
});

/** VCMD_EO: virtual command extended operand. */
export const VCMD_EO = defineRegister({
  name: 'VCMD_EO',
  offset: 0xe08,
  bits: 64,
  spec: 'VT-d 11.4.15',
  doc: 'virtual command extended operand',
  fields: {
    OB: { ...uint(63, 0, 'operand B'), access: 'RW' },
  },
});

/** VCRSP: virtual command response. */
export const VCRSP = defineRegister({
  name: 'VCRSP',
  offset: 0xe10,
  bits: 64,
  spec: 'VT-d 11.4.15',
  doc: 'virtual command response',
  fields: {
    IP: { ...flag(0, 'in progress'), access: 'RO' },
    SC: { ...uint(7, 1, '0 success, 1 undefined command, 16 no or invalid PASID'), access: 'RO' },
    RSLT: { ...uint(63, 16, 'result: PASID in [35:16]'), access: 'RO' },
  },
});

/** VCCAP: virtual command capabilities. */
export const VCCAP = defineRegister({
  name: 'VCCAP',
  offset: 0xe30,
  bits: 64,
  spec: 'VT-d 11.4.15',
  doc: 'virtual command capabilities',
  fields: {
    NS: { ...flag(0, 'null command'), access: 'RO' },
    PAS: { ...flag(1, 'allocate PASID'), access: 'RO' },
    FPS: { ...flag(2, 'free PASID'), access: 'RO' },
  },
});
