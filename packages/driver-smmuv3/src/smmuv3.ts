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
import { WithGuestQueues } from './guest-queues.ts';
import {
  type CacheOptions,
  type CmdqvGeometry,
  createSmmuHardware,
  type SmmuCapabilities,
  type SmmuHardware,
} from './hardware/index.ts';
import { bringUp, type UnitParts } from './host/bring-up.ts';
import { CmdqvHost } from './host/cmdqv.ts';
import { HW_INFO_TYPE_ARM_SMMUV3 } from './host/hw-info.ts';
import { checkReservedMemory, type ReservedMemory } from './host/reserved-regions.ts';
import { type HostOptions, SmmuUnit } from './host/unit.ts';
import { SmmuMigration } from './migration.ts';

/** What {@link smmuv3} takes. */
export interface SmmuOptions {
  /** Fields of the identification registers to change. */
  readonly capabilities?: SmmuCapabilities;
  /**
   * Command queues beside the unit that guests drive themselves (Tegra241's CMDQV); default: none.
   * The unit looks at them whenever a device sends something; see also `Cmdqv.poll`.
   */
  readonly cmdqv?: CmdqvGeometry;
  /** Sizes of the hardware's caches. */
  readonly caches?: CacheOptions;
  /** Watch for invalidations that are missing. */
  readonly sanitize?: boolean;
  /** Name of the driver; units are called after it; default `'arm-smmuv3'`. */
  readonly name?: string;
  /** Most memory that page tables may take, a multiple of 2 MiB; default and limit 4 GiB. */
  readonly maxTableBytes?: number;
  /** Memory that firmware reserved for some devices (RMR nodes of the IORT). */
  readonly rmrs?: readonly ReservedMemory[];
  /**
   * Firmware says that DMA through the unit snoops whatever the attributes (CANWBS of the IORT):
   * domains can then enforce cache coherency. Guests need it, or a stage 2 that forces write-back
   * memory (IDR3.FWB). Default false.
   */
  readonly canWbs?: boolean;
  /**
   * The host runs at EL2 with VHE, as Linux on CPUs that have it: its stage 1 is in the EL2-E2H stream
   * world where the unit has one (IDR0.HYP). Default false: NS-EL1.
   */
  readonly vhe?: boolean;
  /**
   * Nested HWPTs over a nest parent itself, without a vIOMMU; default true. Linux 7.3 has them
   * through vIOMMUs only.
   */
  readonly directNesting?: boolean;
  /**
   * All guests on one stage 2 share its VMID, and a stage 2 serves one unit, as in Linux 7.3;
   * default false: each guest has its own.
   */
  readonly linux73Vmid?: boolean;
  /**
   * Count a guest's commands before a bad one as done without executing them, as Linux 7.3; default
   * false: they are executed.
   */
  readonly linux73Invalidation?: boolean;
  /**
   * Answer every page request group with a failure, as Linux 7.3; default false: fault queues get
   * them.
   */
  readonly linux73Pri?: boolean;
  /**
   * StreamIDs of devices whose transactions can wait, as firmware says (IORT, named components), on
   * a unit that leaves stalling to software (IDR0.STALL_MODEL 0); default none.
   */
  readonly stallSids?: Iterable<number>;
}

/** A unit of this driver: the host half, and for tools the hardware below it. */
export class SmmuIommuUnit extends SmmuUnit {
  /** Registers and caches, `explain`, the sanitizer. */
  readonly hardware: SmmuHardware;
  /**
   * Absent with a CMDQV: such a unit is made again by calls, and guests' queues go on by the page
   * that they are driven with.
   */
  readonly migration?: MigrationOps;

  /** Made by the driver {@link smmuv3} returns. */
  constructor(
    hardware: SmmuHardware,
    driver: IommuDriver,
    agent: TranslationAgent,
    parts: UnitParts,
    pool: PageTablePool,
    options: HostOptions,
  ) {
    super(driver, agent, parts, pool, options);
    this.hardware = hardware;
    if (!hardware.cmdqv) this.migration = new SmmuMigration(hardware, { unit: this, parts, pool });
  }
}

/**
 * Arm SMMUv3.
 *
 * @throws {IommuError} EINVAL for a malformed RMR; `create` throws RangeError for features that are
 *   not modelled, ENODEV for a unit without the 4K granule or MSI, ENOMEM
 */
export const smmuv3 = (options: SmmuOptions = {}): IommuDriver => {
  checkReservedMemory(options.rmrs ?? []);
  const driver: IommuDriver = defineDriver({
    apiVersion: DRIVER_API_VERSION,
    name: options.name ?? 'arm-smmuv3',
    hwInfoType: HW_INFO_TYPE_ARM_SMMUV3,
    create: (host) => createUnit(driver, host, options),
  });
  return driver;
};

const createUnit = (driver: IommuDriver, host: UnitHost, options: SmmuOptions): IommuUnit => {
  const { machine } = host;
  const hardware = createSmmuHardware({
    memory: machine.memory,
    bus: machine,
    ...(options.capabilities && { capabilities: options.capabilities }),
    ...(options.cmdqv && { cmdqv: options.cmdqv }),
    ...(options.caches && { caches: options.caches }),
    ...(options.sanitize && { sanitize: true }),
  });
  const parts = bringUp(hardware, host, {
    name: `${driver.name}${machine.units.length}`,
    canWbs: options.canWbs ?? false,
    linux73Pri: options.linux73Pri ?? false,
    vhe: options.vhe ?? false,
  });
  const pool = createPoolIn(machine.memory, parts.context.caps.oaBits, options.maxTableBytes);
  const cmdqv = hardware.cmdqv && new CmdqvHost(hardware.cmdqv);
  if (hardware.cmdqv) hardware.cmdqv.onInterrupt = () => cmdqv?.service();
  const agent = hardware.cmdqv ? new WithGuestQueues(hardware, hardware.cmdqv) : hardware;
  return new SmmuIommuUnit(hardware, driver, agent, parts, pool, {
    cmdqv,
    rmrs: options.rmrs ?? [],
    stallSids: new Set(options.stallSids ?? []),
    directNesting: options.directNesting ?? true,
    linux73Vmid: options.linux73Vmid ?? false,
    linux73Invalidation: options.linux73Invalidation ?? false,
  });
};
