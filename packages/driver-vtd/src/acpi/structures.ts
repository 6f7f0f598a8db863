/**
 * Every kind of remapping structure, and the table that holds them.
 */
import { type Andd, andd } from './andd.ts';
import { type Atsr, atsr } from './atsr.ts';
import { scopeBytes } from './device-scope.ts';
import { type Drhd, drhd } from './drhd.ts';
import { DMAR_HEADER_BYTES, type DmarHeader } from './header.ts';
import { type Rhsa, rhsa } from './rhsa.ts';
import { type Rmrr, rmrr } from './rmrr.ts';
import { type Satc, satc } from './satc.ts';
import { type Sidp, sidp } from './sidp.ts';
import type { StructureCodec } from './structure-codec.ts';

/** A structure of a type this package does not know, or too short for its type: its bytes. */
export interface RawStructure {
  readonly kind: 'raw';
  /** u16. */
  readonly type: number;
  /** What follows type and length. */
  readonly payload: Uint8Array;
}

/** A remapping structure. */
export type DmarStructure = Drhd | Rmrr | Atsr | Rhsa | Andd | Satc | Sidp | RawStructure;

/** A structure that names devices by scopes. */
export type ScopedStructure = Extract<DmarStructure, { scopes: unknown }>;

/** A DMAR table: header, and structures in the order in which they stand. */
export interface DmarTable extends DmarHeader {
  readonly structures: readonly DmarStructure[];
}

/** Bytes of type and length. */
export const STRUCTURE_HEAD_BYTES = 4;

const CODECS: readonly StructureCodec<DmarStructure>[] = [drhd, rmrr, atsr, rhsa, andd, satc, sidp];

/** How a type is read and written; undefined for a type that is not known. */
export const codecOfType = (type: number): StructureCodec<DmarStructure> | undefined =>
  CODECS[type];

/** The same by {@link DmarStructure.kind}. */
export const codecOf = (structure: DmarStructure): StructureCodec<DmarStructure> | undefined =>
  CODECS.find(({ kind }) => kind === structure.kind);

/** Type code of a structure. */
export const typeOf = (structure: DmarStructure): number =>
  structure.kind === 'raw' ? structure.type : (codecOf(structure)?.type ?? -1);

/** Bytes of a structure's fixed fields. */
export const fixedBytes = (codec: StructureCodec<DmarStructure>): number => codec.layout.bits / 8;

/** Bytes that a structure takes in a table. */
export const structureBytes = (structure: DmarStructure): number => {
  if (structure.kind === 'raw') return STRUCTURE_HEAD_BYTES + structure.payload.length;
  const codec = codecOf(structure);
  let bytes = codec ? fixedBytes(codec) : 0;
  if ('scopes' in structure) for (const scope of structure.scopes) bytes += scopeBytes(scope);
  if (structure.kind === 'ANDD') bytes += structure.objectName.length + structure.paddingBytes;
  return bytes;
};

/** A structure with its name for messages and its place. */
export interface PlacedStructure<S extends DmarStructure = DmarStructure> {
  readonly structure: S;
  /** `'DRHD 0'`: kind, and number among its kind. */
  readonly name: string;
  /** Byte offset in the table. */
  readonly offset: number;
}

/** Names structures in turn: kind, and number among its kind from 0. */
export const structureNamer = (): ((kind: string) => string) => {
  const counts = new Map<string, number>();
  return (kind) => {
    const count = counts.get(kind) ?? 0;
    counts.set(kind, count + 1);
    return `${kind} ${count}`;
  };
};

/** The kind of a structure in names: a raw one goes by its type. */
export const kindName = (structure: DmarStructure): string =>
  structure.kind === 'raw' ? `structure of type ${structure.type}` : structure.kind;

/**
 * Structures with names and offsets.
 *
 * @param offsets where they stand; default one behind the other
 */
export const placeStructures = (
  structures: readonly DmarStructure[],
  offsets?: readonly number[],
): PlacedStructure[] => {
  const nameOf = structureNamer();
  let next = DMAR_HEADER_BYTES;
  return structures.map((structure, index) => {
    const offset = offsets?.[index] ?? next;
    next = offset + structureBytes(structure);
    return { structure, name: nameOf(kindName(structure)), offset };
  });
};
