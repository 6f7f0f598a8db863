import type { Kinds, Layout } from '@iommukit/bits';
import { uint } from '@iommukit/bits';
import type { DeviceScope } from './device-scope.ts';

/** What stands behind the fixed fields of a structure. */
export interface StructureTail {
  /** Device scopes, where the structure has them. */
  readonly scopes: readonly DeviceScope[];
  /** Text up to the first NUL, where it has one. */
  readonly text: string;
  /** NULs behind the text. */
  readonly paddingBytes: number;
}

/** How one type of remapping structure is read and written. */
export interface StructureCodec<S> {
  /** Code in the first field. */
  readonly type: number;
  /** The specification's abbreviation. */
  readonly kind: string;
  /** The fixed fields, common head included. */
  readonly layout: Layout;
  /** What follows them. */
  readonly tail: 'scopes' | 'text' | 'nothing';
  /** Description from the words of the fixed fields and the tail. */
  read(words: Uint32Array, tail: StructureTail): S;
  /** Words of the fixed fields; LENGTH is the length given. */
  write(structure: S, lengthBytes: number): Uint32Array;
}

/** Type and length, with which every structure begins. */
export const structureHead = {
  TYPE: uint(15, 0, 'type of the structure'),
  LENGTH: uint(31, 16, 'bytes, this field included'),
} as const;

/** A layout without its field names, as generic code takes it. */
export const erased = <K extends Kinds>(layout: Layout<K>): Layout => layout as unknown as Layout;
