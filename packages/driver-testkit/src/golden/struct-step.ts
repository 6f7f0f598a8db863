/**
 * The `ioctl` steps: a struct built from named fields, and what the call changed in it.
 * @module
 */
import { sysIoctl } from '@iommukit/core';
import { loadLe, storeLe } from './bytes.ts';
import type { ReplayProcess } from './process-state.ts';
import type { GoldenStep, GoldenValue } from './sequence.ts';
import { GOLDEN_STRUCTS, type GoldenField, type GoldenStruct } from './structs.ts';

/** What a struct call answered. */
export interface StructAnswer {
  readonly ret: number;
  /** Exactly the fields whose value changed. */
  readonly out: Readonly<Record<string, GoldenValue>>;
}

/** The entry a step names. */
const structOf = (step: GoldenStep): GoldenStruct => {
  const struct = GOLDEN_STRUCTS[step.cmd ?? ''];
  if (struct) return struct;
  throw new TypeError(`no struct '${step.cmd}' is known`);
};

const buildBuffer = (state: ReplayProcess, step: GoldenStep, struct: GoldenStruct): Uint8Array => {
  const size = step.size ?? struct.size;
  const bytes = new Uint8Array(step.buflen ?? Math.max(size, 4));
  const sizeField = struct.fields['argsz'] ?? struct.fields['size'];
  if (sizeField) storeLe(bytes, sizeField[0], 4, BigInt(size));
  if (struct.op !== undefined) storeLe(bytes, 4, 4, BigInt(struct.op));
  for (const [name, value] of Object.entries(step.in ?? {})) {
    const field = struct.fields[name];
    if (!field) throw new TypeError(`${step.cmd} has no field '${name}'`);
    const isDescriptor = field[2] !== undefined;
    const number = isDescriptor ? BigInt(state.descriptor(value)) : state.resolve(value);
    storeLe(bytes, field[0], field[1], number);
  }
  for (const [at, width, value] of step.extra ?? []) {
    storeLe(bytes, at, width, state.resolve(value));
  }
  return bytes;
};

const describe = (name: string, [, width, kind]: GoldenField, value: bigint): GoldenValue => {
  if (kind === 'out_fd') return 'fd';
  if (name === 'out_phys') return `phys+0x${(value & 0xfffn).toString(16)}`;
  return width === 8 ? `0x${value.toString(16)}` : Number(value);
};

const changedFields = (
  struct: GoldenStruct,
  before: Uint8Array,
  after: Uint8Array,
): Record<string, GoldenValue> => {
  const out: Record<string, GoldenValue> = {};
  const named = new Set<number>();
  for (const [name, field] of Object.entries(struct.fields)) {
    const [at, width] = field;
    for (let i = 0; i < width; i++) named.add(at + i);
    const value = loadLe(after, at, width);
    if (value !== loadLe(before, at, width)) out[name] = describe(name, field, value);
  }
  const other = [...after.keys()].filter((at) => !named.has(at) && after[at] !== before[at]);
  if (other.length > 0) out['_bytes'] = other.join(',');
  return out;
};

/** Run an `ioctl` step; captures its variables when it succeeds. */
export const runStruct = (state: ReplayProcess, step: GoldenStep): StructAnswer => {
  const struct = structOf(step);
  const before = buildBuffer(state, step, struct);
  const address = state.place(before);
  const ret = sysIoctl(state.process, state.descriptor(step.fd), struct.ioctl, address);
  const after = state.peek(address, before.length) as Uint8Array;
  if (ret >= 0 && typeof step.save === 'object') {
    for (const [name, variable] of Object.entries(step.save)) {
      const [at, width] = struct.fields[name] as GoldenField;
      state.variables.set(variable as string, loadLe(after, at, width));
    }
  }
  return { ret, out: changedFields(struct, before, after) };
};
