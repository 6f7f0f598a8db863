import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

/** One DMAR table of a real machine. */
export interface RealTable {
  /** Kind, vendor and model. */
  readonly machine: string;
  readonly bytes: Uint8Array;
}

/** 308 tables of real machines; see `../data/README.md` for their origin and licence. */
export const realTables = (): RealTable[] => {
  const file = new URL('../data/dmar-tables.json.gz', import.meta.url);
  const json = JSON.parse(gunzipSync(readFileSync(file)).toString('utf8')) as {
    tables: { machine: string; hex: string }[];
  };
  return json.tables.map(({ machine, hex }) => ({
    machine,
    bytes: Uint8Array.from(Buffer.from(hex, 'hex')),
  }));
};
