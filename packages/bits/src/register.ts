/**
 * Registers: a layout with an offset, what software may do with each field, and a reset value.
 * @module
 */
import { encode, type Values } from './encode.ts';
import type { FieldSpec, Kind, Kinds } from './fields.ts';
import { defineLayout, type Layout } from './layout.ts';
import { bigintToLimbs, hex } from './u64.ts';

/**
 * What software may do with a field: read only, read and write, read and write one to clear, write
 * only (reads as zero).
 */
export type Access = 'RO' | 'RW' | 'RW1C' | 'WO';

/** A field with its access; reserved (`mbz`) fields need none. */
export type RegisterFieldSpec<T extends Kind> = FieldSpec<T> &
  (T extends 'mbz' ? { readonly access?: Access } : { readonly access: Access });

/** What {@link defineRegister} takes. */
export interface RegisterOptions<K extends Kinds> {
  /** The specification's name. */
  readonly name: string;
  /** Bytes from the start of the register page, a multiple of 4. */
  readonly offset: number;
  /** Width: 32, 64, or 128 for a record such as VT-d's FRCD. */
  readonly bits: 32 | 64 | 128;
  /** Clause that defines it, as in `VT-d 11.4.4`. */
  readonly spec: string;
  /** Meaning in one line. */
  readonly doc?: string;
  /** Value after reset: the whole register, or its fields. Zero when left out. */
  readonly reset?: number | bigint | NoInfer<Values<K>>;
  readonly fields: { readonly [N in keyof K]: RegisterFieldSpec<K[N]> };
}

/** A register: a layout with an offset and, for every u32 half, one unsigned mask per access. */
export interface Register<K extends Kinds = Kinds> extends Layout<K> {
  /** Bytes from the start of the register page. */
  readonly offset: number;
  /** Access by field name; `mbz` fields have none. */
  readonly access: { readonly [N in keyof K]?: Access };
  readonly roMask: readonly number[];
  readonly rwMask: readonly number[];
  readonly rw1cMask: readonly number[];
  readonly woMask: readonly number[];
  /** Value after reset, one unsigned number per u32 half. */
  readonly reset: readonly number[];
}

const ACCESSES: readonly string[] = ['RO', 'RW', 'RW1C', 'WO'];

function checkShape(name: string, offset: number, bits: number): void {
  if (!Number.isSafeInteger(offset) || offset < 0 || offset % 4 !== 0)
    throw new RangeError(
      `${name}: offset is ${hex(offset)}, expected a multiple of 4 bytes, 0 or more`,
    );
  if (bits !== 32 && bits !== 64 && bits !== 128)
    throw new RangeError(`${name}: a register of ${bits} bits, expected 32, 64 or 128`);
}

function accessOf(
  layout: Layout,
  specs: Readonly<Record<string, { access?: Access }>>,
): Record<string, Access> {
  const access: Record<string, Access> = {};
  for (const { name, kind } of layout.list) {
    const given = specs[name]?.access;
    if (kind === 'mbz' && given === undefined) continue;
    if (given === undefined || !ACCESSES.includes(given))
      throw new RangeError(
        `${layout.name}: field ${name} has access ${given}, expected ${ACCESSES.join(', ')}`,
      );
    if (kind !== 'mbz') access[name] = given;
  }
  return access;
}

function accessMask(
  layout: Layout,
  access: Record<string, Access>,
  wanted: Access,
): readonly number[] {
  const masks = new Array<number>(layout.words).fill(0);
  for (const field of layout.list)
    if (access[field.name] === wanted)
      for (let half = 0; half < masks.length; half++)
        masks[half] = ((masks[half] as number) | (field.masks[half] as number)) >>> 0;
  return Object.freeze(masks);
}

function wholeReset(layout: Layout, value: number | bigint): Uint32Array {
  if (typeof value === 'number' && !Number.isSafeInteger(value))
    throw new RangeError(
      `${layout.name}: reset ${hex(value)} is not an exact integer; pass a bigint above 2^53 - 1`,
    );
  const whole = BigInt(value);
  if (whole < 0n || whole >> BigInt(layout.bits) !== 0n)
    throw new RangeError(
      `${layout.name}: reset ${hex(whole)} does not fit its ${layout.bits} bits`,
    );
  const halves = bigintToLimbs(whole, layout.words);
  for (let half = 0; half < halves.length; half++) {
    const reserved = ((halves[half] as number) & (layout.reservedMasks[half] as number)) >>> 0;
    if (reserved !== 0)
      throw new RangeError(
        `${layout.name}: reset ${hex(whole)} sets reserved bits ${hex(reserved)} of u32 ${half}; declare them or clear them`,
      );
  }
  return halves;
}

/**
 * Declare a register once.
 * @throws {RangeError} as {@link defineLayout}, and when the offset, width, an access or the reset
 * value is wrong
 */
export function defineRegister<K extends Kinds>(options: RegisterOptions<K>): Register<K> {
  const { name, offset, bits, spec, doc = '', reset = 0 } = options;
  checkShape(name, offset, bits);
  const layout = defineLayout<K>({
    name,
    bits,
    spec,
    doc,
    fields: options.fields as { readonly [N in keyof K]: FieldSpec<K[N]> },
  });
  const plain = layout as unknown as Layout;
  const access = accessOf(plain, options.fields as Record<string, { access?: Access }>);
  const halves = typeof reset === 'object' ? encode<K>(layout, reset) : wholeReset(plain, reset);
  return Object.freeze({
    ...layout,
    offset,
    access: Object.freeze(access) as Register<K>['access'],
    roMask: accessMask(plain, access, 'RO'),
    rwMask: accessMask(plain, access, 'RW'),
    rw1cMask: accessMask(plain, access, 'RW1C'),
    woMask: accessMask(plain, access, 'WO'),
    reset: Object.freeze([...halves]),
  });
}

/**
 * What a register half holds after software writes it: RO bits stay, RW bits take the written value,
 * RW1C bits clear where a one is written, WO bits take the written value (for the hardware to act
 * on; {@link readHalf} hides them). Reserved bits become zero.
 * @param half index of the u32: 0 for bits 31:0, 1 for bits 63:32
 * @param old what the half holds, u32
 * @param written what software writes, u32
 * @returns u32, unsigned
 */
export function writeHalf(register: Register, half: number, old: number, written: number): number {
  const ro = register.roMask[half] as number;
  const take = (register.rwMask[half] as number) | (register.woMask[half] as number);
  const rw1c = register.rw1cMask[half] as number;
  return ((old & ro) | (written & take) | (old & ~written & rw1c)) >>> 0;
}

/**
 * What software reads from a register half: WO bits read as zero.
 * @param half index of the u32: 0 for bits 31:0, 1 for bits 63:32
 * @param held what the half holds, u32
 * @returns u32, unsigned
 */
export function readHalf(register: Register, half: number, held: number): number {
  return (held & ~(register.woMask[half] as number)) >>> 0;
}

/** A fresh copy of the register's reset value: u32 halves, lowest first. */
export function resetValue(register: Register): Uint32Array<ArrayBuffer> {
  return Uint32Array.from(register.reset);
}
