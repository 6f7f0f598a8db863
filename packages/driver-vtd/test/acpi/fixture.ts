import { readFileSync } from 'node:fs';

/** A fresh copy of the DMAR image among the vectors: seven structures, one of each type but SIDP. */
export const vectorTable = (): Uint8Array => {
  const file = new URL('../data/vtd-vectors.json', import.meta.url);
  const { dmar } = JSON.parse(readFileSync(file, 'utf8')) as { dmar: { bytes: string } };
  return Uint8Array.from(Buffer.from(dmar.bytes, 'hex'));
};
