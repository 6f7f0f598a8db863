/**
 * ioctls and structs that recorded sequences name: those of iommufd come from core's table, the test
 * command and VFIO have tables of their own.
 * @module
 */
import { type FieldKind, type FieldSpec, IOMMU_STRUCTS, type StructSpec } from '@iommukit/core';
import { TEST_COMMAND_STRUCTS } from './test-command-structs.ts';
import { VFIO_STRUCTS } from './vfio-structs.ts';

/** A field that holds a descriptor, in or out; recordings name those, whatever their number. */
export type GoldenDescriptorKind = 'fd' | 'out_fd';

/** Offset and width in bytes; how it names a descriptor, if it does. */
export type GoldenField = readonly [at: number, width: number, kind?: GoldenDescriptorKind];

/** One entry. */
export interface GoldenStruct {
  readonly ioctl: number;
  /** `sizeof`; 0 for ioctls with a plain argument. */
  readonly size: number;
  readonly min: number;
  /** Operation of IOMMU_TEST_CMD, which stands at offset 4. */
  readonly op?: number;
  readonly fields: Readonly<Record<string, GoldenField>>;
}

const WIDTHS: Readonly<Record<FieldKind, number>> = {
  u8: 1,
  u16: 2,
  u32: 4,
  s32: 4,
  u64: 8,
  pointer: 8,
};

const fieldOf = (name: string, { at, kind, role }: FieldSpec): GoldenField => {
  const width = WIDTHS[kind];
  if (role === 'out' && name.endsWith('_fd')) return [at, width, 'out_fd'];
  return kind === 's32' ? [at, width, 'fd'] : [at, width];
};

const fromCore = ({ ioctl, size, min, fields }: StructSpec): GoldenStruct => {
  const entries = Object.entries(fields).map(([name, spec]) => [name, fieldOf(name, spec)]);
  return { ioctl, size, min, fields: { size: [0, 4], ...Object.fromEntries(entries) } };
};

/** All entries by name; those of iommufd without `IOMMU_`. */
export const GOLDEN_STRUCTS: Readonly<Record<string, GoldenStruct>> = {
  ...Object.fromEntries(
    Object.entries(IOMMU_STRUCTS).map(([name, spec]) => [
      name.slice('IOMMU_'.length),
      fromCore(spec),
    ]),
  ),
  ...TEST_COMMAND_STRUCTS,
  ...VFIO_STRUCTS,
};
