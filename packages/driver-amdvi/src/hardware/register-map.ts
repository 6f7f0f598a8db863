/**
 * Which registers a unit has, and which bits of Control, by its features.
 *
 * @spec AMD IOMMU 3.4 (MMIO registers)
 */
import type { Register } from '@iommukit/bits';
import { decode } from '@iommukit/bits';
import * as spec from '../spec/registers.ts';
import { CONTROL, EFR, EFR2 } from '../spec/registers.ts';
import type { Features } from './capabilities.ts';

/** Device table bases, segment 0 first. */
export const SEGMENTS: readonly (typeof spec.DEV_TAB_BASE)[] = [
  spec.DEV_TAB_BASE,
  ...spec.DEV_TAB_SEGMENTS,
];

/** Registers that every unit has. */
const ALWAYS: readonly Register[] = [
  ...SEGMENTS,
  spec.CMD_BUF_BASE,
  spec.EVENT_LOG_BASE,
  spec.CONTROL,
  spec.EXCL_BASE,
  spec.EXCL_LIMIT,
  spec.EFR,
  spec.EFR2,
  spec.CMD_BUF_HEAD,
  spec.CMD_BUF_TAIL,
  spec.EVENT_LOG_HEAD,
  spec.EVENT_LOG_TAIL,
  spec.STATUS,
  ...spec.DEVICE_SPECIFIC,
];

const MSI = [spec.MSI_CAP, spec.MSI_ADDR_LO, spec.MSI_ADDR_HI, spec.MSI_DATA];
const HARDWARE_EVENTS = [spec.HW_EVENT_HI, spec.HW_EVENT_LO, spec.HW_EVENT_STATUS];
const PPR_LOG = [spec.PPR_LOG_BASE, spec.PPR_LOG_HEAD, spec.PPR_LOG_TAIL];
const PPR_LOG_B = [spec.PPR_LOG_B_BASE, spec.PPR_LOG_B_HEAD, spec.PPR_LOG_B_TAIL];
const EVENT_LOG_B = [spec.EVENT_LOG_B_BASE, spec.EVENT_LOG_B_HEAD, spec.EVENT_LOG_B_TAIL];
const EARLY = [spec.PPR_OVERFLOW_EARLY, spec.PPR_OVERFLOW_EARLY_B];
const GA_LOG = [spec.GA_LOG_BASE, spec.GA_LOG_TAIL_ADDR, spec.GA_LOG_HEAD, spec.GA_LOG_TAIL];
const XT = [spec.XT_INT, spec.XT_PPR_INT, spec.XT_GA_INT];

/** Every register that this model knows. */
export const ALL_REGISTERS: readonly Register[] = [
  ...ALWAYS,
  ...MSI,
  ...HARDWARE_EVENTS,
  ...PPR_LOG,
  ...PPR_LOG_B,
  ...EVENT_LOG_B,
  spec.PPR_AUTO_RESPONSE,
  ...EARLY,
  ...GA_LOG,
  ...XT,
  ...spec.SMI_FILTERS,
  ...spec.MARCS,
  spec.PERF_OPT,
  spec.COUNTER_CONFIG,
  spec.VIOMMU_STATUS,
];

/** The registers that software of a unit sees; elsewhere it reads 0. */
export const registersOf = (features: Features): readonly Register[] => {
  const efr = decode(EFR, [features.efrLo, features.efrHi]);
  const when = (present: boolean, registers: readonly Register[]) => (present ? registers : []);
  return [
    ...ALWAYS,
    ...when(features.msiInMmio, MSI),
    ...when(features.hardwareErrors, HARDWARE_EVENTS),
    ...when(features.pageRequests, PPR_LOG),
    ...when(features.pageRequests && features.dualPprLog !== 0, PPR_LOG_B),
    ...when(features.dualEventLog !== 0, EVENT_LOG_B),
    ...when(features.pprAutoResponse, [spec.PPR_AUTO_RESPONSE]),
    ...when(features.pprOverflowEarly, EARLY),
    ...when(features.guestApic, GA_LOG),
    ...when(features.x2apic, XT),
    ...spec.SMI_FILTERS.slice(0, features.smiFilters),
    ...when(features.marcs, spec.MARCS),
    ...when(efr.PERF_OPT_SUP === 1, [spec.PERF_OPT]),
    ...when(efr.PC_SUP === 1, [spec.COUNTER_CONFIG]),
    ...when(features.vIommu, [spec.VIOMMU_STATUS]),
  ];
};

