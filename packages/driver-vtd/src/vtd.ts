/**
 * The driver: a hardware model wired to a machine, and the host half that runs it.
 */
import {
  DRIVER_API_VERSION,
  defineDriver,
  type IommuDriver,
  type IommuUnit,
  type MigrationOps,
  type TranslationAgent,
  type UnitHost,
} from '@iommukit/core';
import { createPoolIn, type PageTablePool } from '@iommukit/pgtable-fast';
import { WithoutTranslatedPasid } from './device-facing.ts';
import {
  createVtdHardware,
  type VtdCapabilities,
  type VtdHardware,
  type VtdSnapshot,
} from './hardware/index.ts';
import { bringUp, type UnitParts } from './host/bring-up.ts';
import { HW_INFO_TYPE_INTEL_VTD } from './host/hw-info.ts';
import { checkReservedMemory, type ReservedMemory } from './host/reserved-regions.ts';
import type { HostSnapshot } from './host/snapshot.ts';
import { stateFromBytes, stateToBytes } from './host/state-bytes.ts';
import { type HostOptions, VtdUnit } from './host/unit.ts';
import { MessageGate } from './message-gate.ts';
import { VtdMigration } from './migration.ts';

/** What {@link vtd} takes. */
export interface VtdOptions {
  /** Use scalable mode where the unit has it; default true. False: legacy context entries. */
  readonly scalable?: boolean;
  /** Paging domains that can be either use first-stage tables, as Linux prefers; default true. */
  readonly firstStageByDefault?: boolean;
  /** The unit's registers: fields to change, or raw values of a real machine. */
  readonly capabilities?: VtdCapabilities;
  /** Host address width in bits, which firmware announces; default 46, or MGAW if smaller. */
  readonly hostAddressBits?: number;
  /** Name of the driver; units are called after it; default `'intel-vtd'`. */
  readonly name?: string;
  /** Watch for invalidations that are missing. */
  readonly sanitize?: boolean;
  /** Refuse reserved bytes and unknown flags that Linux 7.3 ignores; default false. */
  readonly strictReserved?: boolean;
  /**
   * Behave as silicon with erratum 772415: a nest parent takes no read-only mapping, and hw_info
   * says so. Linux 7.3 does this on every unit; default true.
   */
  readonly erratum772415?: boolean;
  /** Most memory that page tables may take, a multiple of 2 MiB; default and limit 4 GiB. */
  readonly maxTableBytes?: number;
  /** Memory that firmware reserved for some devices. */
  readonly rmrrs?: readonly ReservedMemory[];
}

/** A unit of this driver: the host half, and for tools the hardware below it. */
export class VtdIommuUnit extends VtdUnit {
  /** Registers, counters, `explain`. */
  readonly hardware: VtdHardware;
  readonly migration: MigrationOps;

  /** Made by the driver {@link vtd} returns. */
  constructor(
    hardware: VtdHardware,
    driver: IommuDriver,
    agent: TranslationAgent,
    parts: UnitParts,
    pool: PageTablePool,
    options: HostOptions,
  ) {
    super(driver, agent, parts, pool, options);
    this.hardware = hardware;
    this.migration = new VtdMigration(hardware, { unit: this, parts, pool });
  }

  /**
   * Hardware, host half and all memory that belongs to them; the machine's other memory is not.
   *
   * @throws {IommuError} EOPNOTSUPP while a domain is shared with another unit
   */
  snapshot(): Uint8Array {
    const host = this.saveHost();
    return stateToBytes({ host, hardware: this.hardware.snapshot() });
  }

  /**
   * @throws {IommuError} EINVAL, with nothing changed, for bytes of another kind, when devices
   *   differ, or when domains were made or freed since
   */
  restore(bytes: Uint8Array): void {
    const state = stateFromBytes(bytes) as { host: HostSnapshot; hardware: VtdSnapshot };
    this.restoreHost(state.host);
    this.hardware.restore(state.hardware);
  }
}

/**
 * Intel VT-d.
 *
 * @throws {IommuError} EINVAL for a malformed RMRR; `create` throws ENODEV for a unit that cannot
 *   translate, ENOMEM, and RangeError for capabilities that contradict each other
 */
export const vtd = (options: VtdOptions = {}): IommuDriver => {
  checkReservedMemory(options.rmrrs ?? []);
  const driver: IommuDriver = defineDriver({
    apiVersion: DRIVER_API_VERSION,
    name: options.name ?? 'intel-vtd',
    hwInfoType: HW_INFO_TYPE_INTEL_VTD,
    create: (host) => createUnit(driver, host, options),
  });
  return driver;
};

const createUnit = (driver: IommuDriver, host: UnitHost, options: VtdOptions): IommuUnit => {
  const { memory, units } = host.machine;
  const gate = new MessageGate(host.machine);
  const hardware = createVtdHardware({
    memory,
    bus: gate,
    ...(options.capabilities && { capabilities: options.capabilities }),
    ...(options.hostAddressBits && { hostAddressWidthBits: options.hostAddressBits }),
    ...(options.sanitize && { sanitize: true }),
  });
  const { hawBits } = hardware.features;
  const pool = createPoolIn(memory, hawBits, options.maxTableBytes);
  const parts = bringUp(gate.registersOf(hardware), host, {
    name: `${driver.name}${units.length}`,
    index: units.length,
    scalable: options.scalable ?? true,
    hostAddressBits: hawBits,
  });
  const agent =
    parts.context.caps.ecap.PTRS === 1 ? hardware : new WithoutTranslatedPasid(hardware);
  return new VtdIommuUnit(hardware, driver, agent, parts, pool, {
    firstStageByDefault: options.firstStageByDefault ?? true,
    strictReserved: options.strictReserved ?? false,
    erratum772415: options.erratum772415 ?? true,
    rmrrs: options.rmrrs ?? [],
  });
};
