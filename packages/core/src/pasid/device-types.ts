/**
 * The eight kinds of device that the PASID policy knows, as data: what a guest sees of their PASIDs
 * and where the numbers on the wire come from. `v` is the guest's number (vPASID), `p` the one in
 * the device's requests (pPASID).
 * @module
 */

/** Kinds of device; a *pdev* is a whole function, an *mdev* a slice of one (its parent). */
export const PASID_DEVICE_TYPE = {
  /** Whole function without PASIDs. */
  PDEV_NO_PASID: 1,
  /** Slice made by software alone. */
  MDEV_SOFTWARE: 2,
  /** Slice with one PASID of its parent, unknown to the guest. */
  MDEV_DEFAULT_PASID: 3,
  /** Whole function; the guest owns the PASID table (Arm, AMD). */
  PDEV_USER_TABLE: 4,
  /** Whole function; the host owns the PASID table (Intel). */
  PDEV_KERNEL_TABLE: 5,
  /** Slice; entries go into the PASID table of the parent. */
  MDEV_PARENT_TABLE: 6,
  /** 5, and work arrives by ENQCMD: the CPU adds the PASID. */
  PDEV_ENQCMD: 7,
  /** 6, and work arrives by ENQCMD. */
  MDEV_ENQCMD: 8,
} as const;

/** One of {@link PASID_DEVICE_TYPE}. */
export type PasidDeviceType = (typeof PASID_DEVICE_TYPE)[keyof typeof PASID_DEVICE_TYPE];

/** What a guest's monitor is told of a device, one bit each. */
export const PASID_INFO = {
  /** The guest owns the PASID table. */
  DELEGATED: 1,
  /** The CPU puts the PASID into requests (ENQCMD). */
  CPU: 2,
  /** ... and must translate the guest's number on the way. */
  CPU_VIRT: 4,
} as const;

/** The policy of one kind. */
export interface PasidPolicy {
  readonly type: PasidDeviceType;
  /** Slice of a parent that the host drives. */
  readonly mediated: boolean;
  /** The guest picks PASIDs. */
  readonly vpasid: boolean;
  /** The guest owns the table: a PASID needs no call. */
  readonly delegated: boolean;
  /** p is v; otherwise it is another number. */
  readonly identity: boolean;
  /** Where p comes from: the parent's or own RID, or one number for every slice of the guest. */
  readonly pool: 'none' | 'rid' | 'global';
  /** Work arrives by ENQCMD. */
  readonly enqcmd: boolean;
  /** Sum of {@link PASID_INFO} bits. */
  readonly info: number;
}

type Shape = Omit<PasidPolicy, 'type' | 'info'>;

const NO_PASIDS: Shape = {
  mediated: false,
  vpasid: false,
  delegated: false,
  identity: false,
  pool: 'none',
  enqcmd: false,
};

const SHAPES: Readonly<Record<PasidDeviceType, Shape>> = {
  1: NO_PASIDS,
  2: { ...NO_PASIDS, mediated: true },
  3: { ...NO_PASIDS, mediated: true, pool: 'rid' },
  4: { ...NO_PASIDS, vpasid: true, delegated: true, identity: true, pool: 'rid' },
  5: { ...NO_PASIDS, vpasid: true, identity: true, pool: 'rid' },
  6: { ...NO_PASIDS, mediated: true, vpasid: true, pool: 'rid' },
  7: { ...NO_PASIDS, vpasid: true, identity: true, pool: 'rid', enqcmd: true },
  8: { ...NO_PASIDS, mediated: true, vpasid: true, pool: 'global', enqcmd: true },
};

const infoOf = ({ delegated, enqcmd, identity }: Shape): number =>
  (delegated ? PASID_INFO.DELEGATED : 0) |
  (enqcmd ? PASID_INFO.CPU : 0) |
  (enqcmd && !identity ? PASID_INFO.CPU_VIRT : 0);

/** The policy of a kind of device; undefined for a number that is none. */
export const pasidPolicy = (type: number): PasidPolicy | undefined => {
  const shape = SHAPES[type as PasidDeviceType];
  return shape && { type: type as PasidDeviceType, ...shape, info: infoOf(shape) };
};
