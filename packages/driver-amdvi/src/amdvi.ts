/**
 * The driver: a hardware model wired to a machine, and the host half that runs it.
 */
import {
  DRIVER_API_VERSION,
  defineDriver,
  type IommuDriver,
  type IommuUnit,
  type TranslationAgent,
  type UnitHost,
} from '@iommukit/core';
import { createPoolIn, type PageTablePool } from '@iommukit/pgtable-fast';
import {
  type AmdviCapabilities,
  type AmdviHardware,
  type CacheOptions,
  createAmdviHardware,
  FULL_EFR,
  FULL_EFR2,
} from './hardware/index.ts';
import { bringUp, type UnitParts } from './host/bring-up.ts';
import { HW_INFO_TYPE_AMD } from './host/hw-info.ts';
import { checkUnityMaps, type UnityMap } from './host/reserved-regions.ts';
import { AmdviUnit, type HostOptions } from './host/unit.ts';

/** What {@link amdvi} takes. */
export interface AmdviOptions {
  /** Feature registers and capability header of the unit; default everything that is modelled. */
  readonly capabilities?: AmdviCapabilities;
  /** Width of physical addresses, which firmware announces; 40 to 52, default 48. */
  readonly hostAddressBits?: number;
  /** Paging domains without flags use guest (v2) tables where the unit has them; default false. */
  readonly guestTablesByDefault?: boolean;
  /**
   * Go no further than Linux 7.3: vIOMMUs offer no nested domains and no invalidation, and page
   * requests without PASID are answered with failure; default false.
   */
  readonly linux73?: boolean;
  /** Most memory that page tables may take, a multiple of 2 MiB; default and limit 4 GiB. */
  readonly maxTableBytes?: number;
  /** Sizes of the hardware's caches. */
  readonly caches?: CacheOptions;
  /** Memory that firmware wants mapped one to one for some devices. */
  readonly unityMaps?: readonly UnityMap[];
  /** Watch for invalidations that are missing. */
  readonly sanitize?: boolean;
  /** Name of the driver; units are called after it; default `'amd-vi'`. */
  readonly name?: string;
}

/** A unit of this driver: the host half, and for tools the hardware below it. */
export class AmdviIommuUnit extends AmdviUnit {
  /** Registers and caches. */
  readonly hardware: AmdviHardware;

  /** Made by the driver {@link amdvi} returns. */
  constructor(
    hardware: AmdviHardware,
    driver: IommuDriver,
    agent: TranslationAgent,
    parts: UnitParts,
    pool: PageTablePool,
    options: HostOptions,
  ) {
    super(driver, agent, parts, pool, options);
    this.hardware = hardware;
  }
}

/** A unit with all that the model has: what a user gets who asks for nothing special. */
const EVERYTHING: AmdviCapabilities = { efr: FULL_EFR, efr2: FULL_EFR2, iotlbSup: true };
const DEFAULT_HOST_ADDRESS_BITS = 48;
const SMALLEST_HOST_ADDRESS_BITS = 40;

/**
 * AMD-Vi.
 *
 * @throws {IommuError} EINVAL for a malformed unity map
 * @throws {RangeError} for an impossible address width; `create` throws RangeError for features
 *   that are not modelled, ENODEV, ENOMEM
 */
export const amdvi = (options: AmdviOptions = {}): IommuDriver => {
  const bits = options.hostAddressBits ?? DEFAULT_HOST_ADDRESS_BITS;
  if (!(bits >= SMALLEST_HOST_ADDRESS_BITS && bits <= 52 && Number.isInteger(bits))) {
    throw new RangeError(`hostAddressBits ${bits}: expected 40 to 52`);
  }
  checkUnityMaps(options.unityMaps ?? []);
  const driver: IommuDriver = defineDriver({
    apiVersion: DRIVER_API_VERSION,
    name: options.name ?? 'amd-vi',
    hwInfoType: HW_INFO_TYPE_AMD,
    create: (host) => createUnit(driver, host, options, bits),
  });
  return driver;
};

const createUnit = (
  driver: IommuDriver,
  host: UnitHost,
  options: AmdviOptions,
  hostAddressBits: number,
): IommuUnit => {
  const { machine } = host;
  const hardware = createAmdviHardware({
    memory: machine.memory,
    bus: machine,
    capabilities: options.capabilities ?? EVERYTHING,
    ...(options.caches && { caches: options.caches }),
    ...(options.sanitize && { sanitize: true }),
  });
  const pool = createPoolIn(machine.memory, hostAddressBits, options.maxTableBytes);
  const index = machine.units.length;
  const { iotlbSup, npCache } = hardware.features;
  const linux73 = options.linux73 ?? false;
  const parts = bringUp(hardware, host, {
    name: `${driver.name}${index}`,
    index,
    firmware: { hostAddressBits, iotlbSup, npCache },
    pasidPageRequestsOnly: linux73,
  });
  return new AmdviIommuUnit(hardware, driver, hardware, parts, pool, {
    guestTablesByDefault: options.guestTablesByDefault ?? false,
    emptyViommus: linux73,
    unityMaps: options.unityMaps ?? [],
  });
};
