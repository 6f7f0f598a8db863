import { encode } from '@iommukit/bits';
import type { HostMemory } from '@iommukit/core';
import { ROOT_ENTRY, SM_ROOT_ENTRY } from '../spec/root-entry.ts';

const ROOT_ENTRY_BYTES = 16;
const CONTEXT_ENTRY_BYTES = 16;
const SM_CONTEXT_ENTRY_BYTES = 32;

/**
 * Root table and context tables of one unit. Context tables are made when a bus (or half a bus in
 * scalable mode) gets its first device and kept from then on.
 *
 * @spec VT-d 3.4.2, 3.4.3, 9.1 to 9.4
 */
export class ContextTables {
  /** Root table. */
  rootPa: number;
  readonly #memory: HostMemory;
  readonly #scalable: boolean;
  readonly #tables = new Map<number, number>();

  constructor(memory: HostMemory, scalable: boolean) {
    this.#memory = memory;
    this.#scalable = scalable;
    this.rootPa = memory.alloc(1, 'bring-up', 'the root table');
  }

  /**
   * Address of a device's context entry.
   *
   * @throws {IommuError} ENOMEM
   */
  entryPa(rid: number): number {
    const devfn = rid & 0xff;
    if (!this.#scalable) return this.#table(rid >>> 8, 0) + devfn * CONTEXT_ENTRY_BYTES;
    return this.#table(rid >>> 8, devfn >>> 7) + (devfn & 0x7f) * SM_CONTEXT_ENTRY_BYTES;
  }

  /** Tables by bus and half, for a snapshot. */
  save(): (readonly [key: number, pa: number])[] {
    return [...this.#tables];
  }

  load(
    tables: readonly (readonly [key: number, pa: number])[],
    rootPa: number = this.rootPa,
  ): void {
    this.rootPa = rootPa;
    this.#tables.clear();
    for (const [key, pa] of tables) this.#tables.set(key, pa);
  }

  /** @param half 1 = devfn 80h-FFh; scalable mode only */
  #table(bus: number, half: number): number {
    const key = bus * 2 + half;
    const known = this.#tables.get(key);
    if (known !== undefined) return known;
    const table = this.#memory.alloc(1, 'probe', `the context table of bus ${bus}`);
    this.#tables.set(key, table);
    const words = this.#scalable
      ? encode(SM_ROOT_ENTRY, half ? { UP: 1, UCTP: table } : { LP: 1, LCTP: table })
      : encode(ROOT_ENTRY, { P: 1, CTP: table });
    const at = half * 2;
    const pa = this.rootPa + bus * ROOT_ENTRY_BYTES + half * 8;
    this.#memory.store64(pa, words[at] as number, words[at + 1] as number);
    return table;
  }
}
