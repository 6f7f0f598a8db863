/** One case per fault condition that the computed vectors do not reach. */
import { ACCESS, createAtsCompletion } from '@iommukit/core';
import { LEGACY_PROFILE, type VtdHardwareOptions } from '../../src/hardware/index.ts';
import { type BenchUnit, toPfn } from './bench-unit.ts';
import { INTERRUPT_FAULT_CASES } from './interrupt-fault-cases.ts';
import { PERMISSION_FAULT_CASES } from './permission-fault-cases.ts';
import {
  FS_ENTRY,
  firstStage,
  HOLE,
  IOVA,
  LEGACY,
  legacy,
  NESTED_ENTRY,
  nestedTables,
  PASID,
  pasidEntry,
  RID,
  SCALABLE,
  SS_ENTRY,
  scalable,
  secondStage,
  VA,
} from './tables.ts';

export interface FaultCase {
  readonly name: string;
  readonly condition: string;
  readonly reason: number;
  readonly rtaddr: bigint;
  readonly memory: Record<number, bigint>;
  readonly options?: Partial<VtdHardwareOptions>;
  /** Byte ranges that refuse writes. */
  readonly readOnly?: readonly [number, number][];
  readonly send: (bench: BenchUnit) => number;
}

const read = (bench: BenchUnit) => bench.read(RID, IOVA);
const readPasid = (bench: BenchUnit) => bench.read(RID, VA, PASID);
const pageRequest = (bench: BenchUnit): number => {
  bench.unit.pageRequest({
    rid: RID,
    pasid: PASID,
    addressPfn: toPfn(VA),
    read: true,
    write: false,
    exec: false,
    priv: false,
    last: true,
    prgi: 3,
  });
  return -1;
};
const translation = (bench: BenchUnit): number => {
  const completion = createAtsCompletion();
  bench.unit.translationRequest(RID, PASID, toPfn(VA), ACCESS.READ, completion);
  return completion.read === 0 ? -1 : completion.pfn;
};
const beyond = HOLE | 1n;
const fs = { ...scalable(), ...pasidEntry(PASID, FS_ENTRY, 7n, 0x3_0000n) };
const nested = { ...scalable(), ...pasidEntry(PASID, NESTED_ENTRY, 9n, 0x3_0000n) };
const ss = { ...scalable(), ...pasidEntry(0, SS_ENTRY) };

