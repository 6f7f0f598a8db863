import { formatRid, parseRid, refuse } from '@iommukit/core';
import { type DeviceScope, SCOPE_TYPE } from './device-scope.ts';

/** A PCI bridge or root port, with its bus numbers as firmware set them. */
export interface PciBridge {
  /** Requester id, `'00:1c.0'` or the 16-bit number. */
  readonly rid: string | number;
  /** First bus behind it. */
  readonly secondaryBus: number;
  /** Last bus behind it, inclusive. */
  readonly subordinateBus: number;
}

interface Bridge {
  readonly rid: number;
  readonly secondary: number;
  readonly subordinate: number;
}

const BUSES = 256;

/**
 * The bridges of one segment: follows the paths of device scopes, and climbs from a device to its
 * root port.
 */
export class PciTopology {
  readonly #byRid = new Map<number, Bridge>();
  /** Per bus the bridge right above it. */
  readonly #above: (Bridge | undefined)[] = new Array(BUSES).fill(undefined);

  /**
   * @throws {IommuError} EINVAL for a bridge that is given twice, or whose buses do not lie behind
   *   it or cross those of another
   */
  constructor(bridges: readonly PciBridge[]) {
    const outerFirst = bridges.map(toBridge).sort((a, b) => width(b) - width(a));
    for (const bridge of outerFirst) this.#add(bridge);
  }

  /** Ranges nest, so the bridge that fills a bus last is the innermost. */
  #add(bridge: Bridge): void {
    const { rid, secondary, subordinate } = bridge;
    const outer = this.#above[secondary];
    const crossing = outer !== this.#above[subordinate];
    const same = outer?.secondary === secondary;
    if (this.#byRid.has(rid) || crossing || same) {
      throw bridgeError(
        bridge,
        this.#byRid.has(rid) ? 'is given twice' : 'has buses that cross those of another bridge',
      );
    }
    this.#byRid.set(rid, bridge);
    this.#above.fill(bridge, secondary, subordinate + 1);
  }

  /**
   * Follow a scope's path.
   *
   * @returns the RID of the device it ends at; undefined when a hop is no bridge of this bus
   * @spec VT-d 8.3.1
   */
  resolve({ startBus, path }: DeviceScope): number | undefined {
    let bus: number | undefined = startBus;
    let rid: number | undefined;
    for (const hop of path) {
      if (bus === undefined || hop.device > 0x1f || hop.function > 7) return undefined;
      rid = (bus << 8) | (hop.device << 3) | hop.function;
      bus = this.#byRid.get(rid)?.secondary;
    }
    return rid;
  }

  /** Buses behind the bridge at a RID, both inclusive; undefined when no bridge is there. */
  busesBehind(rid: number): { readonly first: number; readonly last: number } | undefined {
    const bridge = this.#byRid.get(rid);
    return bridge && { first: bridge.secondary, last: bridge.subordinate };
  }

  /** The root port above a device; undefined for a device of the root complex itself. */
  rootPortOf(rid: number): number | undefined {
    let port: number | undefined;
    // A bridge's own bus is below its secondary bus, so the bus number falls with every step.
    for (let above = this.#above[rid >> 8]; above; above = this.#above[above.rid >> 8]) {
      port = above.rid;
    }
    return port;
  }

  /** Whether a scope means a device: names it, or a bridge above it. */
  covers(scope: DeviceScope, rid: number): boolean {
    const { type } = scope;
    if (type === SCOPE_TYPE.IOAPIC || type === SCOPE_TYPE.HPET) return false;
    const named = this.resolve(scope);
    if (named === undefined || named === rid) return named === rid;
    const behind = type === SCOPE_TYPE.PCI_SUB_HIERARCHY ? this.busesBehind(named) : undefined;
    return behind !== undefined && rid >> 8 >= behind.first && rid >> 8 <= behind.last;
  }
}

const width = (bridge: Bridge): number => bridge.subordinate - bridge.secondary;

const toBridge = ({ rid: name, secondaryBus, subordinateBus }: PciBridge): Bridge => {
  const rid = typeof name === 'string' ? parseRid(name) : name;
  const bridge = { rid, secondary: secondaryBus, subordinate: subordinateBus };
  const bus = rid >> 8;
  const isBus = (value: number) => Number.isInteger(value) && value < BUSES;
  if (!isBus(secondaryBus) || !isBus(subordinateBus)) {
    throw bridgeError(bridge, 'has bus numbers that are no integers below 256');
  }
  if (secondaryBus <= bus || subordinateBus < secondaryBus) {
    throw bridgeError(bridge, `has buses that do not lie behind its own bus ${bus}`);
  }
  return bridge;
};

const bridgeError = ({ rid, secondary, subordinate }: Bridge, what: string) =>
  refuse(
    'EINVAL',
    'machineFromDmar',
    'bridge-buses',
    `the bridge ${formatRid(rid)} (buses ${secondary} to ${subordinate}) ${what}`,
    { accepted: 'own bus < secondaryBus <= subordinateBus <= 255, ranges nested or apart' },
  );
