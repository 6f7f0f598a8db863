import { type DeviceScope, SCOPE_TYPE } from './device-scope.ts';
import type { Drhd } from './drhd.ts';
import type { PciTopology } from './pci-topology.ts';

const BUSES = 256;

/**
 * Which unit a device is under: the one that names it, else one that names a bridge above it,
 * else the one that takes the rest of the segment.
 *
 * @spec VT-d 8.3
 */
export class UnitScopes {
  readonly #named = new Map<number, Drhd>();
  readonly #ofBus: (Drhd | undefined)[] = new Array(BUSES).fill(undefined);
  readonly #rest: Drhd | undefined;

  /** @param units of one segment; where two name one device, the first has it */
  constructor(units: readonly Drhd[], topology: PciTopology) {
    this.#rest = units.find(({ includePciAll }) => includePciAll);
    for (const unit of units) {
      for (const scope of unit.scopes) this.#add(unit, scope, topology);
    }
  }

  #add(unit: Drhd, scope: DeviceScope, topology: PciTopology): void {
    const { type } = scope;
    if (type === SCOPE_TYPE.IOAPIC || type === SCOPE_TYPE.HPET) return;
    const rid = topology.resolve(scope);
    if (rid === undefined) return;
    if (!this.#named.has(rid)) this.#named.set(rid, unit);
    if (type !== SCOPE_TYPE.PCI_SUB_HIERARCHY) return;
    const behind = topology.busesBehind(rid);
    for (let bus = behind?.first ?? BUSES; bus <= (behind?.last ?? 0); bus++) {
      this.#ofBus[bus] ??= unit;
    }
  }

  /** The unit of a device; undefined when no unit of the segment has it. */
  unitOf(rid: number): Drhd | undefined {
    return this.#named.get(rid) ?? this.#ofBus[rid >> 8] ?? this.#rest;
  }
}
