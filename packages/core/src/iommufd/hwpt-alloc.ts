/**
 * `IOMMU_HWPT_ALLOC` in its three forms: over an IOAS, over a paging parent, over a vIOMMU.
 *
 * @linux drivers/iommu/iommufd/hw_pagetable.c
 * @module
 */
import type { NestedDomain } from '../driver/domains.ts';
import { refuse } from '../errors.ts';
import { checkAllocation } from '../memory/index.ts';
import { HW_CAP, HWPT_ALLOC } from '../uapi/constants.ts';
import type { IommuCommand } from '../uapi/structs.ts';
import type { Call } from './call.ts';
import { enforceCoherency, isSameVendor } from './coherency.ts';
import type { IommufdDevice } from './device.ts';
import { abortHwpt, type DriverRequest, type Hwpt, HwptNested, HwptPaging } from './hwpt.ts';
import { Ioas } from './ioas.ts';
import { RememberedBlob, userBlob } from './user-data.ts';
import { Viommu } from './viommu.ts';

const PAGING_FLAGS =
  HWPT_ALLOC.NEST_PARENT | HWPT_ALLOC.DIRTY_TRACKING | HWPT_ALLOC.FAULT_ID_VALID | HWPT_ALLOC.PASID;
const NESTED_FLAGS = HWPT_ALLOC.FAULT_ID_VALID | HWPT_ALLOC.PASID;

/** What a paging HWPT is asked to be. */
export interface PagingHwptRequest {
  /** Sum of `HWPT_ALLOC` bits. */
  readonly flags: number;
  readonly userData?: RememberedBlob | undefined;
}

/** Runs once the domain exists and before the IOAS fills it; returns how to take that back. */
type BeforeFill = (hwpt: HwptPaging) => () => void;

/**
 * Make a paging HWPT over an IOAS. It is not visible under its id yet.
 *
 * @throws {IommuError} EOPNOTSUPP for flags; what the driver throws; what the IOAS throws when the
 *   domain does not fit its mappings (EADDRINUSE, EINVAL, EFAULT, ENOMEM)
 */
export const allocPagingHwpt = (
  op: string,
  device: IommufdDevice,
  ioas: Ioas,
  request: PagingHwptRequest,
  beforeFill?: BeforeFill,
): HwptPaging => {
  checkPagingFlags(op, device, request.flags);
  const { objects } = device.context;
  const hwpt = objects.reserveFor(op, (id) => makeDomain(op, device, id, ioas, request));
  let undo: (() => void) | undefined;
  try {
    undo = beforeFill?.(hwpt);
    ioas.addHwpt(op, hwpt);
  } catch (error) {
    undo?.();
    hwpt.users = 0;
    abortHwpt(hwpt);
    throw error;
  }
  return hwpt;
};

const makeDomain = (
  op: string,
  device: IommufdDevice,
  id: number,
  ioas: Ioas,
  { flags, userData }: PagingHwptRequest,
): HwptPaging => {
  checkAllocation(device.context.machine.memory, op, 'a domain');
  const domain = device.unit.allocPaging(device.device, {
    flags: driverFlags(flags),
    userData,
  });
  const coherent = enforceCoherency(op, device.unit, ioas, domain);
  const hwpt = new HwptPaging(id, ioas, domain, {
    nestParent: (flags & HWPT_ALLOC.NEST_PARENT) !== 0,
    pasid: (flags & HWPT_ALLOC.PASID) !== 0,
    origin: { device: device.device, flags: driverFlags(flags), userData },
  });
  hwpt.enforceCacheCoherency = coherent;
  return hwpt;
};

const checkPagingFlags = (op: string, device: IommufdDevice, flags: number): void => {
  const unsupported = (rule: string, message: string, accepted: string) =>
    refuse('EOPNOTSUPP', op, rule, message, { value: flags, accepted });
  if (flags & ~PAGING_FLAGS) {
    throw unsupported('unknown-flags', 'unknown HWPT flags', `bits of 0x${PAGING_FLAGS}`);
  }
  const canTrack = device.unit.hwCapabilities(device.device) & HW_CAP.DIRTY_TRACKING;
  if (flags & HWPT_ALLOC.DIRTY_TRACKING && !canTrack) {
    throw unsupported('dirty-capability', `${device.device.name} tracks no dirty pages`, 'no flag');
  }
  if (flags & HWPT_ALLOC.FAULT_ID_VALID && flags & HWPT_ALLOC.NEST_PARENT) {
    throw unsupported('fault-parent', 'a nest parent takes no fault queue', 'one of the two flags');
  }
};

