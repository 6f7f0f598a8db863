/**
 * The hardware: a register per device that holds the address of its table, and the lookup. It
 * knows nothing of the driver but what lies in memory.
 */
// #region hardware
import { BLOCKED, type PhysicalMemory, type TranslationAgent } from '@iommukit/core';
import { ENTRY_BYTES, RIGHTS, TABLE_ENTRIES } from './entry.ts';

export class FlatIommu implements TranslationAgent {
  readonly #memory: PhysicalMemory;
  readonly #tables = new Map<number, number>();
  readonly #entry = new Uint32Array(2);

  constructor(memory: PhysicalMemory) {
    this.#memory = memory;
  }

  /** The register of a device: address of its table, 0 = block everything. */
  writeTableRegister(rid: number, tablePa: number): void {
    if (tablePa === 0) this.#tables.delete(rid);
    else this.#tables.set(rid, tablePa);
  }

  translatePage(rid: number, _pasid: number, iovaPfn: number, access: number): number {
    const table = this.#tables.get(rid);
    if (table === undefined || iovaPfn >= TABLE_ENTRIES) return BLOCKED;
    if (!this.#memory.read64(table + iovaPfn * ENTRY_BYTES, this.#entry)) return BLOCKED;
    const [lo = 0, hi = 0] = this.#entry;
    const wanted = access & RIGHTS;
    return (lo & wanted) === wanted && (lo & RIGHTS) !== 0 ? hi * 2 ** 20 + (lo >>> 12) : BLOCKED;
  }
}
// #endregion
