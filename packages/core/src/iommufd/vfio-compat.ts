/**
 * The VFIO container calls on an iommufd: TYPE1 and TYPE1v2 over one IOAS.
 *
 * @linux drivers/iommu/iommufd/vfio_compat.c
 * @module
 */
import { hex } from '@iommukit/bits';
import { type IommuError, isIommuError, refuse } from '../errors.ts';
import { cutAreas, IOPT_PROT } from '../iopt/index.ts';
import { ACCOUNT, type Process } from '../memory/index.ts';
import { VFIO_EXTENSION, VFIO_IOCTL } from '../uapi/constants.ts';
import { copyFromUser, copyToUser } from '../uapi/user-access.ts';
import { Call } from './call.ts';
import type { IommufdContext } from './context.ts';
import { Ioas } from './ioas.ts';
import { vfioGetInfo } from './vfio-info.ts';

const API_VERSION = 0;
const MAP_BYTES = 32;
const UNMAP_BYTES = 24;
const MAP_FLAGS = 3;
const UNMAP_FLAG_ALL = 2;

/**
 * The IOAS of container calls; made when a group first joins. It is an ordinary object that
 * `IOMMU_VFIO_IOAS` GET names.
 *
 * @throws {IommuError} ENOMEM
 */
export const compatIoasFor = (context: IommufdContext, op: string): Ioas => {
  if (context.vfioIoas) return context.vfioIoas;
  const ioas = new Ioas(context, context.objects.reserve(op));
  context.objects.install(ioas);
  context.vfioIoas = ioas;
  return ioas;
};

/** Result of a call, with the refusal behind a negative one. */
interface VfioResult {
  readonly result: number;
  readonly refusal?: IommuError;
}

type VfioFunction = (call: Call, argument: number | bigint) => number;

/** Serve one VFIO call; numbers that iommufd does not emulate are ENOTTY. */
export const vfioIoctl = (
  context: IommufdContext,
  process: Process,
  request: number,
  argument: number | bigint,
): VfioResult => {
  const known = FUNCTIONS[request];
  if (!known) {
    const refusal = refuse('ENOTTY', `ioctl ${hex(request)}`, 'request-code', 'no such ioctl', {
      value: request,
      accepted: '0x3b80 to 0x3b95, and the container calls of VFIO type1',
    });
    return { result: -refusal.errno, refusal };
  }
  const [name, serve] = known;
  try {
    return { result: serve(new Call(context, process, name), argument) };
  } catch (error) {
    if (!isIommuError(error)) throw error;
    return { result: -error.errno, refusal: error };
  }
};

const checkExtension: VfioFunction = (call, argument) => {
  switch (Number(argument)) {
    case VFIO_EXTENSION.TYPE1_IOMMU:
    case VFIO_EXTENSION.TYPE1v2_IOMMU:
    case VFIO_EXTENSION.UNMAP_ALL:
      return call.context.noiommu ? 0 : 1;
    case VFIO_EXTENSION.NOIOMMU_IOMMU:
      return call.context.noiommu ? 1 : 0;
    case VFIO_EXTENSION.DMA_CC_IOMMU: {
      const { hwpts } = call.context.compatIoas(call.op);
      return hwpts.every(({ enforceCacheCoherency }) => enforceCacheCoherency) ? 1 : 0;
    }
    default:
      return 0;
  }
};

const setIommu: VfioFunction = (call, argument) => {
  const { context, process } = call;
  const type = Number(argument);
  if (type === VFIO_EXTENSION.NOIOMMU_IOMMU && context.noiommu) {
    if (process.capabilities.has('CAP_SYS_RAWIO')) return 0;
    throw call.refuse('EPERM', 'capability', 'VFIO without IOMMU needs CAP_SYS_RAWIO');
  }
  const isType1 = type === VFIO_EXTENSION.TYPE1_IOMMU;
  if ((!isType1 && type !== VFIO_EXTENSION.TYPE1v2_IOMMU) || context.noiommu) {
    throw call.refuse('EINVAL', 'vfio-iommu-type', `IOMMU type ${type} is not emulated`, {
      value: type,
      accepted: 'TYPE1 1, TYPE1v2 3',
    });
  }
  const ioas = context.compatIoas(call.op);
  if (isType1) ioas.disableLargePages(call.op);
  return 0;
};

const efault = (call: Call) =>
  call.refuse('EFAULT', 'user-memory', 'the struct cannot be accessed', {
    accepted: 'mapped memory',
  });