/** Make a nested HWPT over a paging parent. */
const allocNestedHwpt = (
  call: Call,
  device: IommufdDevice,
  parent: HwptPaging,
  flags: number,
  userData: RememberedBlob | undefined,
): HwptNested => {
  const { nesting } = device.unit;
  if (flags & ~NESTED_FLAGS || !userData || !nesting) {
    throw nestedUnsupported(call, device, flags, userData, nesting !== undefined);
  }
  const sameVendor = isSameVendor(parent.domain.unit.driver, device.unit.driver);
  if (parent.autoDomain || !parent.nestParent || !sameVendor) {
    throw call.refuse('EINVAL', 'nest-parent', `HWPT ${parent.id} cannot be a parent`, {
      value: parent.id,
      accepted: 'a HWPT of the same driver, allocated with IOMMU_HWPT_ALLOC_NEST_PARENT',
    });
  }
  const origin = { device: device.device, flags: driverFlags(flags), userData };
  return makeNested(call, parent, undefined, origin, () =>
    nesting.allocNested(device.device, parent.domain, driverFlags(flags), userData),
  );
};

/** Make a nested HWPT over a vIOMMU. */
const allocViommuHwpt = (
  call: Call,
  device: IommufdDevice,
  viommu: Viommu,
  flags: number,
  userData: RememberedBlob | undefined,
): HwptNested => {
  if (device.unit !== viommu.unit) {
    throw call.refuse('EINVAL', 'viommu-device', `${device.device.name} is behind another IOMMU`, {
      value: device.id,
      owner: viommu.unit.name,
      accepted: `a device behind ${viommu.unit.name}`,
    });
  }
  const allocNested = viommu.backend.allocNested?.bind(viommu.backend);
  if (flags & ~NESTED_FLAGS || !userData || !allocNested) {
    throw nestedUnsupported(call, device, flags, userData, allocNested !== undefined);
  }
  const origin = { device: device.device, flags: driverFlags(flags), userData };
  return makeNested(call, viommu.hwpt, viommu, origin, () =>
    allocNested(device.device, driverFlags(flags), userData),
  );
};

const driverFlags = (flags: number): number => flags & ~HWPT_ALLOC.FAULT_ID_VALID;

const makeNested = (
  call: Call,
  parent: HwptPaging,
  viommu: Viommu | undefined,
  origin: DriverRequest,
  alloc: () => NestedDomain,
): HwptNested =>
  call.context.objects.reserveFor(call.op, (id) => {
    call.checkAllocation('a domain');
    const pasid = (origin.flags & HWPT_ALLOC.PASID) !== 0;
    return new HwptNested(id, parent, viommu, alloc(), pasid, origin);
  });

const nestedUnsupported = (
  call: Call,
  device: IommufdDevice,
  flags: number,
  userData: RememberedBlob | undefined,
  offered: boolean,
) => {
  const message = !offered
    ? `${device.unit.name} nests no tables here`
    : userData
      ? 'a nested HWPT takes no such flags'
      : 'a nested HWPT needs vendor data';
  return call.refuse('EOPNOTSUPP', 'nested-hwpt', message, {
    value: flags,
    accepted: `flags of 0x${NESTED_FLAGS.toString(16)}, with data of the driver's type`,
  });
};

/** `IOMMU_HWPT_ALLOC`. */
export const hwptAlloc = (call: Call, command: IommuCommand<'IOMMU_HWPT_ALLOC'>): void => {
  call.checkReserved(command.reserved);
  const { context } = call;
  if ((command.dataType === 0) !== (command.dataLen === 0)) {
    throw call.refuse('EINVAL', 'data-length', 'vendor data has a type without length, or both', {
      value: command.dataLen,
      accepted: 'data_type and data_len both 0, or both not',
    });
  }
  const device = context.find(call.op, command.devId, 'DEVICE');
  const userData =
    command.dataType === 0
      ? undefined
      : new RememberedBlob(userBlob(call, command.dataUptr, command.dataType, command.dataLen));
  const hwpt = allocOver(call, device, command, userData);
  try {
    if (command.flags & HWPT_ALLOC.FAULT_ID_VALID) {
      hwpt.fault = context.find(call.op, command.faultId, 'FAULT');
      hwpt.fault.users++;
    }
  } catch (error) {
    abortHwpt(hwpt);
    throw error;
  }
  context.objects.install(hwpt);
  command.outHwptId = hwpt.id;
  call.undo = () => context.destroyObject(hwpt);
};

/** What the new HWPT stands on decides its form. */
const allocOver = (
  call: Call,
  device: IommufdDevice,
  { ptId, flags }: IommuCommand<'IOMMU_HWPT_ALLOC'>,
  userData: RememberedBlob | undefined,
): Hwpt => {
  const target = call.context.objects.get(ptId);
  if (target instanceof Ioas) {
    return allocPagingHwpt(call.op, device, target, { flags, userData });
  }
  if (target instanceof HwptPaging) return allocNestedHwpt(call, device, target, flags, userData);
  if (target instanceof Viommu) return allocViommuHwpt(call, device, target, flags, userData);
  throw call.refuse(
    'EINVAL',
    'hwpt-parent',
    target ? `object ${ptId} is a ${target.kind}` : `no object ${ptId}`,
    { value: ptId, accepted: 'the id of an IOAS, of a nest parent HWPT or of a vIOMMU' },
  );
};
