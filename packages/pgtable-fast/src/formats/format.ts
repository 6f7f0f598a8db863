/**
 * What a page-table format is made of.
 * @module
 */
import type { EngineImage } from '../engine/engine.ts';
import type { EntryDecoder } from '../walk/entry-decoder.ts';

/** A format with its options, from `vtdSecondStage()` and its siblings. Plain data and two references. */
export interface PageTableFormat {
  /** Format name as in the specification's short form: `vtd-ss`, `x86-64`, `arm-s1`, ... */
  readonly name: string;
  readonly engine: EngineImage;
  readonly decoder: EntryDecoder;
  /** Levels at the start, and the most it grows to. */
  readonly levels: number;
  readonly maxLevels: number;
  /** The root may move: levels are added on top. */
  readonly growing: boolean;
  /** Width of input addresses in bits; sign-extended formats count the sign. */
  readonly iovaBits: number;
  readonly oaBits: number;
  /** Width of the table addresses that entries can hold: the pool must lie below. */
  readonly tableBits: number;
  /** log2 bytes of a frame: 12, for the mock format 11. */
  readonly frameLg2: number;
  /** log2 bytes of the smallest page. */
  readonly granuleLg2: number;
  /** log2 bytes of usable pages, ascending. */
  readonly pageSizesLg2: readonly number[];
  /** Input addresses are sign-extended. */
  readonly signExtended: boolean;
  /** Entries of the root that take part: more than a table has when roots are concatenated. */
  readonly rootEntries: number;
  /** log2 of the 4 KiB pages of a table, and of the root. */
  readonly order: number;
  readonly rootOrder: number;
  /** Option bits of the engine, three at most. */
  readonly options: number;
}

/** Throws the error of a format option. */
export function badOption(format: string, name: string, value: unknown, rule: string): never {
  throw new RangeError(`${format}: ${name} is ${String(value)}, must be ${rule}`);
}

/** Checks a whole number option. */
export function checkOption(
  format: string,
  name: string,
  value: number,
  min: number,
  max: number,
): number {
  if (!Number.isInteger(value) || value < min || value > max) {
    badOption(format, name, value, `a whole number from ${min} to ${max}`);
  }
  return value;
}

/**
 * The sizes asked for, ascending; all of `possible` when none are.
 * @throws {RangeError} a size the format does not have, or the smallest is missing
 */
export function choosePageSizes(
  format: string,
  possible: readonly number[],
  asked: readonly number[] | undefined,
): readonly number[] {
  if (asked === undefined) return possible;
  for (const lg2 of asked) {
    if (!possible.includes(lg2))
      badOption(format, 'pageSizesLg2', `[${asked}]`, `from [${possible}]`);
  }
  if (!asked.includes(possible[0] as number)) {
    badOption(format, 'pageSizesLg2', `[${asked}]`, `with the smallest page, ${possible[0]}`);
  }
  return [...new Set(asked)].sort((a, b) => a - b);
}
