/** The computed vectors of VT-d; every section of the file is used by some test. */
import { readFileSync } from 'node:fs';

interface DescriptorVector {
  readonly name: string;
  readonly width: string;
  /** Four 64-bit words, hex. */
  readonly qw: readonly string[];
  readonly bytes128: string;
}

interface WalkOfRawTable {
  readonly table: string;
  readonly aw: string;
  readonly memory: Readonly<Record<string, string>>;
  readonly addr: string;
  readonly pa: string;
  readonly size: string;
  readonly r: number;
  readonly w: number;
}

/** The sections that tests of more than one folder use, and those that only these types describe. */
export interface Vectors {
  readonly ss_raw: readonly WalkOfRawTable[];
  readonly descriptors: readonly DescriptorVector[];
  readonly translation_completions: readonly { readonly name: string; readonly word: string }[];
  readonly psi_alignment: readonly {
    readonly start: string;
    readonly npages: number;
    readonly addr: string;
    readonly am: number;
  }[];
  readonly uapi: Readonly<Record<string, string>>;
}

/** The file as text. */
export const vectorsText = readFileSync(
  new URL('./data/vtd-vectors.json', import.meta.url),
).toString();

export const vectors: Vectors = JSON.parse(vectorsText);
