/** Worked examples of the specification, and units that they run on. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { ACCESS } from '@iommukit/core';
import { AmdviHardware } from '../src/hardware/iommu.ts';
import { SparseMemory } from './sparse-memory.ts';

/** One set-up and its requests. */
export interface Vector {
  readonly name: string;
  readonly registers: Readonly<Record<string, string>>;
  readonly memory: Readonly<Record<string, string>>;
  readonly cases: readonly VectorCase[];
}

/** A request of a set-up. */
export interface VectorRequest {
  readonly device_id: string;
  readonly pasid: number | string | null;
  readonly address: string;
  readonly write: boolean;
  readonly user: boolean;
  readonly execute: boolean;
  readonly kind: 'untranslated' | 'translation' | 'translated';
}

/** A request and what comes of it. */
export interface VectorCase {
  readonly request: VectorRequest;
  readonly expect: {
    readonly fault: boolean;
    readonly spa?: string;
    readonly readable?: number;
    readonly writable?: number;
    readonly page_shift?: number;
    readonly event?: { readonly qwords: readonly [string, string] } | null;
    readonly memory_after?: Readonly<Record<string, string>>;
  };
  /** Address and value of every qword read, in order. */
  readonly reads: readonly (readonly [address: string, value: string])[];
}

/** Fields of an entry. */
export type Fields = Readonly<Record<string, number | string>>;

/** Everything in the file. */
export const data = JSON.parse(
  gunzipSync(readFileSync(new URL('data/amdvi-vectors.json.gz', import.meta.url))).toString(),
) as {
  assumed_features: { EFR_value: string; EFR2_value: string };
  translation: Vector[];
  encoding: { name: string; qwords?: string[]; fields: Fields; offset?: string; value?: string }[];
  size_encoding: { name: string; address_and_S: string; covers: [string, string] }[];
  events: { name: string; qwords: string[]; decode: Readonly<Record<string, unknown>> }[];
  ppr: { name: string; qwords: string[]; fields: Readonly<Record<string, unknown>> }[];
};

/** Where the logs are. */
export const LOG = 0x7_0000;
export const PPR_LOG = 0x8_0000;
const CONTROL = 0x18;
const RING = 0x0800_0000_0000_0000n;

/** Write a 64-bit register. */
export const write64 = (unit: AmdviHardware, offset: number, value: bigint) =>
  unit.writeReg64(offset, Number(value & 0xffff_ffffn), Number(value >> 32n));

const createUnit = (memory: SparseMemory) =>
  new AmdviHardware({
    memory,
    capabilities: {
      efr: BigInt(data.assumed_features.EFR_value),
      efr2: BigInt(data.assumed_features.EFR2_value),
      iotlbSup: true,
    },
  });

/** A unit with the memory and registers of a set-up, and logs. */
export const boot = (vector: Pick<Vector, 'memory' | 'registers'>) => {
  const memory = new SparseMemory();
  for (const [pa, value] of Object.entries(vector.memory)) memory.store(Number(pa), BigInt(value));
  const unit = createUnit(memory);
  write64(unit, 0x10, RING | BigInt(LOG));
  write64(unit, 0x38, RING | BigInt(PPR_LOG));
  for (const [offset, value] of Object.entries(vector.registers)) {
    const extra = Number(offset) === CONTROL ? 4n : 0n;
    write64(unit, Number(offset), BigInt(value) | extra);
  }
  return { memory, unit };
};

/** Access bits of a request. */
export const accessOf = ({ write, user, execute, pasid }: VectorRequest): number =>
  (write ? ACCESS.WRITE : ACCESS.READ) |
  (execute ? ACCESS.EXEC : 0) |
  (pasid !== null && !user ? ACCESS.PRIV : 0);
