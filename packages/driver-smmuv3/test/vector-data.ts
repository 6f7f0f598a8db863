/** The worked examples of the architecture, computed without this package. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

/** A command of a guest, and what the host makes of it. */
export interface CommandVector {
  readonly name: string;
  readonly user: readonly string[];
  readonly host: readonly string[] | null;
  readonly errno: string | null;
}

/** A guest's stream table entry. */
export interface VsteVector {
  readonly name: string;
  readonly ste: readonly string[];
  readonly accepted: boolean;
  readonly effective?: string;
  readonly errno?: string;
}

/** A record of the event queue, and what a guest gets of it. */
export interface VeventVector {
  readonly name: string;
  readonly physical: readonly string[];
  readonly toGuest: readonly string[] | null;
}

interface NestingVectors {
  readonly uapiInvalidate: { readonly cases: readonly CommandVector[] };
  readonly vste: { readonly mask: readonly string[]; readonly cases: readonly VsteVector[] };
  readonly physicalNestedSte: {
    readonly user: readonly string[];
    readonly words: readonly string[];
  };
  readonly vevent: readonly VeventVector[];
}

/** Examples by topic; the caller says what it looks at. */
export const loadVectors = <T>(): T =>
  JSON.parse(
    gunzipSync(readFileSync(new URL('data/smmuv3-vectors.json.gz', import.meta.url))).toString(),
  ) as T;

/** Examples of nesting. */
export const NESTING_VECTORS = loadVectors<NestingVectors>();

/** u32 words of 64-bit words in hexadecimal. */
export const wordsOf = (texts: readonly string[]): Uint32Array =>
  Uint32Array.from(
    texts.flatMap((text) => [Number(BigInt(text) & 0xffff_ffffn), Number(BigInt(text) >> 32n)]),
  );

/** Little-endian bytes of 64-bit words in hexadecimal. */
export const bytesOf = (texts: readonly string[]): Uint8Array => {
  const bytes = new Uint8Array(texts.length * 8);
  const view = new DataView(bytes.buffer);
  texts.forEach((text, at) => {
    view.setBigUint64(at * 8, BigInt(text), true);
  });
  return bytes;
};