const badArguments = (call: Call, argsz: number, flags: number, accepted: string) =>
  call.refuse('EINVAL', 'vfio-arguments', `argsz ${argsz} or flags ${flags} are bad`, {
    value: flags,
    accepted,
  });

const readStruct = (call: Call, argument: number | bigint, size: number): DataView => {
  const bytes = new Uint8Array(size);
  if (!copyFromUser(call.process, argument, 0, bytes)) throw efault(call);
  return new DataView(bytes.buffer);
};

const mapDma: VfioFunction = (call, argument) => {
  const map = readStruct(call, argument, MAP_BYTES);
  const argsz = map.getUint32(0, true);
  const flags = map.getUint32(4, true);
  if (argsz < MAP_BYTES || flags & ~MAP_FLAGS) {
    throw badArguments(call, argsz, flags, `argsz at least ${MAP_BYTES}, flags READ 1, WRITE 2`);
  }
  const ioas = call.context.compatIoas(call.op);
  ioas.iopt.mapUser({
    process: call.process,
    userVa: map.getBigUint64(8, true),
    iova: map.getBigUint64(16, true),
    length: map.getBigUint64(24, true),
    prot: (flags & 1 ? IOPT_PROT.READ : 0) | (flags & 2 ? IOPT_PROT.WRITE : 0),
    accountMode: call.context.accountPerProcess ? ACCOUNT.MM : ACCOUNT.USER,
    op: call.op,
  });
  return 0;
};

const unmapDma: VfioFunction = (call, argument) => {
  const unmap = readStruct(call, argument, UNMAP_BYTES);
  const argsz = unmap.getUint32(0, true);
  const flags = unmap.getUint32(4, true);
  if (argsz < UNMAP_BYTES || flags & ~UNMAP_FLAG_ALL) {
    throw badArguments(call, argsz, flags, `argsz at least ${UNMAP_BYTES}, flag ALL 2`);
  }
  const { iopt } = call.context.compatIoas(call.op);
  const iova = unmap.getBigUint64(8, true);
  const size = unmap.getBigUint64(16, true);
  const all = (flags & UNMAP_FLAG_ALL) !== 0;
  if (all && (iova !== 0n || size !== 0n)) {
    throw badArguments(call, argsz, flags, 'iova and size 0 with the flag ALL');
  }
  if (!all && !iopt.largePages) cutAreas(iopt, cutPoints(iova, size), call.op);
  let failure: unknown;
  iopt.lastUnmappedBytes = 0;
  try {
    if (all) iopt.unmapAll(call.op);
    else iopt.unmap(iova, size, call.op);
  } catch (error) {
    if (!isNothingMapped(error, iopt.lastUnmappedBytes)) failure = error;
  }
  unmap.setBigUint64(16, BigInt(iopt.lastUnmappedBytes), true);
  const bytes = new Uint8Array(unmap.buffer);
  if (!copyToUser(call.process, argument, 0, bytes)) throw efault(call);
  if (failure) throw failure;
  return 0;
};

/** Type1 (v1) may unmap parts: cut at the last byte of the range, and in front of the first. */
const cutPoints = (iova: bigint, size: bigint): bigint[] => {
  const last = (iova + size - 1n) & U64_MASK;
  return iova === 0n ? [last] : [last, iova - 1n];
};

const U64_MASK = (1n << 64n) - 1n;

/** An empty range is no error here. */
const isNothingMapped = (error: unknown, unmapped: number | bigint): boolean =>
  isIommuError(error) && error.reason.rule === 'iova-not-mapped' && Number(unmapped) === 0;

/** Calls by number. */
const FUNCTIONS: Readonly<Record<number, readonly [string, VfioFunction]>> = {
  [VFIO_IOCTL.GET_API_VERSION]: ['VFIO_GET_API_VERSION', () => API_VERSION],
  [VFIO_IOCTL.CHECK_EXTENSION]: ['VFIO_CHECK_EXTENSION', checkExtension],
  [VFIO_IOCTL.SET_IOMMU]: ['VFIO_SET_IOMMU', setIommu],
  [VFIO_IOCTL.IOMMU_GET_INFO]: ['VFIO_IOMMU_GET_INFO', vfioGetInfo],
  [VFIO_IOCTL.IOMMU_MAP_DMA]: ['VFIO_IOMMU_MAP_DMA', mapDma],
  [VFIO_IOCTL.IOMMU_UNMAP_DMA]: ['VFIO_IOMMU_UNMAP_DMA', unmapDma],
};
