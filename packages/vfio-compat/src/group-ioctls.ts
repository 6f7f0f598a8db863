/**
 * The raw calls of a VFIO group.
 *
 * @linux drivers/vfio/group.c vfio_group_fops_unl_ioctl
 * @module
 */
import type { Process, UserPointer } from '@iommukit/core';
import { VfioCall } from './call.ts';
import type { VfioGroupFile } from './group.ts';
import { VFIO_GROUP_IOCTL } from './uapi/constants.ts';
import { encode } from './uapi/struct.ts';
import { VFIO_STRUCTS } from './uapi/structs.ts';

/** Longest device name that GET_DEVICE_FD reads, bytes with the terminating 0. */
const NAME_BYTES_MAX = 4096;

type RawFunction = (call: VfioCall, group: VfioGroupFile, argument: UserPointer) => number;

const getStatus: RawFunction = (call, group, argument) => {
  const { argsz } = call.readStruct(VFIO_STRUCTS.group_status, argument);
  const { flags } = group.getStatus();
  call.copyOut(argument, 0, encode(VFIO_STRUCTS.group_status, { argsz, flags }));
  return 0;
};

const setContainer: RawFunction = (call, group, argument) => {
  const { fd } = call.readStruct(VFIO_STRUCTS.container_fd, argument);
  group.setContainer(fd, call.process);
  return 0;
};

const unsetContainer: RawFunction = (call, group) => {
  group.unsetContainer(call.process);
  return 0;
};

const getDeviceFd: RawFunction = (call, group, argument) =>
  group.getDeviceFd(readName(call, argument), call.process).fd;

/** Calls by number. */
const IOCTLS: Readonly<Record<number, readonly [string, RawFunction]>> = {
  [VFIO_GROUP_IOCTL.GET_STATUS]: ['VFIO_GROUP_GET_STATUS', getStatus],
  [VFIO_GROUP_IOCTL.SET_CONTAINER]: ['VFIO_GROUP_SET_CONTAINER', setContainer],
  [VFIO_GROUP_IOCTL.UNSET_CONTAINER]: ['VFIO_GROUP_UNSET_CONTAINER', unsetContainer],
  [VFIO_GROUP_IOCTL.GET_DEVICE_FD]: ['VFIO_GROUP_GET_DEVICE_FD', getDeviceFd],
};

/**
 * Serve one raw call.
 *
 * @throws {IommuError} what the call says; ENOTTY for a number that groups do not have
 */
export const serveGroup = (
  group: VfioGroupFile,
  process: Process,
  request: number,
  argument: UserPointer,
): number => {
  const known = IOCTLS[request];
  if (known) return known[1](new VfioCall(process, known[0]), group, argument);
  throw new VfioCall(process, 'VFIO group ioctl').refuse(
    'ENOTTY',
    'ioctl-number',
    'a VFIO group has no such call',
    { value: request, accepted: 'GET_STATUS, SET_CONTAINER, UNSET_CONTAINER, GET_DEVICE_FD' },
  );
};

/** @throws {IommuError} EFAULT; EINVAL without a terminating 0 in the first page of bytes */
const readName = (call: VfioCall, argument: UserPointer): string => {
  let name = '';
  for (let at = 0; at < NAME_BYTES_MAX; at++) {
    const [byte = 0] = call.copyIn(argument, at, 1);
    if (byte === 0) return name;
    name += String.fromCharCode(byte);
  }
  throw call.refuse('EINVAL', 'name-length', 'the device name does not end', {
    accepted: `at most ${NAME_BYTES_MAX - 1} bytes and a 0`,
  });
};
