/** Fault conditions of host permission tables. */
import { ACCESS } from '@iommukit/core';
import type { FaultCase } from './fault-cases.ts';
import {
  behindTables,
  entryWords,
  PERMISSION_OPTIONS,
  permission,
  putEntry,
  tableFields,
  translated,
} from './permission-tables.ts';
import { HOLE, SCALABLE } from './tables.ts';

const behind = behindTables();
const common = { rtaddr: SCALABLE, options: PERMISSION_OPTIONS, send: translated } as const;

export const PERMISSION_FAULT_CASES: readonly FaultCase[] = [
  {
    ...common,
    name: 'translated address beyond HPTSZ',
    condition: 'SPT.9',
    reason: 0x60,
    memory: behind,
    options: {
      ...PERMISSION_OPTIONS,
      capabilities: { cap: { MGAW: 51 }, ecap: { HPTS: 1 } },
      hostAddressWidthBits: 52,
    },
    send: (bench) => translated(bench, ACCESS.READ, 1n << 49n),
  },
  {
    ...common,
    name: 'host permission table of level 3 where nothing answers',
    condition: 'HPT.1',
    reason: 0xa0,
    memory: { ...behind, ...putEntry(4, (HOLE | 1n) << 64n) },
  },
  {
    ...common,
    name: 'host permission table entry with a reserved bit in a pair',
    condition: 'HPT.2',
    reason: 0xa1,
    memory: { ...behind, ...permission(1, 7n) },
  },
  {
    ...common,
    name: 'host permission table of level 4 where nothing answers',
    condition: 'HPT.3',
    reason: 0xa2,
    memory: { ...behind, ...tableFields(0, HOLE) },
  },
  {
    ...common,
    name: 'zero-length read of a page without a pair',
    condition: 'HPT.4',
    reason: 0xa3,
    memory: { ...behind, ...permission(1, 0n) },
    send: (bench) => translated(bench, ACCESS.READ | ACCESS.ZERO_LENGTH),
  },
  {
    ...common,
    name: 'translated write to a page with R only',
    condition: 'HPT.5',
    reason: 0xa4,
    memory: { ...behind, ...permission(1, 1n) },
    send: (bench) => translated(bench, ACCESS.WRITE),
  },
  {
    ...common,
    name: 'translated read where the walk ends without a pair',
    condition: 'HPT.6',
    reason: 0xa5,
    memory: { ...behind, ...putEntry(4, entryWords(4, 0n)), ...putEntry(3, 0n) },
  },
];