export const FAULT_CASES: readonly FaultCase[] = [
  {
    name: 'legacy root table where nothing answers',
    condition: 'LRT.1',
    reason: 0x08,
    rtaddr: HOLE,
    memory: {},
    send: read,
  },
  {
    name: 'legacy context table where nothing answers',
    condition: 'LCT.1',
    reason: 0x09,
    rtaddr: LEGACY,
    memory: { 4096: beyond },
    send: read,
  },
  {
    name: 'legacy TT=01 without device-TLB support',
    condition: 'LCT.4.2',
    reason: 0x03,
    rtaddr: LEGACY,
    memory: { ...legacy(0x1_0005n), ...secondStage() },
    options: { capabilities: LEGACY_PROFILE },
    send: read,
  },
  {
    name: 'legacy second-stage root where nothing answers',
    condition: 'LCT.4.3',
    reason: 0x03,
    rtaddr: LEGACY,
    memory: legacy(HOLE | 5n),
    send: read,
  },
  {
    name: 'legacy deeper table where nothing answers',
    condition: 'LSS.1',
    reason: 0x07,
    rtaddr: LEGACY,
    memory: { ...legacy(0x1_0005n), 65536: HOLE | 3n },
    send: read,
  },
  {
    name: 'scalable TTM on a unit without scalable mode',
    condition: 'RTA.1.3',
    reason: 0x30,
    rtaddr: SCALABLE,
    memory: {},
    options: { capabilities: LEGACY_PROFILE },
    send: read,
  },
  {
    name: 'abort TTM on a unit without abort-DMA mode',
    condition: 'RTA.1.1',
    reason: 0x30,
    rtaddr: 0x3c00n,
    memory: {},
    options: { capabilities: LEGACY_PROFILE },
    send: read,
  },
  {
    name: 'SSIRWE in legacy mode',
    condition: 'RTA.1.4',
    reason: 0x30,
    rtaddr: LEGACY | 0x80n,
    memory: { ...legacy(), ...secondStage() },
    options: { capabilities: { ecap: { SSIRWS: 1 } } },
    send: read,
  },
  {
    name: 'page request in legacy mode',
    condition: 'RTA.3',
    reason: 0x32,
    rtaddr: LEGACY,
    memory: legacy(),
    send: pageRequest,
  },
  {
    name: 'execute request with PASID, major version 8',
    condition: 'RTA.5',
    reason: 0x34,
    rtaddr: SCALABLE,
    memory: { ...fs, ...firstStage() },
    options: { capabilities: { ver: 0x80 } },
    send: (bench) => bench.read(RID, VA, PASID, ACCESS.EXEC),
  },
  {
    name: 'scalable root table where nothing answers',
    condition: 'SRT.1',
    reason: 0x38,
    rtaddr: HOLE | 0x400n,
    memory: {},
    send: read,
  },
  {
    name: 'scalable context table where nothing answers',
    condition: 'SCT.1',
    reason: 0x40,
    rtaddr: SCALABLE,
    memory: { 12288: beyond },
    send: read,
  },
  {
    name: 'EPTR without PASIDE',
    condition: 'SCT.4.3',
    reason: 0x43,
    rtaddr: SCALABLE,
    memory: { ...scalable(0x2_0e45n), ...pasidEntry(0, SS_ENTRY) },
    options: { capabilities: { ecap: { PTRS: 1 } } },
    send: read,
  },
  {
    name: 'page request with PRE=0',
    condition: 'SCT.8',
    reason: 0x47,
    rtaddr: SCALABLE,
    memory: { ...scalable(0x2_0e0dn), ...pasidEntry(PASID, SS_ENTRY) },
    send: pageRequest,
  },
  {
    name: 'PASID directory where nothing answers',
    condition: 'SPD.1',
    reason: 0x50,
    rtaddr: SCALABLE,
    memory: scalable(HOLE | 0xe1dn),
    send: read,
  },
  {
    name: 'PASID table where nothing answers',
    condition: 'SPT.1',
    reason: 0x58,
    rtaddr: SCALABLE,
    memory: { ...scalable(), 131072: beyond },
    send: read,
  },
  {
    name: 'execute request with PASID, major version 6',
    condition: 'SPT.5',
    reason: 0x5c,
    rtaddr: SCALABLE,
    memory: { ...fs, ...firstStage() },
    send: (bench) => bench.read(RID, VA, PASID, ACCESS.EXEC),
  },
  {
    name: 'first-stage deeper table where nothing answers',
    condition: 'SFS.1',
    reason: 0x70,
    rtaddr: SCALABLE,
    memory: { ...fs, ...firstStage(), 201280: HOLE | 7n },
    send: readPasid,
  },
  {
    name: 'first-stage root where nothing answers',
    condition: 'SFS.4',
    reason: 0x73,
    rtaddr: SCALABLE,
    memory: { ...scalable(), ...pasidEntry(PASID, FS_ENTRY, 7n, HOLE) },
    send: readPasid,
  },
  {
    name: 'nested: deeper first-stage table not readable',
    condition: 'SFS.7',
    reason: 0x76,
    rtaddr: SCALABLE,
    memory: {
      ...nested,
      ...nestedTables(0x1_4003n),
      81920: 0x1_5003n,
      86400: 0x1_0003_0003n,
      86408: 0x1_0003_1002n,
    },
    send: readPasid,
  },
  {
    name: 'second-stage deeper table where nothing answers',
    condition: 'SSS.1',
    reason: 0x78,
    rtaddr: SCALABLE,
    memory: { ...ss, 65536: HOLE | 3n },
    send: read,
  },
  {
    name: 'second-stage root where nothing answers',
    condition: 'SSS.4',
    reason: 0x7b,
    rtaddr: SCALABLE,
    memory: { ...scalable(), ...pasidEntry(0, HOLE | 0x89n) },
    send: read,
  },
  {
    name: 'second-stage accessed bit in read-only memory',
    condition: 'SSS.6',
    reason: 0x7d,
    rtaddr: SCALABLE,
    memory: { ...scalable(), ...pasidEntry(0, SS_ENTRY | 0x200n), ...secondStage() },
    readOnly: [[0x1_0000, 0x1_0000]],
    send: read,
  },
  {
    name: 'PASID above ECAP.PSS',
    condition: 'SGN.10',
    reason: 0x89,
    rtaddr: SCALABLE,
    memory: { ...fs, ...firstStage() },
    options: { capabilities: { ecap: { PSS: 9 } } },
    send: readPasid,
  },
  {
    name: 'first-stage accessed bit in read-only memory',
    condition: 'SFS.10',
    reason: 0x91,
    rtaddr: SCALABLE,
    memory: { ...fs, ...firstStage() },
    readOnly: [[0x3_0000, 0x1_0000]],
    send: readPasid,
  },
  {
    name: 'translation request: accessed bit in read-only memory is recorded all the same',
    condition: 'SFS.10',
    reason: 0x91,
    rtaddr: SCALABLE,
    memory: { ...fs, ...firstStage() },
    readOnly: [[0x3_0000, 0x1_0000]],
    send: translation,
  },
  {
    name: 'read of FEEx_xxxxh without PASID',
    condition: 'IR.29',
    reason: 0x29,
    rtaddr: LEGACY,
    memory: { ...legacy(), ...secondStage() },
    options: { capabilities: { ecap: { IR: 1 } } },
    send: (bench) => bench.read(RID, 0xfee0_1000n),
  },
  ...PERMISSION_FAULT_CASES,
  ...INTERRUPT_FAULT_CASES,
];
