/** Recorded sequences of calls on VFIO descriptors, and where they lie. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

/** A number up to 32 bits, `'0x…'`, or `'$variable'`. */
export type Value = number | string;

/** One call and the kernel's answer; `op` decides which members it has. */
export interface Step {
  readonly op: string;
  readonly ret?: number | 'fd';
  readonly err?: string;
  readonly fd?: Value;
  readonly path?: string;
  readonly cmd?: string;
  readonly value?: Value;
  readonly in?: Readonly<Record<string, Value>>;
  readonly out?: Readonly<Record<string, Value>>;
  readonly save?: Readonly<Record<string, string>> | string;
  readonly resolved?: Readonly<Record<string, Value>>;
  readonly size?: number;
  readonly buflen?: number;
  readonly fields?: readonly (readonly [at: number, width: number, value: Value])[];
  readonly words?: readonly (readonly [at: number, width: number, value: Value])[];
  readonly out_hex?: string;
  readonly mem?: readonly (readonly [addr: string, length: number])[];
  readonly mem_out?: readonly (string | null)[];
  readonly at?: string;
  readonly addr?: string;
  readonly len?: Value;
  readonly prot?: number;
  readonly flags?: Value;
  readonly first?: number;
  readonly byte?: number;
  readonly hex?: string;
  readonly width?: number;
  readonly container?: Value;
  readonly name?: string;
  readonly uid?: number;
  readonly soft?: number;
  readonly vmlck?: number;
  readonly vmpin?: number;
}

/** A whole recording. */
export interface Sequence {
  readonly name: string;
  readonly doc: string;
  readonly steps: readonly Step[];
}

/** The recordings of one folder. */
export const sequencesOf = (folder: string): Sequence[] => {
  const packed = readFileSync(new URL(`../data/${folder}.jsonl.gz`, import.meta.url));
  const lines = gunzipSync(packed).toString().trim().split('\n');
  return lines.map((line) => JSON.parse(line) as Sequence);
};

/** One entry of the table of structs that the recordings name. */
export interface RecordedStruct {
  readonly ioctl: string;
  readonly size: number;
  readonly min: number;
  readonly fields: Readonly<Record<string, readonly [at: number, width: number, kind: string]>>;
}

/** Structs by the recordings' names: written by a C compiler, not by this package. */
export const RECORDED_STRUCTS = JSON.parse(
  readFileSync(new URL('../data/structs.json', import.meta.url), 'utf8'),
) as Readonly<Record<string, RecordedStruct>>;