type ControlField = keyof typeof CONTROL.fields;

/** Control fields of features, with the EFR field that announces each. */
const OF_EFR: Readonly<Partial<Record<ControlField, keyof typeof EFR.fields>>> = {
  PPR_LOG_EN: 'PPR_SUP',
  PPR_INT_EN: 'PPR_SUP',
  PPR_EN: 'PPR_SUP',
  GT_EN: 'GT_SUP',
  GA_EN: 'GA_SUP',
  SMI_F_EN: 'SMI_F_SUP',
  SMI_F_LOG_EN: 'SMI_F_SUP',
  GAM_EN: 'GA_SUP',
  GA_LOG_EN: 'GA_SUP',
  GA_INT_EN: 'GA_SUP',
  IRT_CACHE_DIS: 'GA_SUP',
  DUAL_PPR_LOG_EN: 'DUAL_PPR_LOG_SUP',
  DUAL_EVENT_LOG_EN: 'DUAL_EVENT_LOG_SUP',
  PRIV_ABRT_EN: 'US_SUP',
  PPR_AUTO_RSP_EN: 'PPR_AUTO_RSP_SUP',
  PPR_AUTO_RSP_AON: 'PPR_AUTO_RSP_SUP',
  MARC_EN: 'MARC_SUP',
  BLK_STOP_MRK_EN: 'BLK_STOP_MRK_SUP',
  EPH_EN: 'EPH_SUP',
  HAD_UPDATE: 'HA_SUP',
  GD_UPDATE_DIS: 'V2_HD_DIS_SUP',
  XT_EN: 'XT_SUP',
  INT_CAP_XT_EN: 'XT_SUP',
  V_CMD_EN: 'VIOMMU_SUP',
  V_IOMMU_EN: 'VIOMMU_SUP',
  GST_BUFFER_TRP_MODE: 'VIOMMU_SUP',
  GA_UPDATE_DIS: 'GA_UPDATE_DIS_SUP',
  GAPPI_EN: 'GAPPI_SUP',
};

/** The same for EFR2. */
const OF_EFR2: Readonly<Partial<Record<ControlField, keyof typeof EFR2.fields>>> = {
  NUM_INT_REMAP_MODE: 'NUM_INT_REMAP_SUP',
  TMPM_EN: 'TMPM_SUP',
  GCR3_TRP_MODE: 'GCR3_TRP_MODE_SUP',
  SNP_AVIC_EN: 'SNP_AVIC_SUP',
};

/** Bits of Control that read back 0, low and high dword. */
export const absentControl = (features: Features): readonly [lo: number, hi: number] => {
  const efr: Readonly<Record<string, unknown>> = decode(EFR, [features.efrLo, features.efrHi]);
  const efr2: Readonly<Record<string, unknown>> = decode(EFR2, [features.efr2Lo, features.efr2Hi]);
  let lo = 0;
  let hi = 0;
  const drop = (field: string) => {
    const { masks } = CONTROL.fields[field as ControlField];
    lo |= masks[0] as number;
    hi |= masks[1] as number;
  };
  for (const [field, by] of Object.entries(OF_EFR)) if (efr[by] === 0) drop(field);
  for (const [field, by] of Object.entries(OF_EFR2)) if (efr2[by] === 0) drop(field);
  return [lo, hi];
};
